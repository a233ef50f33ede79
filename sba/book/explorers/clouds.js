// Labelled points of the plane, of two classes: every draw is an argument.

const TURNS = 1.25;

/** Where a share of the way along the curve of a class lies: t in [0, 1]. */
const CURVES = {
  // scikit-learn's half moons, moved to the middle
  "two moons": (t, c) => {
    const [x, y] = [Math.cos(Math.PI * t), Math.sin(Math.PI * t)];
    return c ? [0.5 - x, 0.25 - y] : [x - 0.5, y - 0.25];
  },
  circles: (t, c) => [Math.cos(2 * Math.PI * t), Math.sin(2 * Math.PI * t)].map((v) => v * (c ? 0.5 : 1.3)),
  spirals: (t, c) => {
    const [r, angle] = [0.15 + 1.3 * t, 2 * Math.PI * TURNS * t + Math.PI * c];
    return [r * Math.cos(angle), r * Math.sin(angle)];
  },
};

/** The names of the clouds that are drawn; any other is the reader's own. */
export const CLOUDS = Object.keys(CURVES);

/**
 * n points, every other one of class 1, as {x, labels}: x holds coordinate after coordinate.
 *
 * along: n uniform draws; normal: 2n normal draws; noise: their standard deviation.
 */
export function cloud(name, along, normal, noise) {
  const labels = Array.from(along, (_, i) => i % 2);
  const curve = labels.flatMap((label, i) => CURVES[name](along[i], label));
  return { x: Float64Array.from(curve, (value, i) => value + noise * normal[i]), labels };
}

/** Copies of the reader's points [[x, y, label], …], moved by noise, which takes 2 · n · copies normal draws. */
export function around(own, copies, normal, noise) {
  const all = Array.from({ length: copies }, () => own).flat();
  return { x: Float64Array.from(all.flatMap(([x, y]) => [x, y]), (value, i) => value + (noise && noise * normal[i])), labels: all.map((point) => point[2]) };
}
