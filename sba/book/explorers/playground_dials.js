// The playground's dials, made from their definitions, and its setting as an address: #eta=1&omega=0.

/** Make an element with attributes and children. */
export const element = (name, attributes = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};

/** A dial's value at a whole position, and the position nearest to a value; the end of a range may be no whole step. */
const steps = ({ low, high, step }) => Math.max(1, Math.round((high - low) / step));
export function valueAt(dial, position) {
  const value = position >= steps(dial) ? dial.high : dial.low + position * dial.step;
  return Number((dial.log ? 10 ** value : value).toPrecision(12));
}
export function positionOf(dial, value) {
  const place = dial.log ? Math.log10(Math.max(value, 1e-300)) : value;
  return Math.max(0, Math.min(steps(dial), Math.round((place - dial.low) / dial.step)));
}

/** A value as it stands beside its dial: three significant digits. */
export const shown = (value) => String(Number(value.toPrecision(3))).replace("-", "−");

/** Read an address; null if it names no dial. Names and values that do not exist are left out. */
export function fromAddress(dials, hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const setting = {};
  for (const dial of dials) {
    const text = given.get(dial.name);
    if (text === null) continue;
    const index = (dial.options ?? []).indexOf(text);
    if (dial.options && index >= 0) setting[dial.name] = dial.numbered ? index : text;
    if (!dial.options && text.trim() && Number.isFinite(Number(text))) {
      setting[dial.name] = Math.max(dial.least, Math.min(dial.most, Number(text)));
      if (dial.whole) setting[dial.name] = Math.round(setting[dial.name]);
    }
  }
  const own = (given.get("own") ?? "").split(";").map((point) => point.split(",").map(Number));
  const points = own.filter((p) => p.length === 3 && p.every(Number.isFinite) && [0, 1].includes(p[2]));
  return Object.keys(setting).length || points.length ? { setting, own: points } : null;
}

/** Write what differs from the defaults, or nothing. */
export function toAddress(dials, setting, own) {
  const text = (dial) => (dial.numbered ? dial.options[setting[dial.name]] : String(setting[dial.name]));
  const parts = dials.filter((dial) => setting[dial.name] !== dial.value).map((dial) => `${dial.name}=${encodeURIComponent(text(dial))}`);
  if (own.length && parts.length) parts.push(`own=${own.map((point) => point.join(",")).join(";")}`);
  return parts.length ? `#${parts.join("&")}` : "";
}

let count = 0;

function row(dial, setting, changed) {
  const id = `playground-${(count += 1)}`;
  const holder = element("div", { class: "dial" });
  const label = element("label", { for: id, title: dial.description }, dial.label);
  const output = element("output", { "aria-hidden": "true" });
  const input = element(dial.options ? "select" : "input", { id, "aria-description": dial.description });
  let show;
  if (dial.options) {
    dial.options.forEach((option, n) => input.append(element("option", { value: n }, option)));
    show = () => (input.value = dial.numbered ? setting[dial.name] : dial.options.indexOf(setting[dial.name]));
  } else {
    Object.assign(input, { type: "range", min: 0, max: steps(dial), step: 1 });
    show = () => {
      input.value = positionOf(dial, setting[dial.name]);
      output.textContent = shown(setting[dial.name]);
      input.setAttribute("aria-valuetext", output.textContent);
    };
  }
  input.addEventListener(dial.options ? "change" : "input", () => {
    const at = Number(input.value);
    setting[dial.name] = dial.options ? (dial.numbered ? at : dial.options[at]) : valueAt(dial, at);
    show();
    changed(dial.name);
  });
  show();
  holder.append(label, output, input);
  return { holder, show };
}

/** Make the dials; those of a group stand together. Returns {all, speed, show}: `show` moves them to a changed setting. */
export function dials(definitions, setting, changed) {
  const all = element("div", { class: "dials" });
  const rows = definitions.filter((dial) => dial.group).map((dial) => ({ ...row(dial, setting, changed), dial }));
  let speed;
  for (const { holder, dial } of rows) {
    if (dial.group === "bar") {
      speed = holder;
      continue;
    }
    let group = [...all.children].find((one) => one.firstChild.textContent === dial.group);
    if (!group) {
      group = element("fieldset", {}, element("legend", {}, dial.group));
      all.append(group);
    }
    group.append(holder);
  }
  return { all, speed, show: () => rows.forEach((one) => one.show()) };
}
