// The playground's pictures: two decisions on the plane, what the virtual points of a sample are predicted, losses, and λ(t).
import { add, bars, colour, key, layout, line, marks, panel, short } from "./plot.js";

/** The part of the plane that is seen: [−SIDE, SIDE]². */
export const SIDE = 2;
/** Points of the grid on which a decision is drawn, along each side. */
export const GRID = 49;
/** Where a prediction begins to be certain. */
export const CERTAIN = 0.9;
const BEHIND = 100;
const AHEAD = 25;
/** Steps between two labels of the strip that do not lie on each other. */
const APART = 15;

/** The grid's points, row by row from below: coordinate after coordinate. */
export const PLACES = Float64Array.from({ length: 2 * GRID * GRID }, (_, i) => {
  const at = i % 2 ? Math.floor(i / 2 / GRID) : (i >> 1) % GRID;
  return SIDE * ((2 * at) / (GRID - 1) - 1);
});

/** The curve on which values on the grid reach a level, as the d of a path; positions are left to `place(column, row)`. */
export function contour(values, level, place) {
  const pieces = [];
  for (let row = 0; row + 1 < GRID; row++) {
    for (let column = 0; column + 1 < GRID; column++) {
      const corners = [[column, row], [column + 1, row], [column + 1, row + 1], [column, row + 1]];
      const cut = [];
      corners.forEach((from, side) => {
        const to = corners[(side + 1) % 4];
        const [a, b] = [from, to].map(([x, y]) => values[y * GRID + x] - level);
        if (a < 0 === b < 0) return;
        const share = a / (a - b);
        cut.push(place(from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])).map((v) => v.toFixed(1)).join(","));
      });
      // in a saddle four sides are cut
      for (let i = 0; i + 1 < cut.length; i += 2) pieces.push(`M${cut[i]}L${cut[i + 1]}`);
    }
  }
  return pieces.join("");
}

/** Share of the square on which neither class is certain. */
export const uncertain = (values) => values.filter((p) => p > 1 - CERTAIN && p < CERTAIN).length / values.length;

/** Paint the classes' colours, the paler the less certain: a pixel for a point of the grid. */
function paint(canvas, values, colours) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(GRID, GRID);
  values.forEach((p, i) => {
    const row = GRID - 1 - Math.floor(i / GRID);
    image.data.set([...colours[p > 0.5 ? 1 : 0], 100 * Math.abs(2 * p - 1)], 4 * (row * GRID + (i % GRID)));
  });
  context.putImageData(image, 0, 0);
}

