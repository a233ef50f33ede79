// Draws that are a pure function of (seed, purpose, step): Philox4x32-10 (Salmon et al., 2011), keyed by seed and purpose.

const PURPOSES = ["weights", "points", "noise", "test", "order", "coin", "layer", "basis", "normal", "mask"];

/** The high 32 bits of a product of two numbers of 32 bits. */
function high(a, b) {
  const [low, top, other, upper] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const first = top * other + ((low * other) >>> 16);
  const second = low * upper + (first & 0xffff);
  return (top * upper + (first >>> 16) + (second >>> 16)) >>> 0;
}

const WORDS = new Uint32Array(4);

/** Ten rounds on a counter of four words under a key of two: four pseudo-random words, valid until the next call. */
export function philox(counter, key) {
  let [a, b, c, d] = [counter[0], counter[1], counter[2], counter[3]];
  let [k, l] = [key[0], key[1]];
  for (let round = 0; round < 10; round++) {
    const p = high(0xd2511f53, a);
    const q = high(0xcd9e8d57, c);
    const r = Math.imul(0xd2511f53, a);
    a = (q ^ b ^ k) >>> 0;
    b = Math.imul(0xcd9e8d57, c) >>> 0;
    c = (p ^ d ^ l) >>> 0;
    d = r >>> 0;
    k = (k + 0x9e3779b9) >>> 0;
    l = (l + 0xbb67ae85) >>> 0;
  }
  WORDS[0] = a;
  WORDS[1] = b;
  WORDS[2] = c;
  WORDS[3] = d;
  return WORDS;
}

/** n uniform draws in (0, 1). */
export function uniforms(seed, purpose, step, n) {
  const [key, counter] = [[seed >>> 0, PURPOSES.indexOf(purpose)], [0, step >>> 0, 0, 0]];
  const drawn = new Float64Array(n);
  for (let i = 0; i < n; i += 4) {
    counter[0] = i / 4;
    const words = philox(counter, key);
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
