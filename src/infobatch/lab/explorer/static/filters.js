// The lists, the search, the classes and the ranges.

import { facts, labels, list, shownNumber, signal, signalNames, titled } from "explorer/data";
import { change, clear, follow, state } from "explorer/state";

const query = document.getElementById("query");
const classes = document.getElementById("classes");
const ranges = document.getElementById("ranges");

function chip(text, count, press) {
  const button = document.createElement("button");
  const number = document.createElement("span");
  button.type = "button";
  button.title = text;
  number.textContent = count.toLocaleString("en");
  button.append(text, number);
  button.addEventListener("click", press);
  return button;
}

export function makeFilters() {
  makeLists();
  if (labels) makeClasses();
  else document.getElementById("class-part").hidden = true;
  makeRanges();
  let waiting = 0;
  query.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change({ query: query.value }), 120);
  });
  document.getElementById("clear").addEventListener("click", clear);
  follow((changed) => {
    if (changed.has("query") && query.value !== state.query) query.value = state.query;
  });
}

function makeLists() {
  const all = { name: "", title: "All", meaning: "" };
  const buttons = [all, ...facts.lists].map((each) => {
    const count = each.name ? list(each.name).length : facts.numShown;
    const button = chip(each.title, count, () => change({ list: each.name, order: "", descending: false }));
    button.dataset.list = each.name;
    return button;
  });
  document.getElementById("lists").append(...buttons);
  follow((changed) => {
    if (!changed.has("list")) return;
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.list === state.list);
    const chosen = facts.lists.find((each) => each.name === state.list);
    document.getElementById("list-meaning").textContent = chosen?.meaning ?? "Every sample of the page, in the order of the data.";
  });
}

function makeClasses() {
  const counts = new Array(facts.classes.length).fill(0);
  for (const label of labels) counts[label]++;
  const buttons = facts.classes.map((name, number) =>
    chip(name, counts[number], () => {
      const chosen = new Set(state.classes);
      if (!chosen.delete(number)) chosen.add(number);
      change({ classes: chosen });
    }),
  );
  classes.append(...buttons);
  follow((changed) => {
    if (!changed.has("classes")) return;
    buttons.forEach((button, number) => button.setAttribute("aria-pressed", state.classes.has(number)));
  });
}

function makeRanges() {
  const rows = signalNames.map(rangeOf);
  ranges.append(...rows.map((row) => row.element));
  follow((changed) => {
    if (changed.has("ranges")) for (const row of rows) row.show();
  });
}

// A bound as the page shows it, rounded so that it lies not within: down for -1, up for 1.
function outward(name, value, way) {
  const shown = shownNumber(name, value);
  if (way * Math.fround(shown) >= way * value) return shown;
  const digit = shown.includes("e") ? shown.split("e")[1] - 2 : -3;
  return shownNumber(name, Number(shown) + way * 10 ** digit);
}

// Two fields for the least and the most of a signal, empty for no bound.
function rangeOf(name) {
  const element = document.createElement("fieldset");
  const legend = document.createElement("legend");
  legend.textContent = titled(name);
  legend.title = facts.signals.find((each) => each.name === name).meaning;
  element.append(legend);
  let [least, most] = [Infinity, -Infinity];
  for (const value of signal(name)) [least, most] = [value < least ? value : least, value > most ? value : most];
  const fields = [["least", least, -1], ["most", most, 1]].map(([what, value, way]) => {
    const field = document.createElement("input");
    field.type = "number";
    field.step = "any";
    field.placeholder = Number.isFinite(value) ? outward(name, value, way) : "";
    field.setAttribute("aria-label", `${what} ${titled(name)}`);
    field.addEventListener("change", take);
    element.append(field);
    return field;
  });

  function take() {
    const chosen = new Map(state.ranges);
    const [from, to] = fields.map((field) => field.valueAsNumber);
    if (Number.isNaN(from) && Number.isNaN(to)) chosen.delete(name);
    else chosen.set(name, [Number.isNaN(from) ? -Infinity : from, Number.isNaN(to) ? Infinity : to]);
    change({ ranges: chosen });
  }

  function show() {
    if (!state.ranges.has(name)) for (const field of fields) field.value = "";
  }

  return { element, show };
}