/** Red, green and blue of a colour of the style sheet. */
function channels(element, name) {
  const text = getComputedStyle(element).getPropertyValue(`--sba-${name}`).trim();
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

/**
 * Draw one network's decision: the classes' colours, the boundary, both edges of the band of uncertainty, and the points.
 *
 * parts: {canvas, svg} of the plane. values: its probability of class 1 on the grid; other: that of the other network.
 * scene: {points, chosen, cloud, cross}: the training points, the number of the chosen one, its virtual points on the plane or
 * null, and where the keyboard's cross is, or null.
 */
export function plane({ canvas, svg }, own, [values, other], scene) {
  paint(canvas, values, [0, 1].map((c) => channels(canvas, `class${c}`)));
  svg.replaceChildren();
  const size = 200;
  const [x, y] = [(v) => (size / 2) * (1 + v / SIDE), (v) => (size / 2) * (1 - v / SIDE)];
  const frame = { group: svg, x, y };
  const place = (column, row) => [(size * column) / (GRID - 1), size * (1 - row / (GRID - 1))];
  for (const edge of [CERTAIN, 1 - CERTAIN]) {
    add(svg, "path", { d: contour(values, edge, place), class: "line", stroke: colour(own), "stroke-width": 0.6 });
  }
  const rival = own === "sba" ? "erm" : "sba";
  add(svg, "path", { d: contour(other, 0.5, place), class: "line", stroke: colour(rival), "stroke-width": 0.9 });
  add(svg, "path", { d: contour(values, 0.5, place), class: "line", stroke: colour(own), "stroke-width": 1.8 });
  const { points, chosen, cloud, cross } = scene;
  for (const c of [0, 1]) {
    const shown = points.labels.flatMap((label, i) => (label === c ? [[points.x[2 * i], points.x[2 * i + 1]]] : []));
    marks(frame, shown, colour(`class${c}`), { shape: c ? "cross" : "dot", size: 2.2 });
  }
  if (cloud) {
    marks(frame, cloud.dropout, colour("ba"), { shape: "cross", size: 1.8 });
    marks(frame, cloud.gaussian, colour("sba"), { size: 1.6 });
  }
  if (chosen >= 0) add(svg, "circle", { cx: x(points.x[2 * chosen]), cy: y(points.x[2 * chosen + 1]), r: 5, fill: "none", stroke: colour("ink"), "stroke-width": 1.6 });
  if (cross) marks(frame, [cross], colour("ink"), { shape: "cross", size: 6 });
}

/** What SBA's network predicts for the chosen sample (a bar) and for its virtual points. */
function predictions(svg, box, about) {
  const x = { range: [0, 1], ticks: [0, 0.5, 1], label: "probability of class 1" };
  const frame = panel(svg, box, { x, y: { range: [0, 1], label: "predictions for the chosen sample" }, left: 12 });
  if (!about) return;
  bars(frame, [[about.raw, 1]], colour("ink"), 0.008);
  const spread = (values, low) => values.map((p, j) => [p, low + 0.34 * (((j * 7) % values.length) + 0.5) / values.length]);
  marks(frame, spread(about.gaussian, 0.56), colour("sba"), { size: 2.4, opacity: 0.8 });
  marks(frame, spread(about.dropout, 0.1), colour("ba"), { shape: "cross", size: 2.6 });
}

function terms(svg, box, history, names, label) {
  const values = history.flatMap((one) => names.map(([name]) => one[name])).filter((value) => value > 0 && Number.isFinite(value));
  const inside = (value) => Math.max(1e-4, Math.min(value, 1e3));
  const [low, high] = values.length ? [inside(Math.min(...values)), inside(Math.max(...values))] : [0.1, 1];
  const range = [low * 0.8, Math.max(high, 2 * low) * 1.25];
  const decades = [1e-4, 1e-3, 0.01, 0.1, 1, 10, 100, 1000];
  const fine = range[1] / range[0] < 30;
  const ticks = decades.flatMap((v) => (fine ? [v, 2 * v, 5 * v] : [v])).filter((v) => v >= range[0] && v <= range[1]);
  const end = Math.max(history.at(-1)?.t ?? 0, 100);
  const x = { range: [0, end], ticks: [0, Math.round(end / 2), end], write: String, label: "step" };
  const frame = panel(svg, box, { x, y: { range, log: true, ticks, write: (v) => String(Number(v.toPrecision(1))), label }, left: 48 });
  for (const [name, method, attributes = {}] of names) {
    line(frame, history.map((one) => [one.t, one[name]]), colour(method), { "stroke-width": 1.6, ...attributes });
  }
}

function strip(svg, box, { t, coins }) {
  const from = Math.max(0, t - BEHIND);
  const x = { range: [from, from + BEHIND + AHEAD], ticks: [...(t - from < APART ? [] : [from]), t, from + BEHIND + AHEAD], write: String, label: "step" };
  const frame = panel(svg, box, { x, y: { range: [0, 1], label: "λ(t): augmented steps; pale: to come" }, left: 12 });
  for (const [at, method, opacity] of [[(s) => s < t, "sba", 1], [(s) => s >= t, "sba", 0.35]]) {
    const steps = Array.from({ length: BEHIND + AHEAD }, (_, i) => from + i).filter((s) => at(s) && coins(s));
    add(frame.group, "path", { d: steps.map((s) => `M${frame.x(s + 0.5).toFixed(1)},${frame.inner.bottom}V${frame.inner.top}`).join(""), class: "line", stroke: colour(method), "stroke-width": 2.5, opacity });
  }
  line(frame, [[t, -0.05], [t, 1.05]], colour("ink"), { "stroke-width": 1 });
}

/** Draw the lower panels; returns their height. */
export function panels(svg, width, { history, about, t, coins }) {
  const { boxes, height } = layout(width, [{ height: 120, shares: [1] }, { height: 190, shares: [1, 1] }, { height: 100, shares: [1] }]);
  predictions(svg, boxes[0], about);
  const dashes = { "stroke-dasharray": "4 3" };
  terms(svg, boxes[1], history, [["plain", "erm"], ["sba", "sba"], ["virtual", "sba", dashes]], "training: both terms, nats");
  terms(svg, boxes[2], history, [["plainTest", "erm"], ["sbaTest", "sba"]], "test loss, nats");
  strip(svg, boxes[3], { t, coins });
  const entries = [["plain training", colour("erm"), "line"], ["SBA", colour("sba"), "line"], ["η · divergence, where λ(t) = 1", colour("sba"), "dash"]];
  const points = [["Gaussian points", colour("sba"), "dot"], ["dropout points", colour("ba"), "cross"]];
  key(svg, 12, height + 8, entries);
  key(svg, width >= 560 ? width / 2 : 12, height + (width >= 560 ? 8 : 59), points);
  return height + (width >= 560 ? 56 : 92);
}

/** What is where the keyboard's cross is, for readers who do not see it. */
export function spokenAt([x, y], plain, own, nearest) {
  const sample = nearest === undefined ? "There are no samples." : `The nearest sample is of class ${nearest}.`;
  const [across, up] = [x, y].map((v) => v.toFixed(1).replace("-", "−"));
  return `${across} across, ${up} up: probability of class 1 ${plain.toFixed(2)} by plain training, ${own.toFixed(2)} by SBA. ${sample}`;
}

/** What is to be seen, in sentences. */
export function words({ t, counted, setting, tests, bands, layer }) {
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const about =
    `ω = ${short(setting.omega)}, η = ${short(setting.eta)}, M = ${setting.folds}, virtual points at ${layer}, ${setting.label} label. `;
  if (!tests) return `${about}There are no points yet: click into a square, or move the cross there with the arrow keys and press Enter.`;
  const [plain, own] = tests;
  const lost = [["SBA's training", own], ["plain training", plain]].filter(([, { loss }]) => !Number.isFinite(loss)).map(([who]) => who);
  if (lost.length) {
    const [whose, has] = [lost.join(" and "), lost.length > 1 ? "have" : "has"];
    return `${about}After ${t} steps ${whose} ${has} diverged: no number is left. Turn the learning rate or η down and press Reset.`;
  }
  const [wide, wider] = bands;
  const apart = Math.abs(wide - wider) < 0.005 ? "as wide as" : wider > wide ? "wider than" : "narrower than";
  const better = Math.abs(own.loss - plain.loss) < 0.0005 ? "equal to" : own.loss < plain.loss ? "lower than" : "higher than";
  return (
    `${about}After ${t} steps, ${counted} of them augmented: the test loss of SBA is ${better} that of plain training, ${own.loss.toFixed(3)} against ` +
    `${plain.loss.toFixed(3)}; its test error is ${percent(own.error)} against ${percent(plain.error)}. Its band of uncertainty is ${apart} ` +
    `plain training's: ${percent(wider)} of the square against ${percent(wide)}.`
  );
}
