// ω × η: really trained networks. The sliders choose the nearest measured pair; nothing is interpolated.
import { add, colour, explorer, key, layout, line, marks, numbers, panel, short } from "./plot.js";

/** Row and column of the measured pair nearest to one: ω by angle, η by ratio; η = 0 is next to values below half of the smallest. */
export function nearest(omega, eta, omegas, etas) {
  const least = (values) => values.indexOf(Math.min(...values));
  const row = least(omegas.map((value) => Math.abs(value - omega)));
  const positive = etas.filter((value) => value > 0);
  if (etas.includes(0) && eta < Math.min(...positive) / 2) return [row, etas.indexOf(0)];
  return [row, least(etas.map((value) => (value > 0 ? Math.abs(Math.log(eta / value)) : Infinity)))];
}

/** The sliders' place, or that of the measured pair if they stand beside it: 31.6 is 30. */
export function snapped(omega, eta, omegas, etas) {
  const [row, column] = nearest(omega, eta, omegas, etas);
  const beside = etas[column] > 0 && Math.abs(Math.log(eta / etas[column])) < 0.1;
  return [Math.abs(omega - omegas[row]) < 0.02 ? omegas[row] : omega, beside ? etas[column] : eta];
}

/** Cut a row of an array of shape (Ω, H, n) out. */
export const cut = (array, [row, column], columns, n) => array.subarray((row * columns + column) * n, (row * columns + column + 1) * n);

/** η of the slider beside 0. */
const LEAST = 1e-3;
/** Per cent of the darkest cell's colour: numbers on it can be read, in either theme. */
const DARKEST = 56;
const ANGLES = ["0", "π/12", "π/6", "π/4", "π/3", "5π/12", "π/2"];
const angle = (omega) => ANGLES.find((_, i) => Math.abs((i * Math.PI) / 12 - omega) < 1e-6) ?? short(omega);
const finite = (values) => Array.from(values).filter(Number.isFinite);

function unpack(problem) {
  const arrays = Object.entries(problem.arrays).map(([name, array]) => [name, numbers(array)]);
  const { shape } = problem.arrays.error;
  return { ...problem, ...Object.fromEntries(arrays), rows: shape[0], columns: shape[1], epochs: shape[2] };
}

/** The errors of the network that was trained in this session, of the problem that is shown. */
export const trained = ({ own, problem }) => (own.problem === problem ? own.errors : []);

function curves(svg, box, problem, pair, own) {
  const pick = (name, at) => cut(problem[name], at, problem.columns, problem.epochs);
  const plain = [problem.rows - 1, 0];
  const tail = finite(pick("error", plain)).slice(3);
  const most = Math.min(100, 2.2 * Math.max(...tail.slice(-5), ...finite(pick("error", pair)).slice(-5)));
  const nice = most > 40 ? 20 : most > 16 ? 10 : most > 8 ? 4 : 2;
  const range = [0, Math.ceil(most / nice) * nice];
  const ticks = Array.from({ length: range[1] / nice + 1 }, (_, i) => i * nice);
  const half = problem.epochs / 2;
  const x = { range: [0, problem.epochs], ticks: [0, half, problem.epochs], label: "epoch" };
  const frame = panel(svg, box, { x, y: { range, ticks, label: "test error, %" } });
  const path = (values) => Array.from(values, (value, i) => [i + 1, value]);
  line(frame, path(pick("error", plain)), colour("erm"), { "stroke-width": 1.5 });
  line(frame, path(pick("error", pair)), colour("sba"));
  if (own.length) line(frame, path(own), colour("shade1"), { "stroke-dasharray": "4 3" });
}

/** Error and calibration at an index, with the interval of the error. */
function told(problem, index) {
  const half = problem.half[index];
  const spread = Number.isFinite(half) ? ` ± ${half.toFixed(2)}` : "";
  return `error ${problem.final[index].toFixed(2)}${spread} %, calibration error ${(100 * problem.ece[index]).toFixed(1)} %`;
}

