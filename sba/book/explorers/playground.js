// The playground: a perceptron trained in the page, plainly and with SBA, from the same weights, batches and draws.
import { around, cloud, CLOUDS } from "./clouds.js";
import { augmented, evaluate, featureStd, forward, gaussians, perceptron, predict, softmax, step, virtualPoints } from "./perceptron.js";
import { normals, permutation, uniforms } from "./philox.js";
import { followTheme, followWidth, widthIn } from "./plot.js";
import { GRID, panels, plane, PLACES, SIDE, spokenAt, uncertain, words } from "./playground_view.js";
import { dials, element, fromAddress, toAddress } from "./playground_dials.js";

const TESTS = 500;
const BATCH = 32;
const KEPT = 240;
/** Milliseconds between two pictures, between two for a reader who wants little motion, and between two settings in the address. */
const [GAP, CALM, REST] = [70, 1000, 400];

/** Both networks, their history, and all that a step needs: a function of the setting and of the steps alone. */
export class Training {
  constructor(setting, widths, momentum) {
    Object.assign(this, { setting, widths, momentum, own: [] });
    this.reset();
  }

  reset() {
    const { widths, setting: { seed } } = this;
    const drawn = uniforms(seed, "weights", 0, widths.slice(1).reduce((sum, width, k) => sum + width * (widths[k] + 1), 0));
    [this.plain, this.sba] = [0, 1].map(() => {
      let i = 0;
      return perceptron(widths, () => drawn[i++]);
    });
    Object.assign(this, { t: 0, lit: [], counted: 0, every: 5, history: [], sums: { n: 0, plain: 0, sba: 0, virtual: 0, made: 0 } });
    this.draw();
  }

  /** Draw the points anew, after a change of the data. */
  draw() {
    const { cloud: name, noise, points: n, seed } = this.setting;
    const own = !CLOUDS.includes(name);
    const make = (count, purposes) =>
      cloud(name, uniforms(seed, purposes[0], 0, count), normals(seed, purposes[1], 1, 2 * count), noise);
    const copies = Math.ceil(TESTS / Math.max(this.own.length, 1));
    this.points = own ? around(this.own, 1, [], 0) : make(n, ["points", "noise"]);
    this.test = own ? around(this.own, copies, normals(seed, "test", 1, 2 * copies * this.own.length), noise) : make(TESTS, ["test", "test"]);
  }

  /** Whether a step was augmented, or would be at the present setting if it is still to come. */
  coin = (t) => (t < this.t ? this.lit[t] : this.toss(t));

  toss = (t) => augmented(this.setting, uniforms(this.setting.seed, "coin", t, 1)[0]);

  layers = () => (this.setting.layer < 3 ? [this.setting.layer] : [0, 1, 2]);

  batch() {
    const { points: { x, labels }, setting: { seed } } = this;
    const size = Math.min(BATCH, labels.length);
    const rounds = Math.floor(labels.length / size);
    const at = (this.t % rounds) * size;
    const chosen = permutation(seed, "order", Math.floor(this.t / rounds), labels.length).slice(at, at + size);
    return { x: Float64Array.from(chosen.flatMap((i) => [x[2 * i], x[2 * i + 1]])), labels: chosen.map((i) => labels[i]) };
  }

  /** Do one step with both networks. */
  step() {
    if (!this.points.labels.length) return;
    const { t, sums, setting, momentum } = this;
    const [coin, layer] = ["coin", "layer"].map((purpose) => uniforms(setting.seed, purpose, t, 1)[0]);
    const draws = { coin, layer, vicinity: this.vicinity(t) };
    const [batch, both] = [this.batch(), { ...setting, momentum, layers: this.layers() }];
    const [plain, own] = [step(this.plain, batch, { ...both, eta: 0 }, draws), step(this.sba, batch, both, draws)];
    const made = own.layer >= 0 ? 1 : 0;
    sums.n += 1;
    sums.made += made;
    sums.plain += plain.cross_entropy;
    sums.sba += own.cross_entropy;
    sums.virtual += own.virtual;
    this.counted += made;
    this.lit[t] = made > 0;
    this.t += 1;
    // the first steps can be followed one by one
    if (this.t < 2 * this.every || this.t % this.every === 0) this.note();
  }

