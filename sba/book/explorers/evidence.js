// Is there evidence? The difference of a method from plain training as seeds are added, its interval, and the paper's claim.
import { add, colour, explorer, key, layout, line, marks, panel, short } from "./plot.js";

const signed = (value) => `${value > 0 ? "+" : ""}${value.toFixed(2)}`.replace("-", "−");

/** Round ends of an axis that holds values and zero, with a fifth of their range to spare. */
export function ends(values) {
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const step = 10 ** Math.floor(Math.log10(Math.max(high - low, 1e-6)));
  const spare = 0.1 * (high - low);
  return [Math.floor((low - spare) / step) * step, Math.ceil((high + spare) / step) * step];
}

/** What the first n seeds say, and whether that decides anything. */
export function verdict({ mean, half }, n, least) {
  if (n < least) return `Fewer than ${least} seeds decide nothing.`;
  if (Math.abs(mean) <= half) return "The interval holds zero: no difference is shown.";
  return mean < 0 ? "The interval lies below zero: the error is lower." : "The interval lies above zero: the error is higher.";
}

export default explorer({
  names: ["setting", "seeds"],
  draw(svg, width, state, { settings }) {
    const { steps, claim, differences } = settings[state.setting];
    const n = Math.min(state.seeds, steps.length);
    // the interval of two seeds may be huge: the axis holds those of the others and all differences
    const wide = steps.slice(2).flatMap(({ mean, half }) => [mean - half, mean + half]);
    const range = ends([...differences, ...wide, ...(claim === null ? [] : [claim])]);
    const { boxes, height } = layout(width, [{ height: 260, shares: [1] }]);
    const x = { range: [0.5, steps.length + 0.5], ticks: steps.map((_, i) => i + 1), label: "number of seeds" };
    const ticks = [range[0], 0, range[1]];
    const frame = panel(svg, boxes[0], { x, y: { range, ticks, label: "error minus plain training's, points" } });
    line(frame, [[0.5, 0], [steps.length + 0.5, 0]], colour("erm"), { "stroke-width": 1.2 });
    if (claim !== null) line(frame, [[0.5, claim], [steps.length + 0.5, claim]], colour("sba"), { "stroke-dasharray": "6 4" });
    steps.forEach(({ mean, half }, i) => {
      const opacity = i + 1 === n ? 1 : 0.25;
      if (half !== null) line(frame, [[i + 1, mean - half], [i + 1, mean + half]], colour("shade1"), { "stroke-width": 4, opacity });
      marks(frame, [[i + 1, mean]], colour("shade1"), { size: 5, opacity });
    });
    marks(frame, differences.slice(0, n).map((value) => [0.62, value]), colour("ink"), { shape: "dash", size: 5 });
    key(svg, 20, height + 8, [
      ["mean and 95 % interval of the first seeds", colour("shade1"), "line"],
      ["each seed", colour("ink"), "dash"],
      ...(claim === null ? [] : [["the paper's claim", colour("sba"), "dash"]]),
    ]);
    return height + 60;
  },
  say(state, { settings, least }) {
    const { name, steps, claim, ids } = settings[state.setting];
    const n = Math.min(state.seeds, steps.length);
    const { mean, half } = steps[n - 1];
    const spread = half === null ? "" : ` ± ${half.toFixed(2)}`;
    const inside = half !== null && Math.abs(claim - mean) <= half ? "inside" : "outside";
    const claimed = claim === null ? "" : half === null ? ` The paper claims ${signed(claim)}.` : ` The paper's ${signed(claim)} lies ${inside} the interval.`;
    return `${name}, ${short(n)} of ${steps.length} seeds: ${signed(mean)}${spread} points. ${verdict({ mean, half }, n, least)}${claimed} Records: ${ids.slice(0, n).join(", ")}.`;
  },
});
