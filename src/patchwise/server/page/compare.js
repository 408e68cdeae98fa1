// One hit side by side with the query: boxes, heat, regions, and what to do with it.
//
// mountCompare(contextNow)    opens and closes with state.open; a link opens it too
//
// Controls: #compare (the dialog), #compare-close, #compare-previous, #compare-next, #compare-heat, #layer-best,
// #layer-refined, #layer-outline, #level-N, #compare-regions button, #compare-search, #compare-whole, #compare-copy,
// #compare-full, #compare-delete; #refined-state says how the refinement stands.

import { api, galleryPath, isAborted } from "./api.js";
import { hitView } from "./compare_hit.js";
import { queryView } from "./compare_query.js";
import { chosenHit, current, hitKey, leaveHit, onCurrent, openHit } from "./current.js";
import { el, fileName } from "./dom.js";
import { focusHit } from "./results.js";
import { getState, onState, searchRequest } from "./state.js";
import { drawing } from "./svg.js";
import { scoreText, verdictOf } from "./verdict.js";

let dialog = null;
let shown = null; // {hit, found, asked, stop}: asked are the parts of the query that it answers
let elsewhere = null; // {image, stop}: a hit of a link that is not among those loaded, being looked for

/** Follow state.open from now on. */
export function mountCompare(contextNow) {
  const follow = () => (contextNow() || !getState().open ? sync() : undefined);
  onState((state, before) => state.open !== before.open && follow());
  onCurrent(() => sync());
  follow();
}

async function sync() {
  const { open } = getState();
  const found = current();
  if (!open || !found) {
    close();
    return;
  }
  const hit = chosenHit(open);
  if (hit) {
    elsewhere?.stop.abort();
    elsewhere = null;
    show(hit, found);
  } else if (elsewhere?.image !== open && shown?.hit.image !== open) await lookFor(open, found);
}

// A link may open a picture that is further down than the hits loaded: it is asked for by itself.
async function lookFor(image, found) {
  elsewhere?.stop.abort();
  const mine = { image, stop: new AbortController() };
  elsewhere = mine;
  const { gallery } = found.context;
  try {
    const { signal } = mine.stop;
    const { path, paths } = await api(galleryPath(gallery, "images", image), { signal });
    const body = { ...searchRequest(getState()), under: paths ?? [path], where: "", k: 1, offset: 0 };
    const answer = await api(galleryPath(gallery, "search"), { method: "POST", body, signal });
    if (elsewhere === mine && answer.hits.length) show({ ...answer.hits[0], rank: null }, found);
  } catch (error) {
    if (!isAborted(error) && elsewhere === mine) leaveHit();
  } finally {
    if (elsewhere === mine) elsewhere = null;
  }
}

function show(hit, found) {
  if (shown && shown.found === found && hitKey(shown.hit) === hitKey(hit)) {
    updateSteps(hit, found);
    return;
  }
  shown?.stop.abort();
  shown = { hit, found, asked: getState().parts, stop: new AbortController() };
  dialog ??= build();
  const { context, explanations } = found;
  const verdict = verdictOf(hit);
  part("compare-title").textContent = fileName(hit.path);
  part("compare-verdict").className = `verdict ${verdict.kind}`;
  part("compare-verdict").textContent = verdict.word;
  part("compare-score").textContent = `score ${scoreText(hit.score)}`;
  part("compare-detail").textContent = verdict.detail;
  const view = hitView(hit, context, explanations, { signal: shown.stop.signal, removed: () => afterRemoval(hit) });
  dialog.querySelector(".body").replaceChildren(queryView(context), view.stage, view.side);
  updateSteps(hit, found);
  if (!dialog.open) {
    dialog.showModal();
    part("compare-title").focus();
  } else if (!dialog.contains(document.activeElement) || document.activeElement === document.body) {
    part("compare-title").focus();
  }
}

function part(id) {
  return dialog.querySelector(`#${id}`);
}

function build() {
  const step = (id, name, label, by) => el("button", {
    type: "button", class: "tool", id, "aria-label": label, title: label, on: { click: () => go(by) },
  }, drawing(name));
  const node = el("dialog", { id: "compare", class: "compare", "aria-labelledby": "compare-title", "data-testid": "compare" },
    el("div", { class: "sheet" },
      el("div", { class: "head" },
        el("div", { class: "steps" }, step("compare-previous", "previous", "Previous hit", -1),
          el("span", { id: "compare-place", role: "status" }), step("compare-next", "next", "Next hit", 1)),
        el("div", { class: "title" }, el("h2", { id: "compare-title", tabindex: "-1" }),
          el("span", { id: "compare-verdict", class: "verdict" }), el("span", { id: "compare-score" }),
          el("span", { id: "compare-detail" })),
        el("button", { type: "button", class: "tool", id: "compare-close", "aria-label": "Close", title: "Close (Escape)",
          on: { click: close } }, drawing("cross"))),
      el("div", { class: "body" })));
  node.addEventListener("click", (event) => event.target === node && close());
  node.addEventListener("close", closed);
  node.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input:not([type=checkbox]), select, textarea")) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && go(by)) event.preventDefault();
  });
  document.body.append(node);
  return node;
}

// Where a hit stands among those that the grid shows.
function neighbours(hit, found) {
  const { minScore } = getState();
  const hits = found.hits.filter((other) => minScore === null || other.score >= minScore || hitKey(other) === hitKey(hit));
  return { hits, place: hits.findIndex((other) => hitKey(other) === hitKey(hit)) };
}

function updateSteps(hit, found) {
  const { hits, place } = neighbours(hit, found);
  part("compare-previous").disabled = place <= 0;
  part("compare-next").disabled = place < 0 || place >= hits.length - 1;
  part("compare-place").textContent = place < 0 ? "not among the hits shown" : `${place + 1} of ${hits.length}`;
}

function go(by) {
  const { hits, place } = neighbours(shown.hit, shown.found);
  const next = place < 0 ? undefined : hits[place + by];
  if (!next) return false;
  openHit(next, { push: false });
  // The address stays the same where two files hold one picture.
  if (next.image === shown.hit.image) show(next, shown.found);
  return true;
}

function afterRemoval(hit) {
  const { hits, place } = neighbours(hit, shown.found);
  const left = hits.filter((other) => other.image !== hit.image);
  const next = left[Math.min(Math.max(place, 0), left.length - 1)];
  if (next) openHit(next, { push: false });
  else close();
}

// The dialog's own event comes later, perhaps when another hit is open already.
function close() {
  if (!dialog?.open) return;
  dialog.close();
  closed();
}

function closed() {
  if (!shown || dialog.open) return;
  const { hit, asked, stop } = shown;
  stop.abort();
  shown = null;
  dialog.querySelector(".body").replaceChildren();
  leaveHit();
  // One goes on from the hit last looked at, not from the one that was opened; after a new search, from its beginning.
  if (JSON.stringify(asked) === JSON.stringify(getState().parts)) focusHit(hit);
}
