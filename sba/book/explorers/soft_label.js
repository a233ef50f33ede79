// The soft label: one sample's prediction, those of its virtual points, and what their divergence weighs.
import { bars, colour, explorer, key, layout, line, marks, numbers, panel, raised, short } from "./plot.js";
import { boundedNoise, dropoutPoints, gaussianCount, gaussianPoints } from "./points.js";

/** log Σ exp of logits, without overflow. */
export function logSumExp(z) {
  const top = Math.max(...z);
  return top + Math.log(z.reduce((sum, value) => sum + Math.exp(value - top), 0));
}

/** log softmax(z). */
export function logSoftmax(z) {
  const whole = logSumExp(z);
  return z.map((value) => value - whole);
}

/** D_KL(softmax z ‖ softmax z′) in nats (Eq. 10). */
export function kl(reference, virtual) {
  const [y, v] = [logSoftmax(reference), logSoftmax(virtual)];
  return y.reduce((sum, value, c) => sum + Math.exp(value) * (value - v[c]), 0);
}

/** −log of the probability of the label. */
export const crossEntropy = (z, label) => -logSoftmax(z)[label];

/** Logits behind the last linear layer: Wh + b, W by rows. */
export function logits(h, weight, bias) {
  return Array.from(bias, (b, c) => {
    let sum = b;
    for (let q = 0; q < h.length; q++) sum += weight[c * h.length + q] * h[q];
    return sum;
  });
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const WIDEST = 2;
const ROUNDING = 1e-13;

/** Logits of the raw sample and of its virtual points of both kinds. */
export function predictions(state, data) {
  const { weight, bias, masks, matrix, spread, folds, tau } = data;
  const sample = data.samples[state.sample];
  const z = logits(sample.h, weight, bias);
  const read = (h) => logits(h, weight, bias);
  const p = gaussianCount(folds, state.gaussian_share) * sample.h.length;
  const noise = boundedNoise(data.uniforms.subarray(0, p), state.sigma, tau * state.sigma, "clip");
  const gaussian = gaussianPoints(sample.h, matrix, noise, spread).map(read);
  const dropout = dropoutPoints(sample.h, masks.subarray(p), state.dropout_rate).map(read);
  return { sample, z, gaussian, dropout };
}

/** The terms of Eq. 11 for this sample at λ(t) = 1: cross-entropy, the mean divergence, and the means of the two kinds. */
export function losses({ sample, z, gaussian, dropout }) {
  const [g, d] = [gaussian, dropout].map((set) => set.map((virtual) => kl(z, virtual)));
  return { ce: crossEntropy(z, sample.label), kl: mean([...g, ...d]), gaussian: mean(g), dropout: mean(d) };
}

function probabilities(svg, box, { sample, z, gaussian, dropout }, classes) {
  const x = { range: [-0.6, classes.length - 0.4], ticks: classes.map((_, c) => c), write: (c) => classes[c], label: "class" };
  const frame = panel(svg, box, { x, y: { range: [0, 1.02], ticks: [0, 0.5, 1], label: `probability; the label is ${classes[sample.label]}` } });
  const own = logSoftmax(z).map(Math.exp);
  bars(frame, own.map((y, c) => [c, y]), colour("bar"), 0.84);
  const dots = (set, at) =>
    set.flatMap((virtual, j) => logSoftmax(virtual).map((y, c) => [c + at + 0.26 * ((((j * 7) % set.length) + 0.5) / set.length - 0.5), Math.exp(y)]));
  marks(frame, dots(gaussian, -0.2), colour("sba"), { size: 2, opacity: 0.7 });
  marks(frame, dots(dropout, 0.2), colour("ba"), { shape: "cross", size: 2.2, opacity: 0.8 });
}

function weights(svg, box, state, terms, path) {
  // as far as the curve goes; what is 0 up to rounding has no place on a logarithmic axis
  const curve = path.map(([sigma, value]) => [sigma, state.eta * value]).filter(([, value]) => value > ROUNDING);
  const values = [...curve.map(([, value]) => value), terms.ce, state.eta * terms.kl].filter((value) => value > ROUNDING);
  const range = [Math.min(...values) / 2, Math.max(...values) * 2];
  const x = { range: [0, WIDEST], ticks: [0, 0.5, 1, 1.5, 2], label: "σ" };
  const every = Math.ceil(Math.log10(range[1] / range[0]) / 5);
  const ticks = Array.from({ length: 24 }, (_, i) => 10 ** (i - 20)).filter((v, i) => i % every === 0 && v >= range[0] && v <= range[1]);
  const write = (value) => `10${raised(Math.round(Math.log10(value)))}`;
  const frame = panel(svg, box, { x, y: { range, log: true, ticks, write, label: "nats, logarithmic" }, left: 48 });
  line(frame, [[0, terms.ce], [WIDEST, terms.ce]], colour("ink"));
  line(frame, curve, colour("sba"));
  if (state.eta * terms.kl > ROUNDING) marks(frame, [[state.sigma, state.eta * terms.kl]], colour("sba"), { size: 6 });
}

export default explorer({
  names: ["sample", "sigma", "dropout_rate", "gaussian_share", "eta"],
  prepare: (data) => {
    const [weight, bias, uniforms, masks, matrix, spread] = ["weight", "bias", "uniforms", "masks", "matrix", "spread"].map((name) => numbers(data[name]));
    const samples = data.samples.map((sample) => ({ ...sample, h: numbers(sample.h) }));
    return { ...data, weight, bias, uniforms, masks, matrix, spread, samples };
  },
  draw(svg, width, state, data) {
    const found = predictions(state, data);
    const terms = losses(found);
    // clipping at τσ scales with σ, so that behind a linear layer the logits are linear in it: one point gives the line
    const one = state.gaussian_share > 0 ? predictions({ ...state, sigma: 1 }, data).gaussian : [];
    const path = Array.from({ length: 41 }, (_, i) => (i * WIDEST) / 40).map((sigma) => {
      const moved = one.map((virtual) => virtual.map((value, c) => found.z[c] + sigma * (value - found.z[c])));
      return [sigma, losses({ ...found, gaussian: moved }).kl];
    });
    const { boxes, height } = layout(width, [{ height: 270, shares: [1.35, 1] }]);
    probabilities(svg, boxes[0], found, data.classes);
    weights(svg, boxes[1], state, terms, path);
    key(svg, 20, height + 8, [
      ["raw prediction Y_i, the soft label", colour("bar"), "bar"],
      ["Y_ij of Gaussian points", colour("sba"), "dot"],
      ["Y_ij of dropout points", colour("ba"), "cross"],
    ]);
    const apart = width >= 560 ? [width * 0.575, height + 8] : [20, height + 59];
    key(svg, ...apart, [["cross-entropy of Y_i", colour("ink"), "line"], ["η · mean KL(Y_i ‖ Y_ij), against σ", colour("sba"), "line"]]);
    return width >= 560 ? height + 52 : height + 90;
  },
  say(state, data) {
    const found = predictions(state, data);
    const terms = losses(found);
    const own = Math.exp(-terms.ce);
    const weighed = state.eta * terms.kl;
    const kind = (name, value) => (Number.isFinite(value) ? ` ${name} ${short(value)}.` : "");
    return (
      `Label ${data.classes[found.sample.label]}, predicted with probability ${own.toFixed(3)}: cross-entropy ${short(terms.ce)} nats. ` +
      `Mean divergence ${short(terms.kl)} nats.${kind("Gaussian points:", terms.gaussian)}${kind("Dropout points:", terms.dropout)} ` +
      `With η = ${short(state.eta, 2)} the second term is ${short(weighed)} nats, ${short(weighed / terms.ce, 2)} times the first.`
    );
  },
});
