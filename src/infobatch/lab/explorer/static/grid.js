// The chosen samples as cards. Only those near the window are in the document, and they are used again.

import { className, facts, indices, row, shownNumber, signal, signalNames, titled } from "explorer/data";
import { draw, hasPictures } from "explorer/sheets";
import { change, describe, follow, found, state } from "explorer/state";

const GAP = 8;
const grid = document.getElementById("grid");
const order = document.getElementById("order");
const direction = document.getElementById("direction");
const hasWords = Boolean(facts.texts || facts.table);
const CARD = hasWords ? { width: 230, height: hasPictures ? 370 : 144 } : { width: 92, height: hasPictures ? 0 : 44 };

const cards = new Map(); // by the place of their sample among the chosen
const free = [];
let columns = 1;
let shape = { width: 0, height: 0 };

export function makeGrid() {
  order.add(new Option("as listed", ""));
  for (const name of signalNames) order.add(new Option(titled(name), name));
  order.addEventListener("change", () => change({ order: order.value }));
  direction.addEventListener("click", () => change({ descending: !state.descending }));
  follow((changed) => {
    if (changed.has("order")) order.value = state.order;
    if (changed.has("descending")) direction.textContent = state.descending ? "↓" : "↑";
    if (changed.has("chosen")) lay();
    else if (changed.has("current")) render();
    if (changed.has("current")) showCurrent();
  });
  addEventListener("scroll", () => requestAnimationFrame(render), { passive: true });
  new ResizeObserver(lay).observe(grid);
  grid.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (card) change({ current: Number(card.dataset.sample), open: true });
  });
}

function lay() {
  const width = grid.clientWidth;
  if (!width) return;
  columns = Math.max(hasWords ? 1 : 3, Math.floor((width + GAP) / (CARD.width + GAP)));
  const across = (width - GAP * (columns - 1)) / columns;
  shape = { width: across, height: CARD.height || across + 42 };
  grid.style.height = `${Math.ceil(found.chosen.length / columns) * (shape.height + GAP)}px`;
  const count = found.chosen.length;
  const what = `${count === 1 ? "sample" : "samples"}${state.marked ? " marked on the map" : ""}`;
  document.getElementById("count").textContent = `${count.toLocaleString("en")} ${what}`;
  const hadFocus = grid.contains(document.activeElement);
  for (const place of [...cards.keys()]) release(place);
  render();
  if (hadFocus) focusCurrent();
}

function release(place) {
  const card = cards.get(place);
  cards.delete(place);
  card.remove();
  free.push(card);
}

function render() {
  const top = grid.getBoundingClientRect().top;
  const step = shape.height + GAP;
  if (!shape.height) return;
  const first = Math.max(0, Math.floor(-top / step) - 1) * columns;
  const last = Math.min(found.chosen.length, Math.ceil((innerHeight - top) / step + 1) * columns);
  for (const place of [...cards.keys()]) if (place < first || place >= last) release(place);
  for (let place = first; place < last; place++) if (!cards.has(place)) put(place);
  for (const card of cards.values()) {
    const isCurrent = Number(card.dataset.sample) === state.current;
    card.setAttribute("aria-selected", isCurrent);
    card.tabIndex = isCurrent || (state.current < 0 && card === cards.get(first)) ? 0 : -1;
  }
}

function put(place) {
  const sample = found.chosen[place];
  const card = free.pop() ?? makeCard();
  card.dataset.sample = sample;
  card.style.cssText = `width:${shape.width}px;height:${shape.height}px;left:${(place % columns) * (shape.width + GAP)}px;top:${Math.floor(place / columns) * (shape.height + GAP)}px`;
  fill(card, sample);
  card.setAttribute("aria-posinset", place + 1);
  card.setAttribute("aria-setsize", found.chosen.length);
  cards.set(place, card);
  grid.append(card);
}

function makeCard() {
  const card = document.createElement("div");
  card.className = "card";
  card.setAttribute("role", "option");
  if (hasPictures) card.append(document.createElement("canvas"));
  for (const part of ["name", ...(hasWords ? ["words"] : []), "value"]) {
    const element = document.createElement("span");
    element.className = part;
    card.append(element);
  }
  return card;
}

function fill(card, sample) {
  const by = state.order || facts.lists.find((each) => each.name === state.list)?.by || "";
  const value = by ? shownNumber(by, signal(by)[sample]) : "";
  card.querySelector(".name").textContent = className(sample) || `#${indices[sample]}`;
  card.querySelector(".value").textContent = value || (className(sample) ? `#${indices[sample]}` : " ");
  card.title = `${describe(sample)}${by ? `, ${titled(by)} ${value}` : ""}`;
  card.setAttribute("aria-label", card.title);
  if (hasPictures) draw(card.querySelector("canvas"), sample);
  if (hasWords) card.querySelector(".words").textContent = words(sample);
}

function words(sample) {
  if (facts.texts) return facts.texts[sample];
  const known = row(sample).filter(([, value]) => value !== "");
  return known.map(([name, value]) => `${name} ${value}`).join(" · ");
}

// -- Moving among the samples ----------------------------------------------------------------------

export function move(by) {
  const at = found.chosen.indexOf(state.current);
  const target = at < 0 ? 0 : at + by;
  if (found.chosen.length) change({ current: found.chosen[Math.min(Math.max(target, 0), found.chosen.length - 1)] });
}

export function moveTo(end) {
  if (found.chosen.length) change({ current: found.chosen.at(end) });
}

export const rowLength = () => columns;

function showCurrent() {
  const place = found.chosen.indexOf(state.current);
  if (place < 0) return;
  const top = grid.getBoundingClientRect().top + Math.floor(place / columns) * (shape.height + GAP);
  const above = document.getElementById("grid-bar").getBoundingClientRect().height + GAP;
  const isFocused = grid.contains(document.activeElement);
  if (isFocused && (top < above || top + shape.height > innerHeight)) scrollBy({ top: top - above });
  render();
  if (isFocused) cards.get(place)?.focus({ preventScroll: true });
}

export function focusCurrent() {
  const place = Math.max(0, found.chosen.indexOf(state.current));
  cards.get(place)?.focus({ preventScroll: true });
}
