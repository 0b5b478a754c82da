// Thumbnails: each sheet is decoded when a sample of it is first drawn, and dropped when it was not for long.

import { facts } from "explorer/data";

const KEPT = 96; // sheets
const pictures = facts.pictures;
const broken = new Set(pictures?.broken);
const sheets = new Map(); // in the order of their last use
const whole = new Promise((done) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", done, { once: true });
  else done();
});

export const hasPictures = Boolean(pictures);

function sheet(number) {
  const image = sheets.get(number) ?? decode(number);
  sheets.delete(number);
  sheets.set(number, image);
  if (sheets.size > KEPT) sheets.delete(sheets.keys().next().value);
  return image;
}

async function decode(number) {
  const elements = document.getElementsByClassName("sheet");
  if (!elements[number]?.nextElementSibling) await whole; // it may be read in part
  const image = new Image();
  image.src = `data:image/webp;base64,${elements[number].textContent}`;
  await image.decode();
  return image;
}

// Draw a sample's picture, unless the canvas has gone to another sample before it is decoded.
export async function draw(canvas, sample) {
  const { side, pitch, across } = pictures;
  canvas.dataset.sample = sample;
  canvas.width = canvas.height = side;
  canvas.className = side < 48 ? "pixels" : "smooth";
  const context = canvas.getContext("2d");
  if (broken.has(sample)) return cross(context, side);
  const number = Math.floor(sample / across ** 2);
  const place = sample % across ** 2;
  const image = await sheet(number);
  if (canvas.dataset.sample !== String(sample)) return;
  const left = (place % across) * pitch;
  const top = Math.floor(place / across) * pitch;
  context.drawImage(image, left, top, side, side, 0, 0, side, side);
}

function cross(context, side) {
  context.strokeStyle = "#b04a00";
  context.lineWidth = Math.max(1, side / 24);
  context.beginPath();
  for (const [from, to] of [[0.25, 0.75], [0.75, 0.25]]) {
    context.moveTo(from * side, 0.25 * side);
    context.lineTo(to * side, 0.75 * side);
  }
  context.stroke();
}

export const opens = (sample) => !broken.has(sample);
