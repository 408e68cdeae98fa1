// Wires the page together. What each module promises to the others:
//
// state.js     getState(), setState(change, {push}), onState(listener), searchRequest(state), linkOf(change)
// api.js       api(path, {method, body, lane, signal, raw}), ProblemError, ServerGone, isAborted, thumbnailUrl, fullUrl
// dom.js       el, icon, announce, notice, confirmed, plural, fileName
// results.js   showResults(container, answer, context), showBusy(container),
//              showMessage(container, {title, detail, actions: [{label, run}]})
// filters.js   mountFilters(container, info)       speaks by state.under and state.where; mounted anew with a new info
// export.js    mountExport(container)              asks by searchRequest(getState())
// compare.js   mountCompare(contextNow)            listens to state.open; contextNow() is the newest context, or null
//
// context = {gallery, info, parts, answer, searchWith(part)}: gallery its name, info the Gallery of the API, parts those
// of the state, answer the newest SearchAnswer, searchWith({image, box}) makes that part the whole query. #filters is
// one element, moved between the two views.

import { mountAdding } from "./adding.js";
import { api, galleryPath, isAborted } from "./api.js";
import { mountBrowse } from "./browse.js";
import { mountCompare } from "./compare.js";
import { announce, el, icon, notice, plural } from "./dom.js";
import { mountExport } from "./export.js";
import { mountFilters } from "./filters.js";
import { watchDrops, watchPaste } from "./intake.js";
import { followJobs, mountJobs } from "./jobs.js";
import { carryOver } from "./pictures.js";
import { mountQuery } from "./query.js";
import { makeSearching } from "./searching.js";
import { startSession } from "./session.js";
import { getState, linkOf, onState, setState } from "./state.js";

const byId = (id) => document.getElementById(id);
let galleries = [];
let info = null; // the Gallery that is shown
let filtersFor = ""; // what the filters were made of

start();

async function start() {
  watchHands();
  try {
    await startSession();
    ({ galleries } = await api("galleries"));
  } catch (error) {
    failedToStart(error);
    return;
  }
  const chosen = getState().gallery;
  info = galleries.find(({ name }) => name === chosen) ?? galleries[0];
  if (chosen && chosen !== info.name)
    notice({ text: `There is no gallery ${chosen} here`, detail: `This is ${info.name}.`, key: "gallery" });
  setState({ gallery: info.name });

  const searching = makeSearching({ container: byId("results"), info: () => info, searchWith });
  const adding = mountAdding({ info: () => info });
  const query = mountQuery(byId("query"), { info: () => info, again: () => searching.run() });
  const browse = mountBrowse(byId("browse-view"), { info: () => info, searchWith, refresh });
  const page = { searching, query, browse };
  mountJobs({ refresh, again: () => searching.run() });
  mountExport(byId("export"));
  mountCompare(searching.context);
  document.addEventListener("patchwise:removed", refresh);
  byId("filters").addEventListener("patchwise:closed", () => showFilters(page, getState().view === "browse"));
  wireBar(adding);
  wireIntake(adding, query);
  onState((state, previous) => follow(page, state, previous));
  show(page, null);
  searching.follow();
  followJobs(info.name).catch((error) => notice({ text: "Running jobs cannot be listed", detail: error.message, key: "jobs" }));

  async function refresh() {
    await refreshInfo(page);
  }

  function searchWith(part) {
    setState({ parts: [part], view: "search", open: "" }, { push: true });
    scrollTo(0, 0);
    query.focus();
  }
}

function follow(page, state, previous) {
  if (state.gallery !== previous.gallery) {
    info = galleries.find(({ name }) => name === state.gallery) ?? galleries[0];
    refreshInfo(page);
    followJobs(info.name).catch(() => {}); // said already where the gallery itself cannot be read
  }
  show(page, previous);
  page.searching.follow();
}

async function refreshInfo(page) {
  try {
    const fresh = await api(galleryPath(info.name), { lane: "info" });
    galleries = galleries.map((one) => (one.name === fresh.name ? fresh : one));
    if (fresh.name !== getState().gallery) return;
    info = fresh;
    show(page, getState());
  } catch (error) {
    if (!isAborted(error)) notice({ text: "The gallery cannot be read", detail: error.message, key: "gallery" });
  }
}

