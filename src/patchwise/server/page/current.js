// The answer on the page, for all who show something of it.
//
// current()                 {answer, context, hits, explanations} or null; hits are those loaded so far, best first
// setCurrent(found)         a new answer, or null
// addHits(hits)             the next page
// dropImage(image)          the picture left the gallery; says so as "patchwise:removed" on document
// openHit(hit, {push})      show it side by side: a new step for the back button, or in place of the one shown
// chosenHit(image)          which file of a picture was opened, as several may hold it
// leaveHit()                no longer show any; a step that openHit made is taken back
// onCurrent(listener)       listener(current) after each change; returns "off"

import { getState, setState } from "./state.js";

const listeners = new Set();
let found = null;
let chosen = null;
let pushed = false;

/** A hit's place in caches: several files may hold one picture. */
export const hitKey = (hit) => `${hit.image} ${hit.path}`;

export function current() {
  return found;
}

export function setCurrent(next) {
  found = next;
  tell();
}

export function addHits(hits) {
  found.hits.push(...hits);
  tell();
}

export function dropImage(image) {
  if (found) {
    found.hits = found.hits.filter((hit) => hit.image !== image);
    tell();
  }
  document.dispatchEvent(new CustomEvent("patchwise:removed", { detail: { image } }));
}

export function openHit(hit, { push = true } = {}) {
  chosen = hit;
  pushed ||= push;
  setState({ open: hit.image }, { push });
}

export function leaveHit() {
  const back = pushed;
  pushed = false;
  chosen = null;
  if (!getState().open) return;
  if (back) history.back();
  else setState({ open: "" });
}

/** The hit of this picture that was opened, or else the first that shows it. */
export function chosenHit(image) {
  if (!found) return null;
  const hits = found.hits.filter((hit) => hit.image === image);
  return hits.find((hit) => chosen && hitKey(hit) === hitKey(chosen)) ?? hits[0] ?? null;
}

export function onCurrent(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell() {
  for (const listener of [...listeners]) listener(found);
}
