// The vicinity: virtual points on a plane and in a layer, under σ, τ, their split, the dropout rate and Σ.
import { add, colour, explorer, key, layout, line, marks, numbers, panel, short } from "./plot.js";
import { boundedNoise, dropoutPoints, gaussianCount, gaussianPoints } from "./points.js";

/** Half the width of a view that holds points around a middle: a power of two, so that the cloud is seen to grow in it. */
export function reach(points, middle) {
  const far = Math.max(...points.flatMap((point) => [0, 1].map((axis) => Math.abs(point[axis] - middle[axis]))), 1e-3);
  return 2 ** Math.ceil(Math.log2(1.05 * far));
}

/** Of all points, or of a cloud that would be no more than a dot among them: then the others lie outside. */
export function zoom(cloud, others, middle) {
  const [near, all] = [reach(cloud, middle), reach([...cloud, ...others], middle)];
  return cloud.length && near < all / 4 ? near : all;
}

/** Write a place with as many digits as the size of its view asks for. */
export const written = (v, size) => String(Number(v.toFixed(Math.max(0, 2 - Math.floor(Math.log10(size)))))).replace("-", "−");

/** The ranges of a view, and its ticks. */
const view = ([x, y], size) =>
  [x, y].map((at) => ({ range: [at - size, at + size], ticks: [at - size, at, at + size], write: (v) => written(v, size) }));

/** The points of one panel: {gaussian, dropout}, for the settings of the sliders. */
export function cloud(drawn, state, data) {
  const { h, uniforms, masks, matrices, spread } = drawn;
  const p = gaussianCount(data.folds, state.gaussian_share) * h.length;
  const noise = boundedNoise(uniforms.subarray(0, p), state.sigma, state.tau * state.sigma, data.bounds[state.bound]);
  return {
    noise,
    gaussian: gaussianPoints(h, matrices[state.basis], noise, spread),
    dropout: dropoutPoints(h, masks.subarray(p), state.dropout_rate),
  };
}

/** Mean distance of points from their raw point, NaN for none. */
export function distance(points, h) {
  const lengths = points.map((point) => Math.hypot(...point.map((value, q) => value - h[q])));
  return lengths.reduce((a, b) => a + b, 0) / lengths.length;
}

function unpack(drawn) {
  const matrices = drawn.matrices.map(numbers);
  const [h, uniforms, masks, spread] = ["h", "uniforms", "masks", "spread"].map((name) => numbers(drawn[name]));
  return { ...drawn, h, uniforms, masks, spread, matrices };
}

function drawCloud(frame, raw, gaussian, dropout) {
  marks(frame, dropout, colour("ba"), { shape: "cross", size: 3.2 });
  marks(frame, gaussian, colour("sba"), { size: 2.2, opacity: 0.75 });
  const ring = { cx: frame.x(raw[0]), cy: frame.y(raw[1]), r: 7, fill: "none", stroke: colour("ink"), "stroke-width": 2 };
  add(frame.group, "circle", ring);
}

function plane(svg, box, { h, matrices, spread }, points, state) {
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]].flat().map((side) => side * state.tau * state.sigma);
  const edge = gaussianPoints(h, matrices[state.basis], corners, spread);
  const [x, y] = view(h, zoom(points.gaussian.length ? [...points.gaussian, ...edge] : [], points.dropout, h));
  const labels = ["feature 1", "two features: feature 2 against 1"];
  const frame = panel(svg, box, { x: { ...x, label: labels[0] }, y: { ...y, label: labels[1] } });
  line(frame, edge, colour("grey"), { "stroke-dasharray": "3 3", "stroke-width": 1.2 });
  drawCloud(frame, h, points.gaussian, points.dropout);
}

function layer(svg, box, drawn, points) {
  const { view: axes, centre, others, name, h } = drawn;
  const flat = (point) => [0, 1].map((axis) => axes.reduce((sum, row, q) => sum + row[axis] * (point[q] - centre[q]), 0));
  const [raw, gaussian, dropout] = [flat(h), points.gaussian.map(flat), points.dropout.map(flat)];
  const [x, y] = view(raw, zoom(gaussian, dropout, raw));
  const labels = ["first principal component", `${h.length} features (${name}): second component`];
  const frame = panel(svg, box, { x: { ...x, label: labels[0] }, y: { ...y, label: labels[1] } });
  marks(frame, others, colour("mark"), { size: 1.8 });
  drawCloud(frame, raw, gaussian, dropout);
}

function clouds(state, data) {
  return { plane: cloud(data.plane, state, data), layer: cloud(data.layer, state, data) };
}

export default explorer({
  names: ["sigma", "tau", "gaussian_share", "dropout_rate", "basis", "bound"],
  prepare: (data) => ({ ...data, plane: unpack(data.plane), layer: unpack(data.layer) }),
  draw(svg, width, state, data) {
    const points = clouds(state, data);
    const { boxes, height } = layout(width, [{ height: 320, shares: [1, 1.12] }]);
    plane(svg, boxes[0], data.plane, points.plane, state);
    layer(svg, boxes[1], data.layer, points.layer);
    const entries = [["raw point", colour("ink"), "ring"], ["Gaussian points", colour("sba"), "dot"], ["other samples", colour("mark"), "dot"]];
    key(svg, 20, height + 4, [...entries, ["dropout points", colour("ba"), "cross"], ["dashed: the bound of ε", colour("grey"), "dash"]]);
    return height + 94;
  },
  say(state, data) {
    const { layer: points, plane: flat } = clouds(state, data);
    const { h } = data.layer;
    const bound = state.tau * state.sigma;
    const all = [...flat.noise, ...points.noise];
    const cut = all.filter((value) => Math.abs(value) >= bound * (1 - 1e-12)).length / all.length;
    const far = ([name, set]) => (set.length ? `${name} ${short(distance(set, h))}` : `no ${name}`);
    const kinds = [["Gaussian points", points.gaussian], ["dropout points", points.dropout]].map(far).join(", ");
    const share = all.length && state.sigma ? ` ${Math.round(100 * cut)} % of the noise components lie on the bound.` : "";
    return (
      `p = ${points.gaussian.length} Gaussian and q = ${points.dropout.length} dropout points. ` +
      `Mean distance from the raw point in the layer: ${kinds}; ` +
      `from there to another sample it is ${short(data.layer.apart)}.${share}`
    );
  },
});
