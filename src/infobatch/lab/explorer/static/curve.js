// A sample's losses by epoch as a small curve, with the epochs that left it out marked.

import { facts, history, signal } from "explorer/data";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [340, 130, 40, 22, 8];

function add(parent, name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

export function curveOf(sample) {
  const { epochs, everyEpoch } = facts;
  const losses = history(sample);
  const trained = losses.map((loss, k) => [k, loss]).filter(([, loss]) => Number.isFinite(loss));
  const missing = signal("times_left_out")[sample]; // of all epochs, drawn or not
  const number = missing + signal("times_trained")[sample];
  const most = Math.max(1e-6, ...trained.map(([, loss]) => loss));
  const least = Math.min(0, ...trained.map(([, loss]) => loss));
  const x = (k) => LEFT + (WIDTH - LEFT - 8) * (epochs.length > 1 ? k / (epochs.length - 1) : 0.5);
  const y = (loss) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (loss - least) / (most - least));

  const figure = document.createElement("figure");
  const svg = add(figure, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  svg.setAttribute("aria-label", told(trained, missing, number));
  add(svg, "line", { class: "frame", x1: LEFT, x2: WIDTH - 8, y1: y(least), y2: y(least) });
  add(svg, "text", { x: LEFT - 4, y: y(most) + 4, "text-anchor": "end" }, short(most));
  add(svg, "text", { x: LEFT - 4, y: y(least) + 3, "text-anchor": "end" }, short(least));
  add(svg, "text", { x: x(0), y: HEIGHT - 6, "text-anchor": epochs.length > 1 ? "start" : "middle" }, `epoch ${epochs[0]}`);
  if (epochs.length > 1) add(svg, "text", { x: WIDTH - 8, y: HEIGHT - 6, "text-anchor": "end" }, String(epochs.at(-1)));
  trained.slice(1).forEach(([k, loss], before) => {
    const [j, last] = trained[before];
    add(svg, "line", { class: k === j + 1 ? "line" : "gap", x1: x(j), y1: y(last), x2: x(k), y2: y(loss) });
  });
  for (const [k, loss] of trained) {
    const dot = add(svg, "circle", { class: "dot", cx: x(k), cy: y(loss), r: epochs.length > 60 ? 1.2 : 2.4 });
    add(dot, "title", {}, `epoch ${epochs[k]}: loss ${+loss.toPrecision(4)}`);
  }
  const half = Math.min(6, (x(1) - x(0)) / 2.6 || 6);
  losses.forEach((loss, k) => {
    if (!Number.isNaN(loss)) return;
    const mark = { class: "left-out", x1: x(k) - half, x2: x(k) + half, y1: y(least) + 3, y2: y(least) + 3 };
    add(add(svg, "line", mark), "title", {}, `left out of epoch ${epochs[k]}`);
  });
  const caption = document.createElement("figcaption");
  caption.append(everyEpoch > 1 ? `loss by epoch, one of every ${everyEpoch}` : "loss by epoch");
  if (missing) {
    const key = document.createElement("span");
    key.className = "key";
    caption.append("; ", key, ` left out of ${missing} of ${number}`);
  }
  figure.append(caption);
  return figure;
}

// A loss to two digits, in as many characters as there is room for beside an axis.
function short(loss) {
  const plain = String(+loss.toPrecision(2));
  return plain.length > 6 ? loss.toExponential(1).replace("e+", "e") : plain;
}

function told(trained, missing, number) {
  if (!trained.length) return "Loss by epoch: it has none.";
  const [first, last] = [trained[0][1], trained.at(-1)[1]].map((loss) => +loss.toPrecision(3));
  return `Loss by epoch: ${first} at first, ${last} at last; left out of ${missing} of ${number} epochs.`;
}
