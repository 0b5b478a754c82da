// One sample with all that is known of it.

import { curveOf } from "explorer/curve";
import { className, duplicatesOf, facts, indices, row, shownNumber, signal, titled } from "explorer/data";
import { focusCurrent, move } from "explorer/grid";
import { draw, hasPictures, opens } from "explorer/sheets";
import { change, describe, follow, found, state } from "explorer/state";

const detail = document.getElementById("detail");

export function makeDetail() {
  follow((changed) => {
    if (["current", "open", "chosen"].some((name) => changed.has(name))) show();
  });
}

export function close() {
  const hadFocus = detail.contains(document.activeElement);
  change({ open: false });
  if (hadFocus) focusCurrent();
}

function show() {
  const sample = state.current;
  detail.hidden = !state.open || sample < 0;
  if (detail.hidden) return;
  const focused = detail.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  detail.replaceChildren(
    head(sample),
    made("h2", { textContent: `Sample ${indices[sample]}` }),
    ...(className(sample) ? [made("p", {}, "labelled ", made("strong", { textContent: className(sample) }))] : []),
    ...(hasPictures ? picture(sample) : []),
    ...(facts.texts ? [made("div", { className: "words", textContent: facts.texts[sample] })] : []),
    curveOf(sample),
    ...twins(sample),
    table("Signals", facts.signals.map(({ name, meaning }) => [titled(name), shownNumber(name, signal(name)[sample]), meaning])),
    ...(facts.table ? [table("Row", row(sample))] : []),
  );
  if (focused) detail.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
}

function made(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function button(text, label, press) {
  const element = made("button", { type: "button", textContent: text, ariaLabel: label });
  element.addEventListener("click", press);
  return element;
}

function head(sample) {
  const [at, number] = [found.chosen.indexOf(sample), found.chosen.length];
  const place = at < 0 ? "not among these" : `${(at + 1).toLocaleString("en")} of ${number.toLocaleString("en")}`;
  return made(
    "div",
    { className: "bar" },
    button("←", "Sample before", () => move(-1)),
    made("span", { className: "small", textContent: place }),
    button("→", "Next sample", () => move(1)),
    made("span", { className: "spacer" }),
    button("Close", "Close", close),
  );
}

function picture(sample) {
  const canvas = made("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Picture of ${describe(sample)}`);
  draw(canvas, sample);
  return opens(sample) ? [canvas] : [canvas, made("p", { className: "small", textContent: "Its image does not open." })];
}

function table(title, rows) {
  const body = made("tbody");
  for (const [name, value, meaning = ""] of rows) {
    body.append(made("tr", { title: meaning }, made("th", { scope: "row", textContent: name }), made("td", { textContent: value })));
  }
  return made("table", {}, made("caption", { textContent: title }), body);
}

function twins(sample) {
  const others = duplicatesOf(sample);
  if (!others.length) return [];
  const links = others.map(([other, similarity]) =>
    button(describe(other), `Near-duplicate: ${describe(other)}, similarity ${similarity.toFixed(3)}`, () =>
      change({ current: other }),
    ),
  );
  return [made("p", { className: "small" }, "Nearly the same by its embedding: ", ...links)];
}
