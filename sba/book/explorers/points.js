// Virtual points, as sba/vicinity.py makes them: every draw is an argument (Eqs. 7 and 8).

const CENTRAL = [
  [2.50662823884, -18.61500062529, 41.39119773534, -25.44106049637],
  [-8.4735109309, 23.08336743743, -21.06224101826, 3.13082909833],
];
const OUTER = [
  0.3374754822726147, 0.9761690190917186, 0.1607979714918209, 0.0276438810333863, 0.0038405729373609,
  0.0003951896511919, 0.0000321767881768, 0.0000002888167364, 0.0000003960315187,
];

/** Φ, the distribution function of the standard normal, by its series or the continued fraction of its tail. */
export function normalCdf(x) {
  const size = Math.abs(x);
  const density = Math.exp((-size * size) / 2) / Math.sqrt(2 * Math.PI);
  let tail = 0;
  if (size < 3) {
    let term = size;
    let sum = size;
    for (let n = 3; term > 1e-17 * sum; n += 2) sum += term *= (size * size) / n;
    tail = 0.5 - density * sum;
  } else {
    let fraction = size;
    for (let n = 60; n > 0; n--) fraction = size + n / fraction;
    tail = density / fraction;
  }
  return x > 0 ? 1 - tail : tail;
}

/** Its inverse: the start of Moro (1995), then Newton's steps. */
export function normalQuantile(u) {
  const y = u - 0.5;
  let x;
  if (Math.abs(y) < 0.42) {
    const r = y * y;
    const [top, bottom] = CENTRAL.map((row) => row.reduceRight((sum, a) => sum * r + a, 0));
    x = (y * top) / (1 + r * bottom);
  } else {
    const r = Math.log(-Math.log(y > 0 ? 1 - u : u));
    x = Math.sign(y) * OUTER.reduceRight((sum, a) => sum * r + a, 0);
  }
  for (let i = 0; i < 2; i++) x -= ((normalCdf(x) - u) * Math.sqrt(2 * Math.PI)) / Math.exp((-x * x) / 2);
  return x;
}

/** ε of Eq. 7 from uniform draws: a normal draw clipped to [−τ, τ], or one of the law truncated there. */
export function boundedNoise(uniform, sigma, tau, bound) {
  if (sigma === 0) return Float64Array.from(uniform, () => 0);
  const tail = bound === "truncate" ? normalCdf(-tau / sigma) : 0;
  return Float64Array.from(uniform, (u) => {
    const x = sigma * normalQuantile(tail + (1 - 2 * tail) * u);
    return Math.max(-tau, Math.min(tau, x));
  });
}

/** V_g of Eq. 7: h + s ⊙ Σε for each ε of `noise`, rows of the width of h; Σ by rows, s may be left out. */
export function gaussianPoints(h, matrix, noise, spread) {
  const q = h.length;
  const points = [];
  for (let start = 0; start < noise.length; start += q) {
    const point = new Float64Array(q);
    for (let r = 0; r < q; r++) {
      let sum = 0;
      for (let c = 0; c < q; c++) sum += matrix[r * q + c] * noise[start + c];
      point[r] = h[r] + (spread ? spread[r] : 1) * sum;
    }
    points.push(point);
  }
  return points;
}

/** V_d of Eq. 8 from uniform draws: features are deleted with probability `rate`, the others divided by 1 − rate. */
export function dropoutPoints(h, uniform, rate, rescale = true) {
  const q = h.length;
  const points = [];
  for (let start = 0; start < uniform.length; start += q) {
    points.push(Float64Array.from(h, (value, c) => (uniform[start + c] >= rate ? value / (rescale ? 1 - rate : 1) : 0)));
  }
  return points;
}

/** p, the number of Gaussian points among M: the share of M, halves rounded up. */
export const gaussianCount = (folds, share) => Math.floor(folds * share + 0.5);
