// What a search found: matches in a justified grid, weak ones folded, and what can be done with them.
//
// showResults(container, answer, context)   a new answer
// showBusy(container)                       while it is awaited: skeletons, or the last answer stepped back
// showMessage(container, {title, detail, actions: [{label, run}]})
// focusHit(hit)                             put the focus on it, if it is shown
//
// Controls: #to-results, #min-score, #min-score-text, #heat-all, #weak-hits, #show-more, #clear-filters; hits are li[data-testid=hit].

import { api, galleryPath, isAborted } from "./api.js";
import { addHits, current, hitKey, onCurrent, setCurrent } from "./current.js";
import { announce, el, notice, plural } from "./dom.js";
import { Explanations } from "./explanations.js";
import { Grid, shapeFor } from "./grid.js";
import { heatKey } from "./heat_key.js";
import { justify } from "./justified.js";
import { ScoreSlider } from "./score_slider.js";
import { getState, onState, searchRequest, setState } from "./state.js";

let shown = null; // the parts of the page that show the answer
let unfolded = null; // whether weak matches were last opened or closed by hand

/** Show an answer to the query of `context`. */
export function showResults(container, answer, context) {
  const looked = container.contains(document.activeElement) ? document.activeElement.closest("[data-key]")?.dataset.key : null;
  leave();
  const explanations = new Explanations(context, answer.hits[0]);
  const found = { answer, context, hits: [...answer.hits], explanations, all: isAll(answer.hits, answer) };
  container.removeAttribute("aria-busy");
  container.classList.remove("waiting");
  if (found.hits.length === 0) showNothing(container, found);
  else build(container, found);
  setCurrent(found);
  // The same search may be answered anew, when pictures came or went.
  const again = looked && found.hits.find((hit) => hitKey(hit) === looked);
  if (again) focusHit(again);
}

/** What an answer says, for those who do not see it. */
export function inWords(answer) {
  return answer.hits.length ? `${headlineOf(answer.hits, answer)}. ${plural(answer.hits.length, "picture")} shown.` : "Nothing found.";
}

/** Show that an answer is awaited, without moving what is there. */
export function showBusy(container) {
  container.setAttribute("aria-busy", "true");
  container.classList.add("waiting");
  if (container.querySelector(".grid li")) return;
  leave();
  container.replaceChildren(skeletons(container));
}

/** Show words instead of results. */
export function showMessage(container, { title, detail = "", actions = [] }) {
  leave();
  setCurrent(null);
  container.removeAttribute("aria-busy");
  container.classList.remove("waiting");
  container.replaceChildren(words(title, detail, actions));
}

function words(title, detail, actions) {
  const buttons = actions.map(({ label, run, id }) =>
    el("button", { type: "button", id, text: label, on: { click: run } }));
  return el("div", { class: "results-words", "data-testid": "results-message" }, el("h2", { text: title }),
    detail && el("p", { text: detail }), buttons.length > 0 && el("p", { class: "actions" }, ...buttons));
}

function leave() {
  shown?.off.forEach((off) => off());
  shown?.grids.forEach((grid) => grid.destroy());
  shown = null;
}

function isAll(hits, answer) {
  return hits.length < getState().k || hits.length >= answer.images;
}

function showNothing(container, { context }) {
  const { where, under } = getState();
  const filtered = Boolean(where || under.length);
  let detail = "No picture could be compared with this query.";
  const actions = [];
  if (context.info?.images === 0) detail = "The gallery is empty. Add pictures to it first.";
  else if (filtered) {
    detail = "No picture passes the filters.";
    actions.push({ label: "Clear the filters", id: "clear-filters", run: () => setState({ where: "", under: [] }, { push: true }) });
  }
  container.replaceChildren(words("Nothing found", detail, actions));
}

function build(container, found) {
  const matches = new Grid("hits", "Matches, best first");
  const weak = new Grid("weak", "Pictures that may be alike by chance");
  const parts = {
    grids: [matches, weak],
    matches,
    weak,
    headline: el("h2", { id: "results-headline", tabindex: "-1" }),
    note: el("p", { class: "note", id: "results-note" }),
    below: el("p", { class: "below", id: "below-score", hidden: true }),
    folded: el("details", { id: "weak-hits", class: "weak" }, el("summary", { id: "weak-summary" }),
      el("p", { class: "why", text: "Pictures as alike as these are expected even where the object is nowhere to be seen." }),
      weak.element),
    pill: el("button", { type: "button", id: "to-results", class: "pill", hidden: true, on: { click: () => goToResults(parts) } }),
    more: el("button", { type: "button", id: "show-more", class: "show-more", text: "Show more", on: { click: () => showMore(found) } }),
    off: [],
  };
  const slider = new ScoreSlider((least) => setState({ minScore: least }));
  const key = heatKey(found.explanations, (on) => parts.grids.forEach((grid) => grid.heat(on)));
  // Where nothing is sure, the most alike are all there is to look at.
  parts.folded.open = unfolded ?? found.hits.every((hit) => hit.matches === false);
  parts.folded.firstElementChild.addEventListener("click", () => { unfolded = !parts.folded.open; });
  parts.folded.addEventListener("toggle", () => weak.layout());
  const refresh = () => arrange(parts, slider);
  slider.onInput = refresh;
  parts.off.push(
    onCurrent((now) => now === found && refresh()),
    onState((state, before) => state.minScore !== before.minScore && slider.set(state.minScore) && refresh()),
    found.explanations.onScale(() => parts.grids.forEach((grid) => grid.repaint())),
  );
  shown = parts;
  slider.set(getState().minScore);
  container.replaceChildren(
    el("div", { class: "results-head" }, el("div", { class: "says" }, parts.headline, parts.note),
      el("div", { class: "results-tools" }, slider.element, key)),
    matches.element, parts.below, parts.folded, parts.more, parts.pill,
  );
  parts.off.push(watchHeadline(parts));
}

