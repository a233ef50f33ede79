// When does it help? Contenders against plain training, in one condition and one measure of the study of little data.
import { add, colour, explorer, layout, line, marks, panel, short } from "./plot.js";

const LEFT = 148;
const ROW = 25;

const PLACES = ["images", "noise", "network"];

/** The answers of the condition that the controls name; undefined if the study has none there. */
export function answer(state, { answers, values }) {
  return answers.find(({ at }) => at.every((value, i) => value === values[i][state[PLACES[i]]]));
}

/** Where the controls go, if the study has no condition where they are: the control that was moved stays, the others follow. */
export function settled(state, data, before) {
  if (answer(state, data)) return state;
  const place = ({ at }) => Object.fromEntries(PLACES.map((name, i) => [name, data.values[i].indexOf(at[i])]));
  const moved = PLACES.find((name) => state[name] !== before[name]) ?? PLACES[0];
  const near = data.answers.map(place).filter((to) => to[moved] === state[moved]);
  const equal = (to) => PLACES.filter((name) => to[name] === state[name]).length;
  return { ...state, ...near.reduce((best, to) => (equal(to) > equal(best) ? to : best)) };
}

/** Round ends of an axis that holds all intervals and zero. */
export function span(rows) {
  const all = [0, ...rows.filter(({ mean }) => mean !== null).flatMap(({ low, high }) => [low, high])];
  const most = Math.max(...all.map(Math.abs), 1e-3);
  const step = 10 ** Math.floor(Math.log10(most));
  const end = Math.ceil(most / step) * step;
  return [-end, end];
}

/** The names of rows with a verdict, or "none". */
export function names(rows, better) {
  const found = rows.filter(({ decided, mean }) => decided && mean < 0 === better).map(({ name }) => name);
  return found.length ? found.join(", ") : "none";
}

/** A contender's difference, its interval and its verdict, or how many of its runs there are. */
export function told({ name, mean, low, high, verdict }) {
  return `${name} ${short(mean)} [${short(low)}, ${short(high)}], ${verdict}`;
}

export default explorer({
  names: [...PLACES, "measure"],
  prepare: (data) => ({ ...data, before: {} }),
  settle(state, data) {
    return (data.before = settled(state, data, data.before));
  },
  draw(svg, width, state, data) {
    const found = answer(state, data);
    const rows = found.measures[state.measure];
    const { name: measure, unit } = data.measures[state.measure];
    const range = span(rows);
    const { boxes, height } = layout(width, [{ height: 70 + ROW * rows.length, shares: [1] }]);
    const x = { range, ticks: [range[0], 0, range[1]], label: `minus plain training, ${unit}` };
    const frame = panel(svg, boxes[0], { x, y: { range: [rows.length, 0], label: `${found.name}: ${measure}` }, left: LEFT });
    line(frame, [[0, 0], [0, rows.length]], colour("ink"), { "stroke-width": 1 });
    rows.forEach(({ name, mean, low, high, decided }, row) => {
      const y = row + 0.5;
      add(frame.over, "text", { x: frame.inner.left - 6, y: frame.y(y) + 4, class: "tick end" }, name);
      if (mean === null) return add(frame.over, "text", { x: frame.x(0) + 6, y: frame.y(y) + 4, class: "tick" }, "not run");
      const shade = colour(decided ? "sba" : "grey");
      line(frame, [[low, y], [high, y]], shade, { "stroke-width": 3 });
      marks(frame, [[mean, y]], shade, { size: 4.5 });
    });
    return height;
  },
  say(state, data) {
    const found = answer(state, data);
    const rows = found.measures[state.measure];
    const { name, unit } = data.measures[state.measure];
    const run = rows.filter(({ mean }) => mean !== null);
    if (!run.length) return `${found.name}, ${name}: not run, or fewer than two pairs of runs. ${data.command} does what is left.`;
    const absent = rows.length - run.length;
    const rest = absent ? ` ${absent} of ${rows.length} contenders are not run.` : "";
    const sides = `Better than plain: ${names(rows, true)}; worse: ${names(rows, false)}.`;
    return (
      `${found.name}, ${name} minus plain training's, ${unit}, over ${found.wanted} seeds, with verdicts after Holm's correction: ` +
      `${run.map(told).join("; ")}. ${sides}${rest}`
    );
  },
});
