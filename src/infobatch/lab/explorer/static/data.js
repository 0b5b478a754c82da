// What the page holds of the samples: facts as JSON, numbers as arrays that are decoded when asked for.

export const facts = JSON.parse(document.getElementById("facts").textContent);
export const size = facts.numShown;

const kinds = { uint16: Uint16Array, float32: Float32Array, float64: Float64Array, int32: Int32Array };

function decoded(name, kind) {
  const element = document.getElementById(`array-${name}`);
  if (!element) return null;
  const text = atob(element.textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new kinds[kind](bytes.buffer);
}

const known = new Map();

function array(name, kind) {
  if (!known.has(name)) known.set(name, decoded(name, kind));
  return known.get(name);
}

export const indices = array("index", "int32");
// The indices of all samples that were trained, shown or not: in the whole set, where they are a part of it.
export const everyIndex = array("origin", "int32") ?? Int32Array.from({ length: facts.numSamples }, (_, index) => index);
export const labels = array("labels", "int32");
export const signalNames = facts.signals.map((each) => each.name);

export const signal = (name) => array(`signal-${name}`, "float32");
export const signalFacts = (name) => facts.signals.find((each) => each.name === name);
export const list = (name) => array(`list-${name}`, "int32");
export const titled = (name) => name.replaceAll("_", " ");

export function className(sample) {
  return labels ? facts.classes[labels[sample]] : "";
}

export function shownNumber(name, value) {
  if (Number.isNaN(value)) return "none";
  if (signalFacts(name).whole) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 1e5) ? value.toExponential(2) : value.toFixed(3);
}

// The values of a sample's row, by the names of the columns.
export function row(sample) {
  return (facts.table ?? []).map((column, place) => {
    const value = array(`column-${place}`, "float64")[sample];
    const words = column.words ? column.words[value] : Number.isNaN(value) ? "" : String(value);
    return [column.name, words];
  });
}

// A test whether a sample's row has these words in one of its columns of words.
export function rowTest(words) {
  const matching = (facts.table ?? []).flatMap(({ words: known }, place) => {
    const codes = new Set(known?.flatMap((word, code) => (word.toLowerCase().includes(words) ? code : [])));
    return codes.size ? [[array(`column-${place}`, "float64"), codes]] : [];
  });
  return (sample) => matching.some(([values, codes]) => codes.has(values[sample]));
}

// A sample's losses by epoch, NaN where an epoch left it out.
export function history(sample) {
  const width = facts.epochs.length;
  const halves = array("losses", "uint16").subarray(sample * width, (sample + 1) * width);
  return Array.from(new Float32Array(Uint32Array.from(halves, (bits) => bits << 16).buffer));
}

// Samples that are nearly the same as one, with their similarity.
export function duplicatesOf(sample) {
  const pairs = array("pairs", "int32") ?? [];
  const found = [];
  for (let p = 0; p < pairs.length; p += 2) {
    const other = pairs[p] === sample ? pairs[p + 1] : pairs[p + 1] === sample ? pairs[p] : null;
    if (other !== null) found.push([other, array("similarities", "float32")[p / 2]]);
  }
  return found;
}
