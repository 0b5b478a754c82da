// The data map: any two signals against one another, to mark samples by a lasso or a box.

import { className, facts, indices, labels, signal, signalNames, titled } from "explorer/data";
import { change, follow, found, state } from "explorer/state";

const CLASS_COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#7A5195", "#8C6D31", "#000000", "#B0A000"];
const RAMP = ramp(["#b04a00", "#e69f00", "#f0e6a0", "#56b4e9", "#004c7a"], 64);
const BY_CLASS = "class";
const REACH = 12; // pixels

const x = document.getElementById("axis-x");
const y = document.getElementById("axis-y");
const color = document.getElementById("color");
const legend = document.getElementById("legend");
const model = {}; // the parts of the plot, by name
let drawn = []; // the samples that have a point, in the order of the points
let marking = false; // whether a change of the marked points is our own

function ramp(stops, number) {
  const channels = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  return Array.from({ length: number }, (_, k) => {
    const at = (k / (number - 1)) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const mixed = [0, 1, 2].map((c) => channels[low][c] + (at - low) * (channels[low + 1][c] - channels[low][c]));
    return `#${mixed.map((value) => Math.round(value).toString(16).padStart(2, "0")).join("")}`;
  });
}

function extent(values) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return least > most ? [0, 1] : [least, most];
}

function addOptions(select, names, chosen) {
  for (const name of names) select.add(new Option(titled(name), name, false, name === chosen));
}

export async function makePlot() {
  const hasProbabilities = !signal("confidence").every(Number.isNaN); // losses of densities are of none
  addOptions(x, signalNames, hasProbabilities ? "variability" : "std_loss");
  addOptions(y, signalNames, hasProbabilities ? "confidence" : "mean_loss");
  if (labels) color.add(new Option(BY_CLASS, BY_CLASS));
  addOptions(color, signalNames, signalNames.includes("correctness") ? "correctness" : labels ? "" : "mean_loss");
  const item = JSON.parse(document.getElementById("map-item").textContent);
  await Bokeh.embed.embed_item(item, "map");
  const drawing = Bokeh.documents.at(-1);
  for (const name of ["plot", "points", "current", "colors"]) model[name] = drawing.get_model_by_name(name);
  keepDragsInside(document.getElementById("map"));
  makeTools(drawing);
  model.points.selected.change.connect(() => marking || takeMarked());
  model.plot.on_event("tap", (event) => {
    const sample = sampleAt(event);
    if (sample >= 0) change({ current: sample, open: true });
  });
  for (const select of [x, y]) select.addEventListener("change", () => (frame(), drawPoints()));
  color.addEventListener("change", () => (drawColors(), drawPoints()));
  follow((changed) => {
    if (changed.has("filtered")) drawPoints();
    else if (changed.has("marked") && !state.marked) unmark();
    if (changed.has("current") || changed.has("filtered")) drawCurrent();
  });
  frame();
  drawColors();
  drawPoints();
}

function makeTools(drawing) {
  const buttons = [...document.querySelectorAll("[data-tool]")];
  const take = (name) => {
    drawing.get_model_by_name(name).active = true;
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.tool === name);
  };
  for (const button of buttons) button.addEventListener("click", () => take(button.dataset.tool));
  document.getElementById("whole").addEventListener("click", frame);
  take("lasso");
}

// Bokeh 3.9 fails on a lasso or a box that begins on an axis, so that it does not hear of one.
function keepDragsInside(element) {
  const { frame } = Bokeh.index.find_one(model.plot);
  const listen = (event) => {
    const box = element.getBoundingClientRect();
    const { left, right, top, bottom } = frame.bbox;
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    if (x < left || x > right || y < top || y > bottom) event.stopPropagation();
  };
  element.addEventListener("pointerdown", listen, { capture: true });
}

// Axes that have all samples on them, so that filters move no point.
function frame() {
  const sides = [[x, model.plot.x_range, model.plot.below[0]], [y, model.plot.y_range, model.plot.left[0]]];
  for (const [select, range, axis] of sides) {
    const [least, most] = extent(signal(select.value));
    const margin = 0.04 * (most - least) || 0.5;
    range.setv({ start: least - margin, end: most + margin });
    axis.axis_label = titled(select.value);
  }
}

function colorValues() {
  return color.value === BY_CLASS ? labels : signal(color.value);
}

function drawColors() {
  legend.replaceChildren();
  if (color.value === BY_CLASS) {
    const number = facts.classes.length;
    const palette = Array.from({ length: number }, (_, k) => CLASS_COLORS[k % CLASS_COLORS.length]);
    model.colors.setv({ palette, low: -0.5, high: number - 0.5 });
    facts.classes.forEach((name, k) => {
      const entry = document.createElement("span");
      const dot = document.createElement("i");
      dot.style.background = palette[k];
      entry.append(dot, name);
      legend.append(entry);
    });
    return;
  }
  const [low, high] = extent(colorValues());
  model.colors.setv({ palette: RAMP, low, high: high > low ? high : low + 1 });
  const strip = document.createElement("span");
  strip.className = "ramp";
  strip.style.background = `linear-gradient(to right, ${RAMP.join(", ")})`;
  legend.append(`${titled(color.value)} ${+low.toPrecision(3)}`, strip, String(+high.toPrecision(3)));
}

function drawPoints() {
  const [across, up, values] = [signal(x.value), signal(y.value), colorValues()];
  drawn = found.filtered.filter((s) => !Number.isNaN(across[s]) && !Number.isNaN(up[s]));
  const take = (from) => Float32Array.from(drawn, (s) => from[s]);
  marking = true;
  model.points.selected.indices = [];
  model.points.data = {
    x: take(across),
    y: take(up),
    value: take(values),
    index: Int32Array.from(drawn, (s) => indices[s]),
    class: drawn.map(className),
  };
  if (state.marked) model.points.selected.indices = places(state.marked);
  marking = false;
  const missing = found.filtered.length - drawn.length;
  const off = missing ? `, ${missing.toLocaleString("en")} have no place here` : "";
  document.getElementById("map-count").textContent = `${drawn.length.toLocaleString("en")} on the map${off}`;
  drawCurrent();
}

function places(samples) {
  const at = [];
  drawn.forEach((sample, place) => samples.has(sample) && at.push(place));
  return at;
}

function takeMarked() {
  const marked = model.points.selected.indices;
  change({ marked: marked.length ? new Set(marked.map((place) => drawn[place])) : null });
}

// The sample whose point is nearest to a click, within some pixels.
function sampleAt(event) {
  const { x_range, y_range, inner_width, inner_height } = model.plot;
  const [wide, high] = [inner_width / (x_range.end - x_range.start), inner_height / (y_range.end - y_range.start)];
  const { x: across, y: up } = model.points.data;
  let [best, nearest] = [REACH ** 2, -1];
  for (let place = 0; place < drawn.length; place++) {
    const distance = ((across[place] - event.x) * wide) ** 2 + ((up[place] - event.y) * high) ** 2;
    if (distance < best) [best, nearest] = [distance, drawn[place]];
  }
  return nearest;
}

function unmark() {
  marking = true;
  model.points.selected.indices = [];
  marking = false;
}

function drawCurrent() {
  const at = state.current < 0 ? [] : [state.current];
  model.current.data = { x: at.map((s) => signal(x.value)[s]), y: at.map((s) => signal(y.value)[s]) };
}
