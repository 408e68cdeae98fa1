// Pictures that come in: dropped anywhere, pasted, or picked.

import { el } from "./dom.js";

const MOST_FILES = 100_000;

// goal() says what files that come mean now: {text, take(files)} or null where nothing can be done with them.
export function watchDrops(goal) {
  const words = el("p", {});
  const sheet = el("div", { id: "drop-sheet", hidden: true, "aria-hidden": "true" }, words);
  document.body.append(sheet);
  let depth = 0;
  const hide = () => { depth = 0; sheet.hidden = true; };
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

  addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth += 1;
    const now = goal();
    words.textContent = now ? now.text : "";
    sheet.hidden = !now;
  });
  addEventListener("dragleave", (event) => {
    if (holdsFiles(event) && --depth <= 0) hide();
  });
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault(); // otherwise the browser would leave the page for the file
    event.dataTransfer.dropEffect = goal() ? "copy" : "none";
  });
  addEventListener("drop", async (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    hide();
    const now = goal();
    if (now) now.take(await droppedFiles(event.dataTransfer));
  });
}

export function watchPaste(goal) {
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    goal()?.take(files);
  });
}

// Every file of a drop, those in folders too.
async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const files = [];
  for (const entry of entries) await walk(entry, files);
  return files;
}

async function walk(entry, files) {
  if (files.length >= MOST_FILES || entry.name.startsWith(".")) return;
  if (entry.isFile) {
    files.push(await new Promise((settle, fail) => entry.file(settle, fail)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((settle, fail) => reader.readEntries(settle, fail));
    if (!some.length) return;
    for (const inner of some) await walk(inner, files);
  }
}

// A button that opens the device's own picker. props go to the label; `input` to the <input type=file>.
export function pickButton({ id, input = {}, take, ...props }, ...children) {
  const field = el("input", { type: "file", id, class: "unseen", accept: "image/*", ...input, on: { change: () => {
    const files = [...field.files];
    field.value = ""; // so that the same file can be picked again
    if (files.length) take(files);
  } } });
  return el("label", { for: id, ...props, class: `button ${props.class ?? ""}` }, field, ...children);
}