// Puts on the screen what the state says; previous is null at first.
function show(page, previous) {
  const { view, gallery, parts } = getState();
  const browsing = view === "browse";
  byId("search-view").hidden = browsing;
  byId("browse-view").hidden = !browsing;
  document.body.dataset.view = view;
  for (const name of ["search", "browse"]) {
    byId(`view-${name}`).toggleAttribute("aria-current", false);
    if (name === view) byId(`view-${name}`).setAttribute("aria-current", "page");
    byId(`view-${name}`).href = linkOf({ view: name, open: "" });
  }
  byId("home").href = linkOf({ parts: [], view: "search", open: "", under: [], where: "", minScore: null });
  byId("add-pictures").hidden = !info.can_add;
  document.title = browsing ? `${info.name} – patchwise` : parts.length ? `Search in ${info.name} – patchwise` : "patchwise";
  showGalleries(gallery);
  showFilters(page, browsing);
  page.query.render();
  if (browsing) page.browse.show({ opened: previous?.view !== "browse" });
  else if (previous?.view === "browse") page.browse.leave();
}

function showFilters(page, browsing) {
  const home = browsing ? page.browse.tools : byId("found-tools");
  const filters = byId("filters");
  if (filters.parentElement !== home) home.prepend(filters);
  const now = JSON.stringify([info.name, info.folders, info.metadata]);
  // While somebody chooses or types in them they stay as they are; they are mounted anew when they are closed.
  const inUse = filters.dataset.gallery === info.name && filters.querySelector("#filters-open[aria-expanded=true]");
  if (now === filtersFor || inUse) return;
  filtersFor = now;
  filters.dataset.gallery = info.name;
  filters.replaceChildren();
  mountFilters(filters, info);
}

function showGalleries(chosen) {
  const home = byId("gallery-choice");
  const names = galleries.map(({ name }) => name).join("/");
  if (home.dataset.names !== names) {
    home.dataset.names = names;
    home.replaceChildren(galleries.length > 1
      ? el("select", { id: "gallery-select", "aria-label": "Gallery", on: { change: (event) => changeGallery(event.target.value) } },
          ...galleries.map(({ name }) => el("option", { value: name, text: name })))
      : el("span", { class: "gallery-name" }));
  }
  const only = home.firstElementChild;
  if (only.tagName === "SELECT") only.value = chosen;
  else only.textContent = `${info.name} · ${plural(info.images, "picture")}`;
}

async function changeGallery(name) {
  const { parts, gallery } = getState();
  try {
    setState({ gallery: name, parts: await carryOver(parts, gallery, name), under: [], where: "", open: "" }, { push: true });
  } catch (error) {
    byId("gallery-select").value = gallery;
    notice({ text: `${name} cannot be opened`, detail: error.message, key: "gallery" });
  }
}

function wireBar(adding) {
  for (const [id, change] of [["view-search", { view: "search" }], ["view-browse", { view: "browse" }],
    ["home", { parts: [], view: "search", under: [], where: "", minScore: null }]]) {
    byId(id).addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
      event.preventDefault();
      setState({ ...change, open: "" }, { push: true });
      if (change.view === "search") scrollTo(0, 0);
    });
  }
  byId("bar-tools").append(el("button", { type: "button", id: "add-pictures", hidden: true, on: { click: adding.open } },
    icon("plus"), el("span", { text: "Add pictures" })));
  addEventListener("click", (event) => { if (event.target.closest?.("[data-add]")) adding.open(); });
}

function wireIntake(adding, query) {
  const goal = () => {
    const dialog = document.querySelector("dialog[open]");
    if (dialog && dialog.id !== "add-dialog") return null;
    const adds = dialog || getState().view === "browse" || info.images === 0;
    if (adds) return info.can_add ? { text: `Drop to add to ${info.name}`, take: adding.addFiles } : null;
    return { text: "Drop to search with this picture", take: query.take };
  };
  watchDrops(goal);
  watchPaste(goal);
}

// Whether the last thing was done by a pointer or by a key: a ring round the picture only helps with keys.
function watchHands() {
  document.body.dataset.by = "pointer";
  addEventListener("pointerdown", () => { document.body.dataset.by = "pointer"; }, true);
  addEventListener("keydown", () => { document.body.dataset.by = "key"; }, true);
}

function failedToStart(error) {
  announce(error.message);
  byId("main").append(el("div", { class: "message", id: "start-problem" }, el("strong", { text: "This page cannot start" }),
    el("p", { text: error.message }),
    el("button", { type: "button", class: "main", id: "start-again", on: { click: () => location.reload() } }, icon("retry"), "Try again")));
}