function map(svg, box, problem, pair, { omegas, etas }, set) {
  const values = problem.final;
  const low = Math.min(...finite(values));
  const x = { range: [0, etas.length], ticks: etas.map((_, i) => i + 0.5), write: (at) => short(etas[Math.floor(at)]), label: "η" };
  const y = { range: [omegas.length, 0], label: "final test error, %: ω down, η across" };
  const frame = panel(svg, box, { x, y });
  omegas.forEach((omega, row) => {
    add(frame.over, "text", { x: frame.inner.left - 6, y: frame.y(row + 0.5) + 4, class: "tick end" }, angle(omega));
    etas.forEach((eta, column) => {
      const value = values[row * etas.length + column];
      const square = { x: frame.x(column), y: frame.y(row), width: frame.x(1) - frame.x(0) - 1, height: frame.y(1) - frame.y(0) - 1 };
      // if training fails, the error is far off: the darkest colour begins at twice that of plain training
      const share = Number.isFinite(value) ? Math.min(1, (value - low) / Math.max(problem.dark - low, 1e-9)) : 0;
      const fill = Number.isFinite(value) ? `color-mix(in srgb, ${colour("shade0")} ${Math.round(DARKEST * share + 4)}%, ${colour("paper")})` : "none";
      add(frame.group, "rect", { ...square, fill, stroke: colour("pale"), "stroke-width": 0.5 });
      const middle = { x: square.x + square.width / 2, y: square.y + square.height / 2 + 4, class: "cell middle" };
      add(frame.over, "text", middle, Number.isFinite(value) ? short(value, 2) : "—");
      // over the number, so that the whole cell can be clicked; no weight is the slider's lowest end
      const cell = add(frame.over, "rect", { ...square, fill: "transparent", class: "choice" });
      add(cell, "title", {}, `ω = ${angle(omega)}, η = ${short(eta)}: ${told(problem, row * etas.length + column)}`);
      cell.addEventListener("click", () => set({ omega, eta: eta || LEAST }));
    });
  });
  const [row, column] = pair;
  const ring = { x: frame.x(column), y: frame.y(row), width: frame.x(1) - frame.x(0) - 1, height: frame.y(1) - frame.y(0) - 1 };
  add(frame.group, "rect", { ...ring, fill: "none", stroke: colour("sba"), "stroke-width": 3 });
}

function reliability(svg, box, problem, pair) {
  const ticks = [0, 0.5, 1];
  const x = { range: [0, 1], ticks, label: "confidence" };
  const frame = panel(svg, box, { x, y: { range: [0, 1], ticks, label: "accuracy: calibrated on the diagonal" } });
  line(frame, [[0, 0], [1, 1]], colour("grey"), { "stroke-dasharray": "3 3", "stroke-width": 1 });
  for (const [at, method, shape] of [[[problem.rows - 1, 0], "erm", "cross"], [pair, "sba", "dot"]]) {
    const pick = (name) => cut(problem[name], at, problem.columns, problem.bins);
    const [count, confidence, accuracy] = ["count", "confidence", "accuracy"].map(pick);
    // bins of a handful of images say nothing
    const enough = Array.from(count, (n, i) => [n, confidence[i], accuracy[i]]).filter(([n]) => n >= 10);
    const points = enough.map(([, c, a]) => [c, a]);
    line(frame, points, colour(method), { "stroke-width": 1.2 });
    marks(frame, points, colour(method), { shape, size: 3.5 });
  }
}

