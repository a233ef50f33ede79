// Ablate it: take ingredients out of SBA; the records of the ablations answer, and what was not run says so.
import { add, colour, explorer, layout, line, marks, panel, short } from "./plot.js";

export const signed = (value, digits) => `${value > 0 ? "+" : ""}${value.toFixed(digits)}`.replace("-", "−");

/** The key of what is left in: a 1 or a 0 for each ingredient. */
export const choice = (state, names) => names.map((name) => (state[name] ? "1" : "0")).join("");

function differences(svg, box, found, which, unit, range) {
  const rows = [["from SBA", found?.sba], ["from plain", found?.plain]];
  const x = { range, ticks: [range[0], 0, range[1]], label: unit };
  const frame = panel(svg, box, { x, y: { range: [2, 0], label: `${which}: below 0 is better` }, left: 74 });
  line(frame, [[0, 0], [0, 2]], colour("ink"), { "stroke-width": 1 });
  rows.forEach(([name, one], row) => {
    add(frame.over, "text", { x: frame.inner.left - 6, y: frame.y(row + 0.5) + 4, class: "tick end" }, name);
    if (!one) return;
    const [mean, half] = one[which];
    line(frame, [[mean - half, row + 0.5], [mean + half, row + 0.5]], colour("sba"), { "stroke-width": 4 });
    marks(frame, [[mean, row + 0.5]], colour("sba"), { size: 5 });
  });
}

export default explorer({
  names: ["coin", "gaussian", "dropout", "soft", "rescaled", "detached"],
  draw(svg, width, state, { names, runs, ranges }) {
    const found = runs[choice(state, names)];
    const { boxes, height } = layout(width, [{ height: 150, shares: [1, 1] }]);
    differences(svg, boxes[0], found, "error", "percentage points", ranges.error);
    differences(svg, boxes[1], found, "loss", "nats per image", ranges.loss);
    return height;
  },
  say(state, { names, words, runs }) {
    const out = names.filter((name) => !state[name]).map((name) => words[name]);
    const what = out.length ? `Without ${out.join(" and without ")}` : "SBA with all its ingredients";
    const found = runs[choice(state, names)];
    if (!found) return `${what}: not run. The study takes out one ingredient at a time; put one back.`;
    const told = ([mean, half], digits) => `${signed(mean, digits)} ± ${half.toFixed(digits)}`;
    const parts = [["sba", "SBA"], ["plain", "plain training"]].flatMap(([key, name]) =>
      found[key] ? [`${told(found[key].error, 2)} points and ${told(found[key].loss, 3)} nats from ${name}`] : [],
    );
    return `${what}: error ${found.level.toFixed(2)} %, ${parts.join(", ")} (n = ${short(found.n)}, records ${found.ids[0]} and ${found.ids.length - 1} others).`;
  },
});
