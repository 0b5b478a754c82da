// The keyboard: arrows move among the samples, Enter opens one, Escape closes and clears, / searches.

import { close } from "explorer/detail";
import { focusCurrent, move, moveTo, rowLength } from "explorer/grid";
import { change, clear, state } from "explorer/state";

const grid = document.getElementById("grid");
const detail = document.getElementById("detail");
const steps = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -rowLength(), ArrowDown: rowLength };
const ends = { Home: 0, End: -1 };

export function listenToKeys() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target.matches("input, select, textarea");
    if (event.key === "Escape") {
      if (state.open) close();
      else clear();
    } else if (event.key === "/" && !isTyping) {
      document.getElementById("query").focus();
    } else if (isTyping) {
      return;
    } else if (event.key in steps && (grid.contains(event.target) || state.open)) {
      if (detail.contains(event.target) && ["ArrowUp", "ArrowDown"].includes(event.key)) return; // it scrolls
      move(steps[event.key]());
    } else if (event.key in ends && grid.contains(event.target)) {
      moveTo(ends[event.key]);
    } else if ((event.key === "Enter" || event.key === " ") && event.target.matches(".card")) {
      change({ current: Number(event.target.dataset.sample), open: true });
    } else return;
    event.preventDefault();
  });
  grid.addEventListener("focus", focusCurrent);
}
