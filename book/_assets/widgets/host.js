// Draws the widgets that an executed notebook stored in its page, without a kernel and without asking another host.
// It knows the few widgets that the explorers use (sba/widgets.py); any other is an error, and the build refuses it
// before (book/_ext/widgets.py).
(() => {
  const TYPE = "application/vnd.jupyter.widget-";
  const modules = new Map();

  /** A widget's state, its listeners, and the part of Backbone's interface that anywidget promises. */
  class Model {
    constructor(state) {
      this.state = state;
      this.listeners = new Map();
    }

    get(name) {
      return this.state[name];
    }

    set(name, value) {
      if (this.state[name] === value) return;
      this.state[name] = value;
      for (const listener of this.listeners.get(`change:${name}`) ?? []) listener();
    }

    on(event, listener) {
      this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
    }

    off(event, listener) {
      this.listeners.set(event, (this.listeners.get(event) ?? []).filter((own) => own !== listener));
    }

    save_changes() {}
  }

  /** Put the bytes that are stored beside a state back into it. */
  function restore({ state, buffers = [] }) {
    for (const { path, data } of buffers) {
      const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
      const holder = path.slice(0, -1).reduce((inner, step) => inner[step], state);
      holder[path.at(-1)] = new DataView(bytes.buffer);
    }
    return state;
  }

  const element = (name, attributes = {}, text = "") => {
    const node = Object.assign(document.createElement(name), attributes);
    if (text) node.textContent = text;
    return node;
  };

  /** Write a number as Python's format would: ".3f" or ".2g". */
  function written(value, format = "") {
    const [, digits, kind] = /\.(\d+)([fg])/.exec(format) ?? [];
    if (kind === "f") return value.toFixed(digits);
    return kind === "g" ? String(Number(value.toPrecision(digits))) : String(value);
  }

  let count = 0;
  function labelled(model, input, ...more) {
    const row = element("div", { className: "widget-row" });
    input.id = `widget-${(count += 1)}`;
    const label = element("label", { htmlFor: input.id, title: model.get("tooltip") ?? "" }, model.get("description"));
    if (model.get("tooltip")) input.setAttribute("aria-description", model.get("tooltip"));
    row.append(label, input, ...more);
    // for whoever sees it; a screen reader has the description already
    row.append(element("small", { ariaHidden: "true" }, model.get("tooltip") ?? ""));
    return row;
  }

  /** A slider in whole steps, so that both ends of its range can be reached whatever the step is. */
  function slider(model, { value = (position) => position, shown = (v) => written(v, model.get("readout_format")) } = {}) {
    const [low, high, step] = ["min", "max", "step"].map((name) => model.get(name));
    const steps = Math.max(1, Math.round((high - low) / step));
    const place = (n) => (n >= steps ? high : low + n * step);
    const input = element("input", { type: "range", min: 0, max: steps, step: 1 });
    const output = element("output", { ariaHidden: "true" });
    const show = () => {
      output.textContent = shown(model.get("value"));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    const nearest = (wanted) => {
      const gaps = Array.from({ length: steps + 1 }, (_, n) => Math.abs(value(place(n)) - wanted));
      return gaps.indexOf(Math.min(...gaps));
    };
    input.value = nearest(model.get("value"));
    input.addEventListener("input", () => model.set("value", value(place(Number(input.value)))));
    model.on("change:value", () => {
      if (value(place(Number(input.value))) !== model.get("value")) input.value = nearest(model.get("value"));
      show();
    });
    show();
    return labelled(model, input, output);
  }

  function dropdown(model) {
    const input = element("select");
    model.get("_options_labels").forEach((text, n) => input.append(element("option", { value: n }, text)));
    input.value = model.get("index");
    input.addEventListener("change", () => model.set("index", Number(input.value)));
    model.on("change:index", () => (input.value = model.get("index")));
    return labelled(model, input);
  }

  function checkbox(model) {
    const input = element("input", { type: "checkbox", checked: model.get("value") });
    input.addEventListener("change", () => model.set("value", input.checked));
    model.on("change:value", () => (input.checked = model.get("value")));
    return labelled(model, input);
  }

  /** Children below or beside each other; what needs a kernel is told of and not drawn. */
  function box(model, draw) {
    if ((model.get("_dom_classes") ?? []).includes("needs-kernel")) {
      return element("p", { className: "needs-kernel-note" }, model.get("note"));
    }
    const holder = element("div", { className: model.get("_model_name") === "HBoxModel" ? "widget-beside" : "widget-below" });
    model.get("children").forEach((reference) => holder.append(draw(reference)));
    return holder;
  }

  /** A picture of anywidget's: its module stands in the state as text, and a page opened as a file may load it so. */
  function picture(model) {
    const holder = element("div");
    const [text, css] = [model.get("_esm"), model.get("_css")];
    if (css && !modules.has(css)) document.head.append(element("style", {}, css));
    modules.set(css, true);
    if (!modules.has(text)) {
      const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
      modules.set(text, import(address).finally(() => URL.revokeObjectURL(address)));
    }
    holder.ready = modules.get(text).then((module) => module.default.render({ model, el: holder }));
    return holder;
  }

  const DRAWN = {
    AnyModel: picture,
    CheckboxModel: checkbox,
    DropdownModel: dropdown,
    FloatLogSliderModel: (model) => slider(model, { value: (exponent) => model.get("base") ** exponent }),
    FloatSliderModel: slider,
    HBoxModel: box,
    IntSliderModel: slider,
    VBoxModel: box,
  };

  function link(models, { source: [from, name], target: [to, other] }) {
    const [a, b] = [from, to].map((reference) => models.get(reference.replace("IPY_MODEL_", "")));
    a.on(`change:${name}`, () => b.set(other, a.get(name)));
    b.on(`change:${other}`, () => a.set(name, b.get(other)));
  }

  /** Put a view in the place of its script; the still picture beside it goes when the live one stands. */
  async function show(script, models) {
    const waiting = [];
    const draw = (reference) => {
      const model = models.get(reference.replace("IPY_MODEL_", ""));
      const name = model?.get("_model_name") ?? "a widget without a state";
      if (!Object.hasOwn(DRAWN, name)) throw new Error(`this page cannot draw ${name}`);
      // only boxes take the second argument
      const node = name.endsWith("BoxModel") ? box(model, draw) : DRAWN[name](model);
      if (node.ready) waiting.push(node.ready);
      return node;
    };
    const holder = element("div", { className: "explorer" });
    const still = script.nextElementSibling;
    try {
      holder.append(draw(JSON.parse(script.textContent).model_id));
      script.after(holder);
      await Promise.all(waiting);
      if (still?.matches(".explorer-still")) still.remove();
    } catch (error) {
      holder.remove();
      const text = "The sliders could not be drawn here; the picture shows their first state.";
      script.after(element("p", { className: "explorer-fault", role: "alert" }, text));
      throw error;
    }
  }

  function start() {
    const models = new Map();
    for (const script of document.querySelectorAll(`script[type="${TYPE}state+json"]`)) {
      for (const [id, entry] of Object.entries(JSON.parse(script.textContent).state)) {
        const { model_name, model_module } = entry;
        models.set(id, new Model({ ...restore(entry), _model_name: model_name, _model_module: model_module }));
      }
    }
    for (const model of models.values()) if (model.get("_model_name") === "LinkModel") link(models, model.state);
    document.querySelectorAll(`script[type="${TYPE}view+json"]`).forEach((script) => show(script, models));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
