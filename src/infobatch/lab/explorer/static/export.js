// The chosen samples as files: a JSON list of indices, or a CSV with labels and signals.

import { everyIndex, facts, indices, labels, signal, signalNames, size } from "explorer/data";
import { follow, found } from "explorer/state";

const which = document.getElementById("which");

export function makeExport() {
  document.getElementById("save-json").addEventListener("click", () => {
    save("indices.json", "application/json", `[${saved().join(", ")}]\n`);
  });
  document.getElementById("save-csv").addEventListener("click", () => {
    save("indices.csv", "text/csv", csv(saved()));
  });
  follow((changed) => {
    if (!changed.has("chosen")) return;
    const counts = { chosen: found.chosen.length, others: facts.numSamples - found.chosen.length };
    for (const option of which.options) option.text = `${option.value === "chosen" ? "these" : "all others"} (${counts[option.value].toLocaleString("en")})`;
    for (const kind of ["json", "csv"]) document.getElementById(`save-${kind}`).disabled = !counts[which.value];
  });
  which.addEventListener("change", () => {
    const number = which.value === "chosen" ? found.chosen.length : facts.numSamples - found.chosen.length;
    for (const kind of ["json", "csv"]) document.getElementById(`save-${kind}`).disabled = !number;
  });
}

// The indices in the dataset that are saved; all others are those of the dataset, on the page or not.
function saved() {
  const chosen = found.chosen.map((sample) => indices[sample]);
  if (which.value === "chosen") return chosen;
  const without = new Set(chosen);
  return Array.from(everyIndex).filter((index) => !without.has(index));
}

function csv(chosen) {
  const places = new Map();
  for (let sample = 0; sample < size; sample++) places.set(indices[sample], sample);
  const columns = signalNames.map(signal);
  const names = labels ? ["label", "class"] : [];
  const lines = chosen.map((index) => {
    const sample = places.get(index);
    if (sample === undefined) return [index, ...names.map(() => ""), ...columns.map(() => "")];
    const known = labels ? [labels[sample], quoted(facts.classes[labels[sample]])] : [];
    return [index, ...known, ...columns.map((values) => (Number.isNaN(values[sample]) ? "" : +values[sample].toPrecision(7)))];
  });
  return [["index", ...names, ...signalNames], ...lines].map((line) => line.join(",")).join("\n") + "\n";
}

function quoted(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
