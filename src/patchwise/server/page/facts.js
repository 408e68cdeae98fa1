// What is known of a hit, in words: in a small bubble over the grid, and beside the pictures side by side.

import { el, fileName } from "./dom.js";
import { drawing } from "./svg.js";
import { boxText, placeText, scoreText, verdictOf } from "./verdict.js";

/** Names and values of a hit; `context` tells the parts of the query apart. */
export function factsOf(hit, context) {
  const verdict = verdictOf(hit);
  const facts = [
    ["Verdict", `${verdict.word}: ${verdict.detail}`],
    ["Score", scoreText(hit.score)],
    ["Found at", placeText(hit.level, hit.cell)],
    ["Box", boxText(hit.box, hit.size)],
  ];
  (hit.part_scores ?? []).forEach((score, index) => {
    const part = context.parts[index];
    const name = part?.text === undefined ? `Part ${index + 1}` : `“${part.text}”`;
    facts.push([part?.weight < 0 ? `Not ${name}` : name, scoreText(score)]);
  });
  if (hit.geometry) facts.push(["Local features", `${hit.geometry.verdict}, ${hit.geometry.inliers} points`]);
  if (hit.instances?.length) facts.push(["Further places", String(hit.instances.length)]);
  return facts;
}

/** Metadata as names and values; what is empty is left out. */
export function metadataOf(hit) {
  return Object.entries(hit.metadata ?? {}).filter(([, value]) => value !== null && value !== "");
}

/** A list of names and values. */
export function factList(facts, label) {
  return el("dl", { class: "facts", "aria-label": label },
    ...facts.map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: String(value) }))));
}

let bubble = null;

/** Show all facts of a hit beside the button that asked; the same button, Escape or a click elsewhere closes it. */
export function showFacts(button, hit, context) {
  const again = bubble?.button === button;
  bubble?.close();
  if (again) return;
  const close = el("button", { type: "button", class: "tool", "aria-label": "Close", "data-testid": "facts-close" },
    drawing("cross"));
  const metadata = metadataOf(hit);
  const node = el("div", {
    class: "facts-bubble",
    id: "hit-facts",
    role: "dialog",
    "aria-label": `About ${fileName(hit.path)}`,
    "data-testid": "hit-facts",
    tabindex: "-1",
  }, close,
    el("p", { class: "path", text: hit.path }),
    factList(factsOf(hit, context), "What was found"),
    metadata.length > 0 && factList(metadata, "Metadata"),
    hit.alike?.length > 0 && el("p", { class: "heading", text: "Alike" }),
    hit.alike?.length > 0 && el("ul", { class: "paths" }, ...hit.alike.map((other) => el("li", { text: other.path }))));
  bubble = { button, close: (focus) => closeBubble(node, button, focus) };
  close.addEventListener("click", () => bubble?.close(true));
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    bubble?.close(true);
  });
  document.addEventListener("pointerdown", outside, true);
  document.body.append(node);
  button.setAttribute("aria-expanded", "true");
  place(node, button);
  node.focus({ preventScroll: true });
}

function outside(event) {
  if (bubble && !event.target.closest?.(".facts-bubble") && !bubble.button.contains(event.target)) bubble.close();
}

function closeBubble(node, button, focus = false) {
  document.removeEventListener("pointerdown", outside, true);
  node.remove();
  button.setAttribute("aria-expanded", "false");
  bubble = null;
  if (focus) button.focus();
}

function place(node, button) {
  const anchor = button.getBoundingClientRect();
  const margin = 8;
  const left = Math.min(anchor.right - node.offsetWidth, innerWidth - node.offsetWidth - margin);
  const below = anchor.bottom + 6;
  const fits = below + node.offsetHeight <= innerHeight - margin;
  const top = fits ? below : Math.max(anchor.top - node.offsetHeight - 6, margin);
  node.style.left = `${Math.max(left, margin) + scrollX}px`;
  node.style.top = `${top + scrollY}px`;
}
