// The cost: time of a step of SBA, of Batch Augmentation and of plain training, and what it buys.
import { add, colour, explorer, key, layout, line, marks, panel, short } from "./plot.js";

/** p(ω) = cos ω (§3.2); exactly 0 at a right angle. */
export const probability = (omega) => (omega >= Math.PI / 2 ? 0 : Math.cos(omega));

/** Expected time of a step in plain steps, if an augmented one takes `augmented`: λ(t) is 1 with probability p. */
export const expected = (p, augmented) => 1 + p * (augmented - 1);

/** The same by multiply–adds: M virtual points, each a share of a pass. */
export const counted = (p, folds, share) => 1 + p * folds * share;

/** The measurement at the M nearest by ratio. */
export function nearest(timed, folds) {
  const apart = (one) => Math.abs(Math.log(one.folds / folds));
  return timed.reduce((best, one) => (apart(one) < apart(best) ? one : best));
}

/** Error after the last epoch that is over by a time, in plain epochs; null before the first one is. */
export function errorBy(errors, step, time) {
  const done = Math.floor(time / step + 1e-9);
  return done < 1 ? null : errors[Math.min(done, errors.length) - 1];
}

/** Whether the runs were trained with virtual points at the chosen layer: nobody measured an error at another one. */
export const trained = (state, data) => data.trained.includes(data.layers[state.layer].name);

const MOST = 100;
const ABOUT = [1, 2, 5, 10, 20, 50, 100];

function step(svg, box, state, layer) {
  const p = probability(state.omega);
  const x = { range: [0.9, MOST], log: true, ticks: ABOUT, label: "M, logarithmic" };
  const frame = panel(svg, box, { x, y: { range: [0.85, MOST], log: true, ticks: ABOUT, label: "time of a step, in plain steps" } });
  const folds = Array.from({ length: 41 }, (_, i) => MOST ** (i / 40));
  line(frame, [[0.9, 1], [MOST, 1]], colour("erm"));
  line(frame, folds.map((m) => [m, m]), colour("ba"));
  line(frame, folds.map((m) => [m, counted(p, m, layer.share)]), colour("sba"), { "stroke-dasharray": "6 4" });
  for (const one of layer.timed) {
    const [low, high] = [one.low, one.high].map((value) => expected(p, value));
    line(frame, [[one.folds, low], [one.folds, high]], colour("sba"), { "stroke-width": 4, opacity: 0.45 });
  }
  marks(frame, layer.timed.map((one) => [one.folds, expected(p, one.value)]), colour("sba"), { size: 3.5 });
  const now = [state.folds, counted(p, state.folds, layer.share)];
  add(frame.group, "circle", { cx: frame.x(now[0]), cy: frame.y(now[1]), r: 8, fill: "none", stroke: colour("ink"), "stroke-width": 2 });
  return now[1];
}

function gain(svg, box, price, data) {
  const { runs, epochs } = data;
  const end = Math.max(2.2 * epochs, 1);
  const errors = runs.flatMap((run) => run.errors);
  const range = [Math.floor(Math.min(...errors) / 10) * 10, Math.ceil(Math.max(...errors) / 10) * 10];
  const ticks = Array.from({ length: (range[1] - range[0]) / 10 + 1 }, (_, i) => range[0] + 10 * i);
  const x = { range: [0, end], ticks: [0, 0.5, 1, 1.5, 2].map((v) => v * epochs), label: "training time, in plain epochs" };
  const frame = panel(svg, box, { x, y: { range, ticks, label: "test error, %" } });
  for (const { method, errors: own, views } of runs) {
    const pace = method === "sba" ? price : views;
    const points = own.map((error, epoch) => [(epoch + 1) * pace, error]);
    line(frame, points, colour(method));
    marks(frame, points, colour(method), { size: 3 });
  }
}

export default explorer({
  names: ["omega", "folds", "layer"],
  draw(svg, width, state, data) {
    const { boxes, height } = layout(width, [{ height: 300, shares: trained(state, data) ? [1, 1] : [1] }]);
    const price = step(svg, boxes[0], state, data.layers[state.layer]);
    if (trained(state, data)) gain(svg, boxes[1], price, data);
    key(svg, 20, height + 8, [
      ["SBA, by multiply–adds; ring: the sliders", colour("sba"), "dash"],
      ["SBA, measured, with quartiles", colour("sba"), "dot"],
      ["Batch Augmentation (BA): M passes", colour("ba"), "line"],
      ["plain training", colour("erm"), "line"],
    ]);
    return height + 70;
  },
  say(state, data) {
    const [p, layer] = [probability(state.omega), data.layers[state.layer]];
    const price = counted(p, state.folds, layer.share);
    const one = nearest(layer.timed, state.folds);
    const time = data.epochs;
    const told = data.runs.map(({ name, method, errors, views }) => {
      const error = errorBy(errors, method === "sba" ? price : views, time);
      return error === null ? `${name} has no epoch behind it` : `${name} ${error.toFixed(1)} %`;
    });
    return (
      `${layer.name}, p = ${p.toFixed(3)}, M = ${state.folds}: by count a step of SBA takes ${price.toFixed(2)} plain steps, ` +
      `one of BA ${state.folds}. Nearest measurement, at M = ${one.folds}: ${expected(p, one.value).toFixed(2)} (record ${one.id}). ` +
      (trained(state, data)
        ? `Test error after the time of ${time} plain epochs: ${told.join(", ")}.`
        : `Errors were measured at ${data.trained.join(" and ")} alone.`)
    );
  },
});
