// A perceptron, Eq. 11 and a step of SGD with momentum, as sba/core computes them, in double precision. Every draw is an
// argument, and a batch of rows stands in one array, row after row.

/** A perceptron of these widths, with ReLU between its layers: uniform in ±1/√inputs, as torch.nn.Linear begins. */
export function perceptron(widths, uniform) {
  const layers = widths.slice(1).map((outputs, k) => {
    const inputs = widths[k];
    const drawn = (size) => Float64Array.from({ length: size }, () => (2 * uniform() - 1) / Math.sqrt(inputs));
    const [weight, bias] = [drawn(inputs * outputs), drawn(outputs)];
    const like = () => [weight, bias].map(({ length }) => new Float64Array(length));
    return { inputs, outputs, values: [weight, bias], gradients: like(), velocities: like() };
  });
  // h[k]: what layer k puts out, h[0] the input; d[k]: the loss's derivative by it. The arrays are used again at each step
  const tape = () => ({ h: [], d: [] });
  return { layers, raw: tape(), virtual: tape(), seen: tape() };
}

function room(arrays, k, size) {
  if (!(arrays[k]?.length >= size)) arrays[k] = new Float64Array(size);
  return arrays[k];
}

/** Run what follows layer `from`, whose rows stand in h[from]; returns the logits, valid until the tape's next run. */
export function forward(layers, { h }, rows, from = 0) {
  for (let k = from; k < layers.length; k++) {
    const { inputs, outputs, values: [weight, bias] } = layers[k];
    const [x, y, hidden] = [h[k], room(h, k + 1, rows * outputs), k + 1 < layers.length];
    for (let r = 0; r < rows; r++) {
      const [end, to] = [(r + 1) * inputs, r * outputs];
      let o = 0;
      // four sums at a time keep the processor's pipeline full: twice as fast
      for (; o + 3 < outputs; o += 4) {
        let [a, b, c, d] = [bias[o], bias[o + 1], bias[o + 2], bias[o + 3]];
        for (let at = end - inputs, w = o * inputs; at < end; at++, w++) {
          const value = x[at];
          a += weight[w] * value;
          b += weight[w + inputs] * value;
          c += weight[w + 2 * inputs] * value;
          d += weight[w + 3 * inputs] * value;
        }
        y[to + o] = a;
        y[to + o + 1] = b;
        y[to + o + 2] = c;
        y[to + o + 3] = d;
      }
      for (; o < outputs; o++) {
        let sum = bias[o];
        for (let at = end - inputs, w = o * inputs; at < end; at++, w++) sum += weight[w] * x[at];
        y[to + o] = sum;
      }
    }
    if (hidden) for (let i = 0; i < rows * outputs; i++) if (y[i] < 0) y[i] = 0;
  }
  return h[layers.length];
}

/**
 * Add the gradients of a run from layer `from` on to those of the layers; d[last] is given.
 *
 * `more` is a derivative by what layer `at` put out, from elsewhere. Returns the derivative by the rows of layer `from` > 0.
 */
export function backward(layers, { h, d }, rows, from = 0, at = 0, more = null) {
  for (let k = layers.length - 1; k >= from; k--) {
    const { inputs, outputs, values: [weight], gradients: [dWeight, dBias] } = layers[k];
    const [x, dy, dx] = [h[k], d[k + 1], room(d, k, rows * inputs).fill(0, 0, rows * inputs)];
    for (let r = 0; r < rows; r++) {
      for (let o = 0; o < outputs; o++) {
        const slope = dy[r * outputs + o];
        if (slope === 0) continue;
        dBias[o] += slope;
        for (let at = r * inputs, w = o * inputs; at < (r + 1) * inputs; at++, w++) {
          dWeight[w] += slope * x[at];
          dx[at] += slope * weight[w];
        }
      }
    }
    if (k === from) return dx;
    if (k === at && more) for (let i = 0; i < rows * inputs; i++) dx[i] += more[i];
    for (let i = 0; i < rows * inputs; i++) if (!(x[i] > 0)) dx[i] = 0;
  }
  return null;
}

