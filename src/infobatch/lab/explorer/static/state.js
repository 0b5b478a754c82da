// What is chosen: filters, the part of the map, the order, and the sample that is looked at.

import { className, facts, indices, labels, list, rowTest, signal, size } from "explorer/data";

export const state = {
  list: "",
  query: "",
  classes: new Set(),
  ranges: new Map(), // [least, most] by the signal's name
  marked: null, // the samples marked on the map, as a Set; null for all
  order: "", // a signal; empty for the list's own order
  descending: false,
  current: -1, // the sample that is looked at
  open: false, // whether all that is known of it is shown
};

// What follows from it: samples that pass the filters, and those of them that are marked, in order.
export const found = { filtered: [], chosen: [] };

const listeners = [];

// Call a function with the names of what has changed, whenever something has.
export function follow(listener) {
  listeners.push(listener);
}

export function change(changes) {
  Object.assign(state, changes);
  const names = new Set(Object.keys(changes));
  if (["list", "query", "classes", "ranges"].some((name) => names.has(name))) {
    found.filtered = filtered();
    names.add("filtered");
  }
  if (["filtered", "marked", "order", "descending"].some((name) => names.has(name))) {
    found.chosen = ordered(state.marked ? found.filtered.filter((s) => state.marked.has(s)) : found.filtered);
    names.add("chosen");
  }
  for (const listener of listeners) listener(names);
}

export function clear() {
  change({ list: "", query: "", classes: new Set(), ranges: new Map(), marked: null, order: "", descending: false });
}

function filtered() {
  const from = state.list ? list(state.list) : null;
  // Signals have the precision of float32, and so have the bounds that they are compared with.
  const ranges = [...state.ranges].map(([name, bounds]) => [signal(name), ...bounds.map(Math.fround)]);
  const passesQuery = queryTest(state.query.trim());
  const passed = [];
  const length = from ? from.length : size;
  for (let i = 0; i < length; i++) {
    const sample = from ? from[i] : i;
    if (state.classes.size && !state.classes.has(labels[sample])) continue;
    if (!ranges.every(([values, least, most]) => values[sample] >= least && values[sample] <= most)) continue;
    if (passesQuery && !passesQuery(sample)) continue;
    passed.push(sample);
  }
  return passed;
}

// A number is a sample's; words are looked for in classes, texts and rows.
function queryTest(query) {
  if (!query) return null;
  const words = query.toLowerCase();
  const number = /^\d+$/.test(query) ? Number(query) : null;
  const inRow = rowTest(words);
  const inClass = facts.classes.map((name) => name.toLowerCase().includes(words));
  return (sample) =>
    indices[sample] === number ||
    (labels && inClass[labels[sample]]) ||
    Boolean(facts.texts?.[sample].toLowerCase().includes(words)) ||
    inRow(sample);
}

function ordered(samples) {
  const sorted = samples.slice();
  if (state.order) {
    const values = signal(state.order);
    const sign = state.descending ? -1 : 1;
    const key = (sample) => (Number.isNaN(values[sample]) ? Infinity : sign * values[sample]);
    return sorted.sort((a, b) => key(a) - key(b) || a - b);
  }
  return state.descending ? sorted.reverse() : sorted;
}

export function describe(sample) {
  const name = className(sample);
  return `sample ${indices[sample]}${name ? `, ${name}` : ""}`;
}