function regions(svg, box, problem, pair) {
  const [rows, columns] = problem.pixels;
  const levels = cut(problem.decision, pair, problem.columns, rows * columns);
  const [left, right, low, high] = problem.extent;
  const x = { range: [left, right], ticks: [-1, 0, 1, 2], label: "feature 1" };
  const frame = panel(svg, box, { x, y: { range: [low, high], ticks: [-1, 0, 1], label: "decision: probability of class 1" } });
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: columns, height: rows });
  const image = new ImageData(columns, rows);
  const ends = [problem.colours[0], [255, 255, 255], problem.colours[1]];
  levels.forEach((level, i) => {
    const t = (2 * level) / 255;
    const [from, to] = t < 1 ? [ends[0], ends[1]] : [ends[1], ends[2]];
    const row = rows - 1 - Math.floor(i / columns);
    const mixed = from.map((part, c) => part + (to[c] - part) * (t < 1 ? t : t - 1));
    image.data.set([...mixed, 255], 4 * (row * columns + (i % columns)));
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  const size = { x: frame.inner.left, y: frame.inner.top, width: frame.inner.right - frame.inner.left, height: frame.inner.bottom - frame.inner.top };
  add(frame.group, "image", { ...size, href: canvas.toDataURL(), preserveAspectRatio: "none" });
  problem.points.forEach((points, label) => marks(frame, points, "#222", { shape: label ? "cross" : "dot", size: 2.2 }));
}

function losses(svg, box, problem, pair) {
  const pick = (at) => cut(problem.nll, at, problem.columns, problem.epochs);
  const ends = [...finite(pick(pair)), ...finite(pick([problem.rows - 1, 0]))];
  const range = [Math.min(...ends) * 0.9, Math.min(Math.max(...ends), 3)];
  const x = { range: [0, problem.epochs], ticks: [0, problem.epochs / 2, problem.epochs], label: "epoch" };
  const ticks = [0.2, 0.5, 1, 2].filter((value) => value >= range[0] && value <= range[1]);
  const frame = panel(svg, box, { x, y: { range, log: true, ticks, label: "test loss, nats, logarithmic" } });
  const path = (values) => Array.from(values, (value, i) => [i + 1, value]);
  line(frame, path(pick([problem.rows - 1, 0])), colour("erm"), { "stroke-width": 1.5 });
  line(frame, path(pick(pair)), colour("sba"));
}

export default explorer({
  names: ["problem", "omega", "eta", "own"],
  prepare: (data) => ({ ...data, problems: data.problems.map(unpack) }),
  settle(state, { omegas, etas }) {
    const [omega, eta] = snapped(state.omega, state.eta, omegas, etas);
    return { ...state, omega, eta };
  },
  draw(svg, width, state, data, set) {
    const problem = data.problems[state.problem];
    const pair = nearest(state.omega, state.eta, data.omegas, data.etas);
    const { boxes, height } = layout(width, [{ height: 225, shares: [1, 1] }, { height: 245, shares: [1, 1] }]);
    const own = trained(state);
    curves(svg, boxes[0], problem, pair, own);
    map(svg, boxes[1], problem, pair, data, set);
    reliability(svg, boxes[2], problem, pair);
    (problem.decision ? regions : losses)(svg, boxes[3], problem, pair);
    const entries = [["SBA at the nearest measured pair", colour("sba"), "line"], ["plain training", colour("erm"), "line"]];
    if (own.length) entries.push(["trained here", colour("shade1"), "dash"]);
    if (problem.decision) entries.push(["training points: class 0", "#777", "dot"], ["class 1", "#777", "cross"]);
    key(svg, 20, height + 8, entries);
    return height + 12 + 17 * entries.length;
  },
  say(state, data) {
    const problem = data.problems[state.problem];
    const [row, column] = nearest(state.omega, state.eta, data.omegas, data.etas);
    const at = row * problem.columns + column;
    const ids = problem.ids[at];
    if (!ids.length || !Number.isFinite(problem.final[at])) return `Nearest measured pair: ω = ${angle(data.omegas[row])}, η = ${short(data.etas[column])}. It was not run, or its training diverged.`;
    const plain = row === problem.rows - 1 || column === 0 ? " (plain training)" : "";
    const many = ids.length > 1 ? `records ${ids[0]} and ${ids.length - 1} of other seeds` : `record ${ids[0]}`;
    return (
      `Nearest measured pair: ω = ${angle(data.omegas[row])}, η = ${short(data.etas[column])}${plain}. ${told(problem, at)[0].toUpperCase()}${told(problem, at).slice(1)}, ` +
      `n = ${ids.length} (${many}). Plain training: ${told(problem, (problem.rows - 1) * problem.columns)}.`
    );
  },
});