  vicinity(t) {
    const { seed } = this.setting;
    return (width, p, q) => ({
      entries: p ? normals(seed, "basis", t, width * width) : [],
      standard: normals(seed, "normal", t, p),
      uniform: uniforms(seed, "mask", t, q),
    });
  }

  note() {
    const { n, made, plain, sba, virtual } = this.sums;
    const [plainTest, sbaTest] = this.tests().map(({ loss }) => loss);
    this.history.push({ t: this.t, plain: plain / n, sba: sba / n, virtual: made ? virtual / made : NaN, plainTest, sbaTest });
    this.sums = { n: 0, plain: 0, sba: 0, virtual: 0, made: 0 };
    if (this.history.length < KEPT) return;
    this.history = this.history.filter((_, i) => i % 2);
    this.every *= 2;
  }

  tests = () => [this.plain, this.sba].map((model) => evaluate(model, this.test));

  /** The virtual points of sample i, with the same draws at every look: where they lie on the plane, and what is predicted. */
  around(i) {
    const { setting, sba: model, points: { x, labels } } = this;
    const [k, n] = [setting.layer < 3 ? setting.layer : 0, labels.length];
    model.seen.h[0] = x;
    forward(model.layers, model.seen, n);
    const width = model.layers[k].inputs;
    const h = model.seen.h[k].slice(0, n * width);
    const p = gaussians(setting.folds, setting.gaussian_share);
    const draws = this.vicinity(0)(width, p * width, (setting.folds - p) * width);
    const { points } = virtualPoints(h.subarray(i * width, (i + 1) * width), 1, width, featureStd(h, n, width), setting, draws);
    model.seen.h[k] = points;
    const logits = forward(model.layers, model.seen, setting.folds, k);
    const seen = Array.from(softmax(logits, setting.folds, 2)).filter((_, at) => at % 2);
    const raw = predict(model, x.subarray(2 * i, 2 * i + 2), 1);
    const flat = Array.from({ length: setting.folds }, (_, j) => [points[2 * j], points[2 * j + 1]]);
    return {
      raw: raw[1],
      gaussian: seen.slice(0, p),
      dropout: seen.slice(p),
      cloud: k === 0 ? { gaussian: flat.slice(0, p), dropout: flat.slice(p) } : null,
    };
  }
}

/** A square of the plane with its two layers, that a reader can point at, and move a cross on. */
function square(title, say) {
  const canvas = element("canvas", { width: GRID, height: GRID, "aria-hidden": "true" });
  const holder = element("div", { class: "plane", tabindex: 0, role: "application", "aria-roledescription": "plane", "aria-label": `${title}. ${say}` });
  holder.innerHTML = '<svg viewBox="0 0 200 200" aria-hidden="true"></svg>';
  holder.prepend(canvas);
  const figure = element("div", {}, element("p", { class: "title" }, title), holder);
  return { figure, holder, canvas, svg: holder.querySelector("svg") };
}

