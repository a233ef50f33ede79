// A table that is wider than its column is set tighter; if that does not help, it becomes a stack of rows, each cell behind the
// name of its column.
// What still scrolls sideways says so, and can be scrolled by keys. Without scripts it only scrolls.
(() => {
  const BOXES = ".table-box, .pst-scrollable-table-container, .sideways, div.highlight pre";

  const [PHONE, FEW] = [500, 3];

  /** The name of each column: what stands over it, row of the head by row. */
  function heads(table) {
    const names = [];
    for (const row of table.tHead?.rows ?? []) {
      let column = 0;
      for (const cell of row.cells) {
        for (let n = 0; n < cell.colSpan; n += 1, column += 1) (names[column] ??= []).push(cell.textContent.trim());
      }
    }
    return names.map((parts) => parts.filter(Boolean).join(", "));
  }

  /** Give each cell the name of its column, and each row of a group a copy of the cell that stands for the group. */
  function prepare(table) {
    const names = heads(table);
    const spanning = [];
    for (const row of [...table.tBodies].flatMap((body) => [...body.rows])) {
      const own = [...row.cells];
      let place = 0;
      for (let column = 0; column < Math.max(names.length, 1); ) {
        const group = spanning[column];
        if (group?.left > 0) {
          group.left -= 1;
          const copy = group.cell.cloneNode(true);
          copy.removeAttribute("rowspan");
          copy.querySelectorAll("[id]").forEach((inner) => inner.removeAttribute("id"));
          copy.classList.add("repeated");
          copy.dataset.label = names[column] ?? "";
          row.insertBefore(copy, own[place] ?? null);
          column += 1;
        } else {
          const cell = own[(place += 1) - 1];
          if (!cell) break;
          if (cell.colSpan === 1) cell.dataset.label = names[column] ?? "";
          if (cell.rowSpan > 1) spanning[column] = { cell, left: cell.rowSpan - 1 };
          column += cell.colSpan;
        }
      }
    }
  }

  const tooWide = (box) => box.scrollWidth > box.clientWidth + 1;

  /** A stack has no columns for the eye; for screen readers it stays a table. */
  function stack(table, on) {
    table.classList.toggle("stacked", on);
    const roles = [[[table], "table"], [table.rows, "row"], [table.querySelectorAll("td"), "cell"], [table.querySelectorAll("tbody th"), "rowheader"], [table.querySelectorAll("thead th"), "columnheader"]];
    for (const [nodes, role] of roles) {
      for (const node of nodes) on ? node.setAttribute("role", role) : node.removeAttribute("role");
    }
  }

  function fit(box) {
    const table = box.querySelector(":scope > table");
    if (table) {
      stack(table, false);
      table.classList.remove("tight");
      // many columns in the width of a phone would be words of two letters
      if (tooWide(box) && (box.clientWidth > PHONE || heads(table).length <= FEW)) table.classList.add("tight");
      if (tooWide(box)) {
        table.classList.remove("tight");
        stack(table, true);
      }
    }
    const scrolls = tooWide(box);
    box.classList.toggle("scrolls", scrolls);
    if (scrolls) box.tabIndex = 0;
    else if (!box.matches("pre")) box.removeAttribute("tabindex");
  }

  function start() {
    // the theme's menu: a triangle is no name for what it opens
    for (const summary of document.querySelectorAll(".bd-docs-nav summary")) {
      summary.ariaLabel ??= `Pages below ${summary.closest("li")?.querySelector("a")?.textContent.trim() ?? ""}`;
    }
    const widths = new WeakMap();
    const observer = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        // a stack changes the height of its own box
        if (widths.get(target) === target.clientWidth) continue;
        widths.set(target, target.clientWidth);
        fit(target);
      }
    });
    for (const box of document.querySelectorAll(`.bd-article :is(${BOXES})`)) {
      const table = box.querySelector(":scope > table");
      if (table) prepare(table);
      observer.observe(box);
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