// On a small screen the results begin below it: then a button says that they are there.
function watchHeadline({ headline, pill }) {
  const watcher = new IntersectionObserver(([{ isIntersecting, boundingClientRect, rootBounds }]) => {
    pill.hidden = isIntersecting || boundingClientRect.top < (rootBounds?.bottom ?? innerHeight);
  });
  watcher.observe(headline);
  return () => watcher.disconnect();
}

function goToResults({ headline }) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  headline.focus({ preventScroll: true });
  headline.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
}

/** Put the focus on a hit in the grid, if it is shown. */
export function focusHit(hit) {
  return Boolean(shown?.grids.some((grid) => grid.focus(hit)));
}

function headlineOf(hits, answer) {
  const sure = hits.filter((hit) => hit.matches === true).length;
  if (sure > 0) return plural(sure, "match", "matches");
  if (answer.verdict === "no match") return "Nothing matches for sure";
  return `The ${plural(hits.length, "picture")} most alike`;
}

function noteOf({ answer, context }) {
  const searched = `${plural(answer.images ?? context.info.images, "picture")} searched`;
  const seconds = answer.seconds < 0.995 ? `${Math.max(Math.round(answer.seconds * 1000), 1)} ms` : `${answer.seconds.toFixed(1)} s`;
  const few = answer.verdict === "unknown" ? " · too few to tell a match from chance" : "";
  return `${searched} in ${seconds}${few}`;
}

// Sort the hits into shown, folded, and below the wanted score.
function arrange(parts, slider) {
  const found = current();
  slider.range(found.hits);
  const least = slider.least;
  const high = found.hits.filter((hit) => least === null || hit.score >= least);
  const strong = high.filter((hit) => hit.matches !== false);
  const weak = high.filter((hit) => hit.matches === false);
  const below = found.hits.length - high.length;
  parts.headline.textContent = high.length ? headlineOf(high, found.answer) : "Nothing reaches this score";
  parts.pill.textContent = `${parts.headline.textContent} ↓`;
  parts.note.textContent = noteOf(found);
  parts.matches.show(strong);
  parts.matches.element.hidden = strong.length === 0;
  parts.weak.show(weak);
  parts.folded.hidden = weak.length === 0;
  parts.folded.querySelector("summary").textContent = `${weak.length} more that may be chance`;
  if (strong.length === 0) parts.folded.querySelector("summary").textContent = `${plural(weak.length, "picture")} that may be alike by chance`;
  parts.below.hidden = below === 0;
  parts.below.replaceChildren(`${plural(below, "picture")} below this score. `,
    el("button", { type: "button", class: "quiet small", id: "show-below", text: "Show all", on: { click: () => setState({ minScore: null }) } }));
  parts.more.hidden = found.all || below > 0;
  // What comes after a weak match is weak itself: more of them belong in the fold.
  const home = weak.length > 0 ? parts.folded : parts.matches.element.parentElement;
  if (parts.more.parentElement !== home) home.append(parts.more);
  slider.say(high.length, found.hits.length);
}

async function showMore(found) {
  const { more } = shown;
  const before = found.hits.length;
  if (more.getAttribute("aria-disabled") === "true") return;
  more.setAttribute("aria-disabled", "true"); // disabled for good, it would lose the focus
  more.textContent = "Looking …";
  try {
    const body = { ...searchRequest(getState()), offset: before };
    const answer = await api(galleryPath(found.context.gallery, "search"), { method: "POST", body, lane: "more" });
    if (current() !== found) return;
    found.all = answer.hits.length < getState().k || before + answer.hits.length >= found.answer.images;
    addHits(answer.hits);
    announce(answer.hits.length ? `${plural(answer.hits.length, "more picture")} shown` : "There are no more");
  } catch (error) {
    if (!isAborted(error)) notice({ text: "No more could be loaded", detail: error.message });
  } finally {
    more.removeAttribute("aria-disabled");
    if (current() === found) more.textContent = "Show more";
  }
}

function skeletons(container) {
  const width = Math.max(container.clientWidth, 280);
  const shapes = [1.4, 0.8, 1.3, 1, 1.6, 0.75, 1.2, 1.5, 0.9, 1.33, 1.1, 0.7, 1.5, 1.25];
  const tiles = justify(shapes, width, shapeFor(width));
  const grid = el("div", { class: "grid skeletons", "aria-hidden": "true" }, ...tiles.map((tile) => {
    const photo = el("div", { class: "frame" });
    const card = el("div", { class: "hit" }, photo, el("div", { class: "caption" }));
    card.style.width = `${tile.width}px`;
    photo.style.height = `${tile.height}px`;
    return card;
  }));
  return el("div", {}, el("p", { class: "unseen", text: "Searching …" }), grid);
}
