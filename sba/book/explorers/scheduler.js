// The scheduler: cos ω, a stream λ(t), the lengths of its runs, and what a step costs.
import { add, bars, colour, explorer, key, layout, line, marks, numbers, panel, short } from "./plot.js";

/** p(ω) = cos ω (§3.2); exactly 0 at a right angle. */
export const probability = (omega) => (omega >= Math.PI / 2 ? 0 : Math.cos(omega));

/** λ(t) for the uniform draws of a seed: the steps that training would augment. */
export const stream = (draws, omega) => Array.from(draws, (u) => u < probability(omega));

/** Lengths of the runs of ones, without the first and the last, which may be cut. */
export function runLengths(states) {
  const lengths = [];
  let run = 0;
  for (const on of [...states, false]) {
    if (on) run += 1;
    else if (run) {
      lengths.push(run);
      run = 0;
    }
  }
  return lengths.slice(1, -1);
}

/** Expected multiply–adds of a step's forward pass, in plain steps: 1 + pM of the share behind layer k. */
export const stepCost = (p, folds, share) => 1 + p * folds * share;

const SHOWN = 200;
const ANGLES = [[0, "0"], [Math.PI / 6, "π/6"], [Math.PI / 3, "π/3"], [Math.PI / 2, "π/2"]];
const angle = (value) => ANGLES.find(([at]) => Math.abs(at - value) < 1e-9)?.[1] ?? short(value);

function cosine(svg, box, { omega }) {
  const x = { range: [0, Math.PI / 2], ticks: ANGLES.map(([at]) => at), write: angle, label: "ω, rad" };
  const frame = panel(svg, box, { x, y: { range: [0, 1], ticks: [0, 0.5, 1], label: "p = cos ω" } });
  line(frame, Array.from({ length: 91 }, (_, i) => (i * Math.PI) / 180).map((w) => [w, Math.cos(w)]), colour("ink"));
  line(frame, [[omega, 0], [omega, probability(omega)]], colour("sba"), { "stroke-dasharray": "4 3" });
  marks(frame, [[omega, probability(omega)]], colour("sba"), { size: 6 });
}

function strip(svg, box, states) {
  const rows = box.width > 420 ? 2 : 4;
  const columns = SHOWN / rows;
  const x = { range: [0, columns], label: `iteration t: ${SHOWN} steps in ${rows} rows` };
  const frame = panel(svg, box, { x, y: { range: [rows, 0], label: "λ(t): an augmented step is coloured" }, left: 34 });
  const [wide, tall] = [frame.x(1) - frame.x(0), frame.y(0) - frame.y(1)];
  for (let row = 0; row < rows; row++) {
    add(frame.over, "text", { x: frame.inner.left - 6, y: frame.y(row + 0.5) + 4, class: "tick end" }, `${row * columns}`);
  }
  const paint = (wanted) => {
    const chosen = states.slice(0, SHOWN).map((on, t) => [on, t]).filter(([on]) => on === wanted);
    const gap = Math.min(1, wide / 4);
    return chosen
      .map(([, t]) => `M${(frame.x(t % columns) + gap / 2).toFixed(1)},${(frame.y(Math.floor(t / columns)) + 3).toFixed(1)}`)
      .map((start) => `${start}h${(wide - gap).toFixed(1)}v${(-tall - 6).toFixed(1)}h-${(wide - gap).toFixed(1)}z`)
      .join("");
  };
  add(frame.group, "path", { d: paint(false), fill: colour("pale") });
  add(frame.group, "path", { d: paint(true), fill: colour("sba") });
}

function lengths(svg, box, p, found) {
  const most = 12;
  const x = { range: [0.4, most + 0.6], ticks: [1, 2, 4, 6, 8, 10, 12], label: "length of a run of augmented steps" };
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  const frame = panel(svg, box, { x, y: { range: [0, 1], ticks, label: "share of the runs" } });
  const share = (length) => found.filter((n) => n === length).length / Math.max(found.length, 1);
  const counts = Array.from({ length: most }, (_, i) => i + 1);
  bars(frame, counts.map((n) => [n, share(n)]), colour("sba"), 0.62);
  if (p > 0 && p < 1) {
    marks(frame, counts.map((n) => [n, p ** (n - 1) * (1 - p)]), colour("ink"), { shape: "dash", size: 9 });
  }
  const at = frame.inner.right - 150;
  key(frame.over, at, frame.inner.top + 10, [["counted", colour("sba"), "bar"], ["pⁿ⁻¹(1 − p)", colour("ink"), "dash-mark"]]);
}

function cost(svg, box, p, folds, layer) {
  const most = 100;
  const x = { range: [0.8, most], log: true, ticks: [1, 2, 5, 10, 20, 50, 100], label: "plain steps, logarithmic" };
  const frame = panel(svg, box, { x, y: { range: [3, 0], label: "expected cost of a step, multiply–adds" }, left: 50 });
  const rows = [["plain", "erm", 1], ["SBA", "sba", stepCost(p, folds, layer.share)], ["BA", "ba", folds]];
  rows.forEach(([name, method, value], row) => {
    const [from, to, y] = [frame.x(0.8), frame.x(value), frame.y(row + 0.5)];
    add(frame.group, "rect", { x: from, y: y - 12, width: Math.max(to - from, 1), height: 24, fill: colour(method) });
    add(frame.over, "text", { x: from - 6, y: y + 4, class: "tick end" }, name);
    const inside = to > frame.inner.right - 55;
    const where = inside ? { x: to - 6, class: "tick end on" } : { x: to + 6, class: "tick" };
    add(frame.over, "text", { ...where, y: y + 4 }, `${value < 1.1 && value > 1 ? value.toFixed(3) : short(value)}×`);
  });
}

function at({ omega, folds, layer, seed }, { draws, steps, layers }) {
  const states = stream(draws.subarray(seed * steps, (seed + 1) * steps), omega);
  return { p: probability(omega), states, found: runLengths(states), layer: layers[layer], folds };
}

export default explorer({
  names: ["omega", "folds", "layer", "seed"],
  prepare: (data) => ({ ...data, draws: numbers(data.draws) }),
  draw(svg, width, state, prepared) {
    const { p, states, found, layer, folds } = at(state, prepared);
    const { boxes, height } = layout(width, [{ height: 190, shares: [1, 2.1] }, { height: 210, shares: [1, 1] }]);
    cosine(svg, boxes[0], state);
    strip(svg, boxes[1], states);
    lengths(svg, boxes[2], p, found);
    cost(svg, boxes[3], p, folds, layer);
    return height;
  },
  say(state, prepared) {
    const { p, states, found, layer, folds } = at(state, prepared);
    const count = states.filter(Boolean).length;
    const mean = found.length ? short(found.reduce((a, b) => a + b) / found.length) : "none";
    const law = p === 1 ? "one without end" : p === 0 ? "none" : short(1 / (1 - p));
    return (
      `ω = ${angle(state.omega)}: p = ${p.toFixed(3)}. Of ${states.length} steps ${count} are augmented. ` +
      `Mean length of their runs: ${mean} (law: ${law}). ` +
      `With M = ${folds} at layer ${layer.name} of ${prepared.network} a step of SBA costs ` +
      `${stepCost(p, folds, layer.share).toFixed(3)} times a plain one, a step of Batch Augmentation ${folds} times.`
    );
  },
});