function render({ model, el }) {
  const { dials: definitions, widths, momentum, names } = model.get("data");
  // JupyterLab keeps the address for itself
  const linked = !document.querySelector("[data-jp-theme-light]");
  const first = Object.fromEntries(definitions.map((one) => [one.name, one.value]));
  const training = new Training({ ...first }, widths, momentum);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const move = "Arrow keys move a cross, whose nearest sample is chosen; with the reader's own points Enter puts one there.";
  const squares = [square("Plain training", move), square("SBA", move)];
  const [hint, readout, spoken] = ["hint", "readout", "spoken"].map((name) => element("p", { class: name }));
  spoken.setAttribute("aria-live", "polite");
  const lower = element("figure");
  lower.innerHTML = `<svg role="img"></svg>`;
  const svg = lower.firstChild;
  svg.setAttribute("aria-label", model.get("alt"));
  hint.textContent = model.get("hint");
  const button = (text) => element("button", { type: "button" }, text);
  const [play, one, reset, clear] = ["Train", "Step", "Reset", "Remove my points"].map(button);
  let [playing, request, drawn, told, owed, last, target] = [false, 0, 0, 0, 0, 0, Infinity];
  let [cross, chosen, redraws] = [null, 0, 0];
  let [asked, writing, written] = [false, 0, -Infinity];
  // a screen reader would talk as long as it trains
  const speak = (on) => readout.setAttribute("aria-live", on ? "polite" : "off");

  const redraw = (quiet = false) => {
    const { points, setting, t, counted, history } = training;
    chosen = Math.min(Math.max(chosen, 0), points.labels.length - 1);
    const seen = chosen < 0 ? null : training.around(chosen);
    const about = seen && Number.isFinite(seen.raw) ? seen : null;
    const own = [training.plain, training.sba].map((net) => predict(net, PLACES, GRID * GRID).filter((_, i) => i % 2));
    const scene = { points, chosen, cross, cloud: null };
    plane(squares[0], "erm", own, scene);
    plane(squares[1], "sba", [own[1], own[0]], { ...scene, cloud: about?.cloud });
    const width = widthIn(lower);
    svg.replaceChildren();
    const height = panels(svg, width, { history, about, t, coins: training.coin });
    for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) svg.setAttribute(key, value);
    el.dataset.steps = t;
    el.dataset.redraws = redraws += 1;
    if (quiet) return;
    const tests = points.labels.length ? training.tests() : null;
    const text = words({ t, counted, setting, tests, bands: own.map(uncertain), layer: names[setting.layer] });
    if (readout.textContent !== text) readout.textContent = text;
  };

  const stop = () => {
    playing = false;
    cancelAnimationFrame(request);
    play.textContent = "Train";
    // what the page began by itself ends without a word
    if (asked) speak(true);
    redraw();
    speak(true);
  };
  const frame = (now) => {
    const start = performance.now();
    owed = Math.min(owed + (training.setting.speed * (now - last)) / 1000, training.setting.speed);
    last = now;
    // a third of the time is left to the page
    while (owed >= 1 && training.t < target && performance.now() - start < 24) {
      training.step();
      owed -= 1;
    }
    if (training.t >= target) return stop();
    if (now - drawn > (calm.matches ? CALM : GAP)) {
      const quiet = now - told < 2000;
      redraw(quiet);
      drawn = now;
      if (!quiet) told = now;
    }
    request = requestAnimationFrame(frame);
  };
  const start = (until = Infinity, byReader = true) => {
    [playing, target, owed, last, asked] = [true, until, 0, performance.now(), byReader];
    speak(false);
    play.textContent = "Pause";
    cancelAnimationFrame(request);
    request = requestAnimationFrame(frame);
  };

  const changed = (name) => {
    if (["cloud", "noise", "points"].includes(name)) training.draw();
    if (name === "seed") training.reset();
    clear.hidden = CLOUDS.includes(training.setting.cloud);
    if (!playing) redraw();
    if (!linked) return;
    clearTimeout(writing);
    // browsers refuse an address that changes a hundred times in some seconds
    writing = setTimeout(write, Math.max(0, written + REST - performance.now()));
  };
  const write = () => {
    written = performance.now();
    history.replaceState(null, "", address() || location.pathname + location.search);
  };
  const address = (setting = training.setting, own = training.own) => toAddress(definitions, setting, own);
  const controls = dials(definitions, training.setting, changed);

  /** The setting that an address names, null for none; what it does not name has its default, and so has all without a fragment. */
  const named = (hash) => {
    const found = hash ? fromAddress(definitions, hash) : { setting: {}, own: [] };
    return found && { setting: { ...first, ...found.setting }, own: found.own };
  };
  /** Take a setting and train that many steps. */
  const take = (found, byReader) => {
    clearTimeout(writing);
    Object.assign(training.setting, found.setting);
    training.own = found.own;
    controls.show();
    training.reset();
    clear.hidden = CLOUDS.includes(training.setting.cloud);
    start(training.setting.steps, byReader);
  };
  const show = () => el.scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
  /** The address has changed: by a link, which is followed already, by hand, or back to what it was, whose training goes on. */
  const arrived = () => {
    const found = named(location.hash);
    if (!found || address(found.setting, found.own) === address()) return;
    take(found, true);
    if (location.hash) show();
  };
  /** A link to a setting is followed each time that it is clicked. */
  const clicked = (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link?.hash || link.target || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const found = link.pathname === location.pathname && link.host === location.host && named(link.hash);
    if (!found) return;
    take(found, true);
    show();
  };

  const put = (label) => {
    if (CLOUDS.includes(training.setting.cloud)) return;
    training.own.push([...cross.map((v) => Number(v.toFixed(2))), label]);
    changed("cloud");
  };
  const look = (at) => {
    cross = at.map((v) => Math.max(-SIDE, Math.min(SIDE, v)));
    const { x, labels } = training.points;
    const far = labels.map((_, i) => Math.hypot(x[2 * i] - cross[0], x[2 * i + 1] - cross[1]));
    chosen = far.indexOf(Math.min(...far));
    if (!playing) redraw();
  };
  const place = (holder, event) => {
    const box = holder.getBoundingClientRect();
    return [2 * SIDE * ((event.clientX - box.left) / box.width - 0.5), 2 * SIDE * (0.5 - (event.clientY - box.top) / box.height)];
  };
  const keys = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
  for (const { holder } of squares) {
    holder.addEventListener("pointermove", (event) => look(place(holder, event)));
    holder.addEventListener("click", (event) => {
      look(place(holder, event));
      put(event.shiftKey ? 1 - training.setting.class : training.setting.class);
    });
    holder.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && cross) put(training.setting.class);
      if (!keys[event.key]) return;
      event.preventDefault();
      look((cross ?? [0, 0]).map((v, axis) => v + keys[event.key][axis]));
      spoken.textContent = spokenAt(cross, ...[training.plain, training.sba].map((net) => predict(net, cross, 1)[1]), training.points.labels[chosen]);
    });
  }
  play.addEventListener("click", () => (playing ? stop() : start()));
  one.addEventListener("click", () => {
    stop();
    training.step();
    redraw();
  });
  reset.addEventListener("click", () => {
    stop();
    training.reset();
    redraw();
  });
  clear.addEventListener("click", () => {
    training.own = [];
    changed("cloud");
  });

  el.classList.add("sba-explorer", "sba-playground");
  const bar = element("div", { class: "bar", role: "group", "aria-label": "training" }, play, one, reset, controls.speed, clear);
  el.append(hint, bar, element("div", { class: "planes" }, ...squares.map(({ figure }) => figure)), readout, spoken, controls.all, lower);
  // or JupyterLab takes the arrow keys and Enter for its cells; it asks what has the focus before it asks what that lies in
  for (const node of el.querySelectorAll("input, select, button, [tabindex]")) node.dataset.lmSuppressShortcuts = "true";
  clear.hidden = true;
  const opened = linked && location.hash ? named(location.hash) : null;
  if (opened) take(opened, false);
  else start(first.steps, false);
  redraw();
  if (linked) {
    addEventListener("hashchange", arrived);
    document.addEventListener("click", clicked);
    // a page that is loaded again stays where its reader was
    if (opened && performance.getEntriesByType("navigation")[0]?.type === "navigate") requestAnimationFrame(show);
  }
  const ends = [followWidth(lower, () => redraw(playing)), followTheme(() => redraw(true))];
  return () => {
    cancelAnimationFrame(request);
    clearTimeout(writing);
    ends.forEach((end) => end());
    removeEventListener("hashchange", arrived);
    document.removeEventListener("click", clicked);
  };
}

export default { render };
