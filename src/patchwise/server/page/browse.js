// The gallery's pictures in a grid. Only what is on the screen is in the document, so that 100,000 are no more than 100.

import { api, galleryPath, isAborted, thumbnailUrl } from "./api.js";
import { announce, confirmed, el, fileName, icon, isFocusLost, notice, plural } from "./dom.js";
import { learn } from "./pictures.js";
import { getState } from "./state.js";

const PAGE = 60;
const GAP = 8;
const ROWS_BEYOND = 2;
const SETTLED = 90; // ms without scrolling before pages are asked for

// info(): the gallery; searchWith(part): make it the query; refresh(): ask for the gallery's info again.
export function mountBrowse(container, { info, searchWith, refresh }) {
  const title = el("h2", { id: "browse-title", tabindex: "-1" });
  const tools = el("div", { class: "browse-tools" });
  const list = el("ul", { id: "browse-list", class: "tiles", "aria-labelledby": "browse-title", "data-testid": "browse-list" });
  const message = el("div", { class: "message", id: "browse-message", hidden: true });
  container.append(el("div", { class: "browse-head" }, title, tools), message, list);

  let shown = { list: "", version: "" }; // gallery and filters, and the gallery's version
  let total = 0;
  let columns = 1;
  let side = 100;
  let focused = 0;
  let waiting = 0;
  let scrolled = 0;
  let pages = new Map(); // number -> {images} once it is here, {stop} while it is asked for
  const tiles = new Map(); // index -> <li>

  addEventListener("scroll", () => { if (!container.hidden) { scrolled = scrollY; draw(); } }, { passive: true });
  new ResizeObserver(() => { if (!container.hidden) measure(); }).observe(list);
  list.addEventListener("keydown", moved);
  list.addEventListener("focusin", (event) => {
    const index = Number(event.target.closest("li")?.dataset.index);
    if (Number.isInteger(index)) stepTo(index);
  });

  return { tools, show, leave: stopPages };

  // Called whenever the view is opened and whenever what it shows may have changed.
  async function show({ opened = false, anew = false } = {}) {
    const { gallery, under, where } = getState();
    const wanted = JSON.stringify([gallery, under, where]);
    const version = info()?.version;
    const same = wanted === shown.list;
    if (opened) {
      scrollTo(0, same ? scrolled : 0);
      if (isFocusLost()) title.focus({ preventScroll: true });
    }
    if (same && version === shown.version && !anew) return draw();
    stopPages();
    pages = new Map();
    const mine = (shown = { list: wanted, version });
    if (!same) {
      focused = 0;
      if (!opened) scrollTo(0, 0);
    }
    try {
      await Promise.all(same ? seenPages().map(load) : [load(0)]);
    } catch (error) {
      if (isAborted(error) || shown !== mine) return;
      shown = { list: "", version: "" };
      total = 0;
      rebuild();
      document.getElementById("browse-count").remove(); // nobody knows how many there are
      tell("These pictures cannot be listed", error.message, { label: "Try again", run: () => show() });
      return;
    }
    if (shown === mine) rebuild();
  }

  function stopPages() {
    for (const page of pages.values()) page.stop?.abort();
  }

  // Tiles that show what they should are left alone: a gallery may grow while it is looked at.
  function rebuild() {
    for (const [index, tile] of [...tiles]) {
      if (index >= total || imageAt(index)?.image !== tile.dataset.image) drop(index);
      else tile.setAttribute("aria-setsize", total);
    }
    const all = info();
    title.replaceChildren(el("span", { text: all?.name ?? "" }), " ", el("small", { id: "browse-count", text: plural(total, "picture") }));
    message.hidden = total > 0;
    if (!total && all?.images) tell("No picture here", "None fits the filters.");
    else if (!total) tell("This gallery is empty", all?.can_add
      ? "Drop pictures or folders here, or add them by the button above."
      : "Index a folder: patchwise index FOLDER --gallery DIR");
    measure();
  }

  function tell(heading, text, action) {
    message.replaceChildren(el("strong", { text: heading }), el("p", { text }),
      ...(action ? [el("button", { type: "button", class: "small", on: { click: action.run } }, icon("retry"), action.label)] : []));
    message.hidden = false;
  }

  function measure() {
    const width = list.clientWidth;
    const wish = width < 560 ? 112 : width < 1300 ? 160 : 184;
    columns = Math.max(2, Math.floor((width + GAP) / (wish + GAP)));
    side = (width - GAP * (columns - 1)) / columns;
    list.style.height = `${Math.max(0, Math.ceil(total / columns) * (side + GAP) - GAP)}px`;
    for (const [index, tile] of tiles) place(tile, index);
    draw();
  }

  function inView() {
    const above = -list.getBoundingClientRect().top;
    const row = side + GAP;
    const first = Math.max(0, Math.floor(above / row) - ROWS_BEYOND) * columns;
    const last = Math.min(total, (Math.ceil((above + innerHeight) / row) + ROWS_BEYOND) * columns);
    return [first, last];
  }

  function seenPages() {
    const [first, last] = inView();
    const from = Math.floor(first / PAGE), to = Math.floor(Math.max(first, last - 1) / PAGE);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  }

  function draw() {
    if (!total) return;
    const [first, last] = inView();
    for (const index of [...tiles.keys()])
      if ((index < first || index >= last) && !tiles.get(index).contains(document.activeElement)) drop(index);
    for (let index = first; index < last; index++) if (!tiles.has(index)) tiles.set(index, make(index));
    if (![...tiles.keys()].includes(focused)) stepTo(first);
    clearTimeout(waiting);
    waiting = setTimeout(fetchSeen, SETTLED);
  }

  function fetchSeen() {
    const seen = seenPages();
    for (const [number, page] of pages) if (!seen.includes(number)) page.stop?.abort();
    for (const number of seen) {
      load(number).catch((error) => {
        if (!isAborted(error)) notice({ text: "Pictures cannot be listed", detail: error.message, key: "browse",
          actions: [{ label: "Try again", run: () => fetchSeen() }] });
      });
    }
    for (const [index, tile] of tiles) fill(tile, index);
  }

  async function load(number) {
    if (pages.has(number)) return;
    const stop = new AbortController();
    const mine = pages;
    mine.set(number, { stop });
    try {
      const { gallery, under, where } = getState();
      const query = new URLSearchParams([...under.map((folder) => ["under", folder]), ...(where ? [["where", where]] : []),
        ["offset", number * PAGE], ["limit", PAGE]]);
      const answer = await api(`${galleryPath(gallery, "images")}?${query}`, { signal: stop.signal });
      if (mine !== pages) return;
      mine.set(number, { images: answer.images });
      if (answer.total !== total) {
        total = answer.total;
        if (tiles.size) rebuild();
      }
      for (const [index, tile] of tiles) if (Math.floor(index / PAGE) === number) fill(tile, index);
    } catch (error) {
      mine.delete(number);
      throw error;
    }
  }

  function imageAt(index) {
    return pages.get(Math.floor(index / PAGE))?.images?.[index % PAGE] ?? null;
  }

  function make(index) {
    const open = el("button", { type: "button", class: "tile", tabindex: "-1", "aria-label": `Picture ${index + 1}`,
      on: { click: () => use(index) } });
    const tile = el("li", { "aria-setsize": total, "aria-posinset": index + 1, "data-index": index, "data-testid": "tile" }, open);
    place(tile, index);
    list.append(tile);
    return tile;
  }

  function place(tile, index) {
    tile.style.width = tile.style.height = `${side}px`;
    tile.style.transform = `translate(${(index % columns) * (side + GAP)}px, ${Math.floor(index / columns) * (side + GAP)}px)`;
  }

  function fill(tile, index) {
    const image = imageAt(index);
    if (!image || tile.dataset.image) return;
    const name = fileName(image.path);
    tile.dataset.image = image.image;
    const open = tile.firstElementChild;
    open.setAttribute("aria-label", `Search with ${name}`);
    open.title = image.path;
    const picture = el("img", { alt: "", decoding: "async", draggable: "false", width: image.size[0], height: image.size[1] });
    picture.addEventListener("load", () => tile.classList.add("loaded"), { once: true });
    picture.addEventListener("error", () => tile.classList.add("broken"), { once: true });
    picture.src = thumbnailUrl(getState().gallery, image.image, 320);
    open.append(picture, el("span", { class: "tile-name", text: name, "aria-hidden": "true" }));
    if (info()?.can_remove) tile.append(el("button", { type: "button", class: "tile-remove", tabindex: index === focused ? "0" : "-1",
      "aria-label": `Remove ${name}`, "data-testid": "tile-remove", on: { click: () => remove(index) } }, icon("bin")));
  }

  function drop(index) {
    tiles.get(index).querySelector("img")?.removeAttribute("src"); // ends a load that nobody waits for
    tiles.get(index).remove();
    tiles.delete(index);
  }

  // One tile, and what is in it, is in the order of the Tab key; arrow keys go from tile to tile.
  function stepTo(index) {
    for (const [number, tile] of tiles)
      for (const button of tile.children) button.tabIndex = number === index ? 0 : -1;
    focused = index;
  }

  function moved(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -focused, End: total - 1 - focused }[event.key];
    if (event.key === "Delete" && info()?.can_remove && imageAt(focused)) return remove(focused);
    if (step === undefined) return;
    event.preventDefault();
    const next = focused + step;
    if (next < 0 || next >= total) return;
    const top = list.getBoundingClientRect().top + scrollY + Math.floor(next / columns) * (side + GAP);
    const bar = document.getElementById("bar").offsetHeight + GAP;
    if (top < scrollY + bar) scrollTo(0, top - bar);
    else if (top + side > scrollY + innerHeight - GAP) scrollTo(0, top + side - innerHeight + GAP);
    draw();
    if (!tiles.has(next)) tiles.set(next, make(next));
    stepTo(next);
    tiles.get(next).firstElementChild.focus({ preventScroll: true });
  }

  function use(index) {
    const image = imageAt(index);
    if (!image) return;
    learn(getState().gallery, image.image, { size: image.size, name: fileName(image.path) });
    searchWith({ image: image.image });
  }

  async function remove(index) {
    const image = imageAt(index);
    const name = fileName(image.path);
    const sure = await confirmed({ title: `Remove ${name} from the gallery?`, yes: "Remove",
      text: "Searches will not find it any more. The file itself stays where it is, unless it was uploaded here: then it is deleted." });
    if (!sure) return;
    try {
      const which = `${galleryPath(getState().gallery, "images", image.image)}?${new URLSearchParams({ path: image.path })}`;
      await api(which, { method: "DELETE" });
    } catch (error) {
      notice({ text: `${name} was not removed`, detail: error.message, key: "remove" });
      return;
    }
    announce(`${name} removed.`);
    focused = Math.max(0, index - 1);
    await refresh();
    await show({ anew: true });
    tiles.get(focused)?.firstElementChild.focus({ preventScroll: true });
  }
}
