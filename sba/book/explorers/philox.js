// Draws that are a pure function of (seed, purpose, step): Philox4x32-10 (Salmon et al., 2011), keyed by seed and purpose.

const PURPOSES = ["weights", "points", "noise", "test", "order", "coin", "layer", "basis", "normal", "mask"];

/** The high 32 bits of a product of two numbers of 32 bits. */
function high(a, b) {
  const [low, top] = [a & 0xffff, a >>> 16];
  const [other, upper] = [b & 0xffff, b >>> 16];
  const first = top * other + ((low * other) >>> 16);
  const second = low * upper + (first & 0xffff);
  return (top * upper + (first >>> 16) + (second >>> 16)) >>> 0;
}

/** Ten rounds on a counter of four words under a key of two: four pseudo-random words. */
export function philox([a, b, c, d], [k, l]) {
  for (let round = 0; round < 10; round++) {
    const [p, q] = [high(0xd2511f53, a), high(0xcd9e8d57, c)];
    const [r, s] = [Math.imul(0xd2511f53, a), Math.imul(0xcd9e8d57, c)];
    [a, b, c, d] = [(q ^ b ^ k) >>> 0, s >>> 0, (p ^ d ^ l) >>> 0, r >>> 0];
    k = (k + 0x9e3779b9) >>> 0;
    l = (l + 0xbb67ae85) >>> 0;
  }
  return [a, b, c, d];
}

/** n uniform draws in (0, 1). */
export function uniforms(seed, purpose, step, n) {
  const key = [seed >>> 0, PURPOSES.indexOf(purpose)];
  const drawn = new Float64Array(n);
  for (let i = 0; i < n; i += 4) {
    const words = philox([i / 4, step >>> 0, 0, 0], key);
    for (let j = 0; j < 4 && i + j < n; j++) drawn[i + j] = (words[j] + 0.5) / 2 ** 32;
  }
  return drawn;
}

/** n standard normal draws, by Box and Muller. */
export function normals(seed, purpose, step, n) {
  const drawn = uniforms(seed, purpose, step, n + (n % 2));
  for (let i = 0; i < n; i += 2) {
    const [size, turn] = [Math.sqrt(-2 * Math.log(drawn[i])), 2 * Math.PI * drawn[i + 1]];
    drawn[i] = size * Math.cos(turn);
    drawn[i + 1] = size * Math.sin(turn);
  }
  return n % 2 ? drawn.subarray(0, n) : drawn;
}

/** The numbers 0 … n−1 in random order. */
export function permutation(seed, purpose, step, n) {
  const drawn = uniforms(seed, purpose, step, n);
  return Array.from(drawn.keys()).sort((a, b) => drawn[a] - drawn[b]);
}