/** softmax of each row of logits. */
export function softmax(logits, rows, classes) {
  const y = new Float64Array(rows * classes);
  for (let start = 0; start < y.length; start += classes) {
    let [top, sum] = [-Infinity, 0];
    for (let c = 0; c < classes; c++) top = Math.max(top, logits[start + c]);
    for (let c = 0; c < classes; c++) sum += y[start + c] = Math.exp(logits[start + c] - top);
    for (let c = 0; c < classes; c++) y[start + c] /= sum;
  }
  return y;
}

/** Rows of 0 and 1 for labels. */
export function hot(labels, classes) {
  const rows = new Float64Array(labels.length * classes);
  labels.forEach((label, i) => (rows[i * classes + label] = 1));
  return rows;
}

/**
 * Mean over rows of D_KL(target ‖ softmax(logits)) in nats (Eq. 10), the cross-entropy if targets are 0 and 1 (Eqs. 9 and 11).
 *
 * Targets are constants; row r of the logits belongs to row r mod `target.length / classes`. If `d` is given, it gets
 * weight · the derivative by the logits.
 */
export function divergence(target, logits, rows, classes, d = null, weight = 1) {
  let whole = 0;
  for (let r = 0; r < rows; r++) {
    const [z, t] = [r * classes, (r * classes) % target.length];
    let [top, sum] = [-Infinity, 0];
    for (let c = 0; c < classes; c++) top = Math.max(top, logits[z + c]);
    for (let c = 0; c < classes; c++) sum += Math.exp(logits[z + c] - top);
    const norm = top + Math.log(sum);
    for (let c = 0; c < classes; c++) {
      const [y, log] = [target[t + c], logits[z + c] - norm];
      if (y > 0) whole += y * (Math.log(y) - log);
      if (d) d[z + c] = (weight * (Math.exp(log) - y)) / rows;
    }
  }
  return whole / rows;
}

/** Standard deviation of each feature over the batch: the unit of σ. */
export function featureStd(h, rows, width) {
  return Float64Array.from({ length: width }, (_, q) => {
    let [mean, sum] = [0, 0];
    for (let r = 0; r < rows; r++) mean += h[r * width + q] / rows;
    for (let r = 0; r < rows; r++) sum += (h[r * width + q] - mean) ** 2;
    return Math.sqrt(sum / rows);
  });
}

/** Σ, column after column: Gaussian entries, given row by row, every column divided by its norm. */
export function colnorm(entries, width) {
  const columns = new Float64Array(width * width);
  for (let c = 0; c < width; c++) {
    let norm = 0;
    for (let r = 0; r < width; r++) norm += entries[r * width + c] ** 2;
    for (let r = 0; r < width; r++) columns[c * width + r] = entries[r * width + c] / Math.sqrt(norm);
  }
  return columns;
}

/**
 * Virtual points of a batch, all of j = 1, then all of j = 2, …: first the Gaussian ones (Eq. 7), then those of dropout (Eq. 8).
 *
 * draws: {entries, standard, uniform}: normal draws for Σ and for ε, and uniform ones for the masks.
 * factor(i): what entry i of the points is of the raw entry, the derivative of one by the other.
 */
export function virtualPoints(h, rows, width, unit, settings, { entries, standard, uniform }) {
  const [batch, { sigma, tau, dropout_rate: rate }] = [rows * width, settings];
  const [noise, bound] = [standard.length, tau * sigma];
  const points = new Float64Array(noise + uniform.length);
  const columns = noise ? colnorm(entries, width) : null;
  for (let start = 0; start < noise; start += width) {
    for (let c = 0; c < width; c++) {
      const epsilon = Math.max(-bound, Math.min(bound, sigma * standard[start + c]));
      for (let r = 0; r < width; r++) points[start + r] += columns[c * width + r] * epsilon;
    }
    for (let r = 0; r < width; r++) points[start + r] = h[(start + r) % batch] + unit[r] * points[start + r];
  }
  const factor = (i) => (i < noise ? 1 : uniform[i - noise] >= rate ? 1 / (1 - rate) : 0);
  for (let i = noise; i < points.length; i++) points[i] = h[i % batch] * factor(i);
  return { points, factor };
}

