// What the explorers share: reading their data, drawing in SVG, and redrawing when a control moves.

const ARRAYS = { float32: Float32Array, float64: Float64Array, uint8: Uint8Array };

/** Read an array that Python stored as {shape, type, bytes}. */
export function numbers({ type, bytes }) {
  // a view may begin anywhere in its buffer; a copy is aligned
  const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  return new ARRAYS[type](copy);
}

/** Add an SVG element to a parent. */
export function add(parent, name, attributes = {}, text = "") {
  const node = document.createElementNS(parent.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  parent.append(node);
  return node;
}

/** Map a range of numbers to a range of pixels, linearly or by the logarithm. */
export function scale([low, high], [from, to], log = false) {
  const f = log ? Math.log : (value) => value;
  return (value) => from + ((f(value) - f(low)) / (f(high) - f(low))) * (to - from);
}

/** Write a whole exponent above the line. */
export const raised = (exponent) => String(exponent).replace(/./g, (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]);

/** Write a number with so many significant digits, without an exponent where people would write none. */
export function short(value, digits = 3) {
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "no number" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-4) {
    const [factor, exponent] = value.toExponential(digits - 1).split("e");
    return `${factor}·10${raised(Number(exponent))}`;
  }
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

/**
 * Draw the frame of a panel: title, axes, ticks.
 *
 * box: {x, y, width, height} of the panel with everything around it, in pixels.
 * x, y: {range, log, ticks, label, write}; without ticks an axis has no line. The label of y stands above the axis.
 * Returns {group, over, x, y, inner}: where data and where words are drawn, the scales, and the box of the data.
 */
export function panel(parent, box, { x, y, left = 44 }) {
  const group = add(parent, "g");
  const inner = { left: box.x + left, right: box.x + box.width - 12, top: box.y + 24, bottom: box.y + box.height - 40 };
  const sx = scale(x.range, [inner.left, inner.right], x.log);
  const sy = scale(y.range, [inner.bottom, inner.top], y.log);
  add(group, "text", { x: box.x + 2, y: box.y + 13, class: "title" }, y.label);
  for (const at of y.ticks ?? []) {
    add(group, "line", { x1: inner.left, x2: inner.right, y1: sy(at), y2: sy(at), class: "grid" });
    add(group, "text", { x: inner.left - 6, y: sy(at) + 4, class: "tick end" }, (y.write ?? short)(at));
  }
  for (const at of x.ticks ?? []) {
    add(group, "line", { x1: sx(at), x2: sx(at), y1: inner.bottom, y2: inner.bottom + 4, class: "axis" });
    add(group, "text", { x: sx(at), y: inner.bottom + 17, class: "tick middle" }, (x.write ?? short)(at));
  }
  if (x.ticks) add(group, "line", { x1: inner.left, x2: inner.right, y1: inner.bottom, y2: inner.bottom, class: "axis" });
  const middle = (inner.left + inner.right) / 2;
  if (x.label) add(group, "text", { x: middle, y: inner.bottom + (x.ticks ? 34 : 18), class: "label middle" }, x.label);
  // the data are cut off a little outside the axes, what is written over them is not
  const cut = { x: inner.left - 9, y: inner.top - 9, width: inner.right - inner.left + 18, height: inner.bottom - inner.top + 18 };
  const view = `${cut.x} ${cut.y} ${cut.width} ${cut.height}`;
  return { group: add(group, "svg", { ...cut, viewBox: view, class: "cut" }), over: group, x: sx, y: sy, inner };
}

/** Where points of a panel are, in pixels; what is nowhere is left out. */
const onPaper = (panel, points) => points.map(([x, y]) => [panel.x(x), panel.y(y)]).filter((place) => place.every(Number.isFinite));

/** Draw a line through [[x, y], …] of a panel; a point that is not finite is left out. */
export function line(panel, points, colour, attributes = {}) {
  const seen = onPaper(panel, points);
  const d = seen.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");
  return seen.length ? add(panel.group, "path", { d: `M${d}`, class: "line", stroke: colour, "stroke-width": 2, ...attributes }) : null;
}

/** Draw all points [[x, y], …] as one element of dots or crosses: a thousand of them cost one node. */
export function marks(panel, points, colour, { shape = "dot", size = 2.5, ...attributes } = {}) {
  const s = size.toFixed(1);
  const d = onPaper(panel, points).map((place) => {
    const [x, y] = place.map((v) => v.toFixed(1));
    if (shape === "dot") return `M${x},${y}m-${s},0a${s},${s} 0 1,0 ${2 * size},0a${s},${s} 0 1,0 -${2 * size},0`;
    if (shape === "cross") return `M${x},${y}m-${s},-${s}l${2 * size},${2 * size}m0,-${2 * size}l-${2 * size},${2 * size}`;
    return `M${x},${y}m-${s},0h${2 * size}`; // a dash
  });
  const paint = shape === "dot" ? { fill: colour } : { stroke: colour, fill: "none", "stroke-width": 1.4 };
  return add(panel.group, "path", { d: d.join(""), ...paint, ...attributes });
}

/** Draw bars from the bottom of a panel: [[middle, height], …], each so many units of x wide. */
export function bars(panel, items, colour, width) {
  for (const [x, y] of items) {
    const [from, to] = [panel.x(x - width / 2), panel.x(x + width / 2)];
    const top = Math.min(panel.y(y), panel.inner.bottom);
    const size = { x: from, y: top, width: to - from, height: Math.max(panel.inner.bottom - top, 0) };
    add(panel.group, "rect", { ...size, fill: colour });
  }
}

/** Write a key to a panel's marks at a position in pixels: a patch of colour and its name in ink. */
export function key(group, x, y, entries) {
  entries.forEach(([name, colour, shape], row) => {
    const at = { x: x + 8, y: y + 17 * row };
    const fake = { group, x: (v) => v, y: (v) => v };
    if (shape === "line" || shape === "dash") {
      const dashes = shape === "dash" ? { "stroke-dasharray": "5 4" } : {};
      line(fake, [[at.x - 8, at.y - 4], [at.x + 8, at.y - 4]], colour, dashes);
    } else if (shape === "bar") add(group, "rect", { x: at.x - 6, y: at.y - 10, width: 12, height: 11, fill: colour });
    else if (shape === "ring") add(group, "circle", { cx: at.x, cy: at.y - 4, r: 5, fill: "none", stroke: colour, "stroke-width": 2 });
    else marks(fake, [[at.x, at.y - 4]], colour, { shape, size: 4 });
    add(group, "text", { x: at.x + 13, y: at.y, class: "tick" }, name);
  });
}

/** Put panels of given heights side by side where there is room, else below each other; returns their boxes and the height. */
export function layout(width, rows) {
  const boxes = [];
  let y = 0;
  for (const { height, shares } of rows) {
    const wide = width >= 560 || shares.length === 1;
    const whole = shares.reduce((a, b) => a + b);
    let x = 0;
    for (const share of shares) {
      const own = wide ? (width * share) / whole : width;
      boxes.push({ x, y, width: own, height });
      if (wide) x += own;
      else y += height + 8;
    }
    if (wide) y += height + 8;
  }
  return { boxes, height: y };
}

/** Colour of a method or of a role, as the style sheet of the explorer gives it. */
export const colour = (name) => `var(--sba-${name})`;

/** Width in whole pixels that a picture in this place is drawn for. */
export const widthIn = (place) => Math.max(280, Math.floor(place.clientWidth || 680));

/** Redraw as soon as a place has another width, also when it gets its first; returns what ends that. */
export function followWidth(place, redraw) {
  let drawn = 0;
  const observer = new ResizeObserver(() => {
    const width = place.clientWidth;
    if (width && Math.abs(width - drawn) <= 1) return;
    // while it is hidden a picture is drawn for a width of its own
    drawn = width;
    if (width) redraw();
  });
  observer.observe(place);
  return () => observer.disconnect();
}

/** Redraw as soon as the page has another theme, for what a style sheet cannot colour; returns what ends that. */
export function followTheme(redraw) {
  const observer = new MutationObserver(redraw);
  for (const [node, name] of [[document.documentElement, "data-theme"], [document.body, "data-jp-theme-light"]]) {
    observer.observe(node, { attributeFilter: [name] });
  }
  return () => observer.disconnect();
}

/**
 * Make an anywidget of a picture that follows its controls.
 *
 * names: the traits that the controls are linked to.
 * prepare(data): what is computed once.
 * draw(svg, width, state, prepared, set): draws, and returns the height in pixels; `set({name: value})` moves controls.
 * say(state, prepared): the readout, in a sentence or two.
 * settle(state, prepared): what the controls are moved to, so that they show what the picture does.
 */
export function explorer({ names, prepare = (data) => data, draw, say, settle = (state) => state }) {
  function render({ model, el }) {
    const figure = document.createElement("figure");
    const [hint, readout] = [document.createElement("p"), document.createElement("p")];
    figure.innerHTML = "<svg></svg>";
    const svg = figure.firstChild;
    el.classList.add("sba-explorer");
    hint.className = "hint";
    hint.textContent = model.get("hint");
    readout.className = "readout";
    readout.setAttribute("aria-live", "polite");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", model.get("alt"));
    el.append(hint, figure, readout);

    let prepared = prepare(model.get("data"));
    const set = (values) => {
      for (const [name, value] of Object.entries(values)) if (model.get(name) !== value) model.set(name, value);
      model.save_changes();
    };
    const redraw = () => {
      const width = widthIn(figure);
      const now = Object.fromEntries(names.map((name) => [name, model.get(name)]));
      const state = settle(now, prepared);
      if (names.some((name) => state[name] !== now[name])) return set(state);
      svg.replaceChildren();
      const height = draw(svg, width, state, prepared, set);
      for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) {
        svg.setAttribute(key, value);
      }
      const text = say(state, prepared);
      if (readout.textContent !== text) readout.textContent = text;
    };
    const renew = () => {
      prepared = prepare(model.get("data"));
      redraw();
    };
    names.forEach((name) => model.on(`change:${name}`, redraw));
    model.on("change:data", renew);
    redraw();
    const end = followWidth(figure, redraw);
    return () => {
      end();
      names.forEach((name) => model.off(`change:${name}`, redraw));
      model.off("change:data", renew);
    };
  }
  return { render };
}