/** p of M points, the Gaussian ones: halves are rounded up. */
export const gaussians = (folds, share) => Math.floor(folds * share + 0.5);

/** cos ω, exactly 0 at a right angle (§3.2). */
export const chance = (omega) => (omega >= Math.PI / 2 ? 0 : Math.cos(omega));

/** λ(t) as training acts on it: without a weight no point is made. */
export const augmented = (settings, coin) => settings.eta > 0 && coin < chance(settings.omega);

/** The virtual term's gradients at layer k, added to the layers'; returns its mean before η, and its derivative by h_k. */
function pull(model, k, rows, labels, settings, draws) {
  const { layers, raw, virtual } = model;
  const [width, classes, batch] = [layers[k].inputs, layers.at(-1).outputs, rows * layers[k].inputs];
  const p = gaussians(settings.folds, settings.gaussian_share);
  const drawn = draws.vicinity(width, p * batch, (settings.folds - p) * batch);
  const made = virtualPoints(raw.h[k], rows, width, featureStd(raw.h[k], rows, width), settings, drawn);
  virtual.h[k] = made.points;
  const many = rows * settings.folds;
  const target = settings.label === "soft" ? softmax(raw.h.at(-1), rows, classes) : hot(labels, classes);
  const logits = forward(layers, virtual, many, k);
  const mean = divergence(target, logits, many, classes, room(virtual.d, layers.length, many * classes), settings.eta);
  const slopes = backward(layers, virtual, many, k);
  const more = new Float64Array(batch);
  for (let i = 0; i < many * width; i++) more[i % batch] += slopes[i] * made.factor(i);
  return { mean, more };
}

/**
 * Do one step down Eq. 11. Returns the terms and where the batch was augmented: {cross_entropy, virtual, layer}, −1 for nowhere.
 *
 * batch: {x, labels}, x of shape (B, 2).
 * settings: SBA's hyper-parameters by their names, `layers` as numbers (0 is the input), `rate` and `momentum` of SGD.
 * draws: {coin, layer, vicinity(width, normals, uniforms)}: two uniform numbers, and what `virtualPoints` asks for.
 */
export function step(model, { x, labels }, settings, draws) {
  const { layers, raw } = model;
  const [rows, classes] = [labels.length, layers.at(-1).outputs];
  for (const { gradients } of layers) gradients.forEach((array) => array.fill(0));
  raw.h[0] = x;
  const logits = forward(layers, raw, rows);
  const terms = { virtual: 0, layer: -1 };
  terms.cross_entropy = divergence(hot(labels, classes), logits, rows, classes, room(raw.d, layers.length, rows * classes));
  let more = null;
  if (augmented(settings, draws.coin)) {
    terms.layer = settings.layers[Math.floor(draws.layer * settings.layers.length)];
    const pulled = pull(model, terms.layer, rows, labels, settings, draws);
    terms.virtual = settings.eta * pulled.mean;
    more = pulled.more;
  }
  backward(layers, raw, rows, 0, terms.layer, more);
  for (const { values, gradients, velocities } of layers) {
    values.forEach((value, part) => {
      const [gradient, velocity] = [gradients[part], velocities[part]];
      for (let i = 0; i < value.length; i++) value[i] -= settings.rate * (velocity[i] = settings.momentum * velocity[i] + gradient[i]);
    });
  }
  return terms;
}

/** Probabilities of the classes at points of the plane, of shape (rows, classes). */
export function predict({ layers, seen }, x, rows) {
  seen.h[0] = x;
  return softmax(forward(layers, seen, rows), rows, layers.at(-1).outputs);
}

/** Mean cross-entropy and share of errors on labelled points. */
export function evaluate({ layers, seen }, { x, labels }) {
  const [rows, classes] = [labels.length, layers.at(-1).outputs];
  seen.h[0] = x;
  const logits = forward(layers, seen, rows);
  const wrong = labels.filter((label, r) => {
    const own = logits.subarray(r * classes, (r + 1) * classes);
    return own.indexOf(Math.max(...own)) !== label;
  });
  return { loss: divergence(hot(labels, classes), logits, rows, classes), error: wrong.length / rows };
}
