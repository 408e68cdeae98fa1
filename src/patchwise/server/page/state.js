// The whole state of a search. It lives in the query string, so that a search is a link:
//
//   ?v=1&g=logos&p=image:9f3a...;box:40,30,210,260&p=weight:-1;text:red mug&under=/photos/2024&where=year >= 2019
//
// v version of the encoding, g gallery, p a part (repeats), k hits, under (repeats), where, min score, rerank,
// collapse, view, open. What has its default is left out. A part names its kind last when it is a text.
//
// getState()                     the state: a frozen plain object, see DEFAULTS; gallery "" means the server's first
// setState(change, {push})       merge a change; push: a new step for the back button, otherwise the step is replaced
// onState(listener)              listener(state, previous) after every change, back and forward included; returns "off"
// searchRequest(state)           the SearchRequest that answers this state; min_score is left to the page, which folds
// linkOf(change)                 address of the page with this change, for <a href>

const VERSION = "1";
const IMAGE = /^[0-9a-f]{32}$/;

export const DEFAULTS = Object.freeze({
  gallery: "",
  parts: Object.freeze([]), // {image | text, box: [x0, y0, x1, y1] | null, weight, small}
  k: 40,
  under: Object.freeze([]),
  where: "",
  minScore: null,
  rerank: "",
  collapse: false,
  view: "search",
  open: "",
});

const listeners = new Set();
let current = decode(location.search);

export function getState() {
  return current;
}

export function setState(change, { push = false } = {}) {
  const next = tidy({ ...current, ...change });
  const address = encode(next);
  if (address === encode(current)) return;
  const previous = current;
  current = next;
  history[push ? "pushState" : "replaceState"](null, "", location.pathname + address);
  tell(previous);
}

export function onState(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function linkOf(change) {
  return location.pathname + encode(tidy({ ...current, ...change }));
}

export function searchRequest(state) {
  return {
    parts: state.parts.map(({ image, text, box, weight, small }) =>
      text === undefined
        ? { picture: image, weight, small, ...(box ? { box } : {}) }
        : { text, weight },
    ),
    k: state.k,
    under: state.under,
    where: state.where,
    rerank: state.rerank,
    collapse: state.collapse,
  };
}

addEventListener("popstate", () => {
  const previous = current;
  current = decode(location.search);
  tell(previous);
});

function tell(previous) {
  for (const listener of [...listeners]) listener(current, previous);
}

function tidy(state) {
  return Object.freeze({
    ...state,
    parts: Object.freeze(state.parts.map((part) => Object.freeze(tidyPart(part)))),
    under: Object.freeze([...state.under]),
  });
}

function tidyPart({ image, text, box = null, weight = 1, small = false }) {
  if (text !== undefined) return { text, box: null, weight, small: false };
  return { image, box: box && Object.freeze(box.map((edge) => Math.round(edge * 100) / 100)), weight, small };
}

function encode(state) {
  const pairs = [];
  const add = (key, value) => pairs.push(`${key}=${readable(String(value))}`);
  if (state.gallery) add("g", state.gallery);
  for (const part of state.parts) add("p", encodePart(part));
  if (state.k !== DEFAULTS.k) add("k", state.k);
  for (const folder of state.under) add("under", folder);
  if (state.where) add("where", state.where);
  if (state.minScore !== null) add("min", state.minScore);
  if (state.rerank) add("rerank", state.rerank);
  if (state.collapse) add("collapse", 1);
  if (state.view !== DEFAULTS.view) add("view", state.view);
  if (state.open) add("open", state.open);
  return pairs.length ? `?v=${VERSION}&${pairs.join("&")}` : "";
}

function encodePart({ image, text, box, weight, small }) {
  const words = [];
  if (text === undefined) words.push(`image:${image}`);
  if (box) words.push(`box:${box.join(",")}`);
  if (weight !== 1) words.push(`weight:${weight}`);
  if (small) words.push("small");
  if (text !== undefined) words.push(`text:${text}`); // last, as it may hold anything
  return words.join(";");
}

// Only what would be read as something else is escaped; addresses stay readable.
function readable(value) {
  return encodeURIComponent(value).replace(/%(3A|3B|2C|2F|40)/g, (escape) => decodeURIComponent(escape));
}

function decode(search) {
  const query = new URLSearchParams(search);
  const state = { ...DEFAULTS };
  if (query.has("v") && query.get("v") !== VERSION) return tidy(state);
  state.gallery = query.get("g") ?? "";
  state.parts = query.getAll("p").map(decodePart).filter(Boolean).slice(0, 16);
  const k = Number(query.get("k"));
  if (Number.isInteger(k) && k >= 1 && k <= 1000) state.k = k;
  state.under = query.getAll("under").filter(Boolean);
  state.where = query.get("where") ?? "";
  const least = query.get("min");
  if (least !== null && least !== "" && Number.isFinite(Number(least))) state.minScore = Number(least);
  state.rerank = query.get("rerank") ?? "";
  state.collapse = query.get("collapse") === "1";
  if (query.get("view") === "browse") state.view = "browse";
  if (IMAGE.test(query.get("open") ?? "")) state.open = query.get("open");
  return tidy(state);
}

function decodePart(words) {
  const part = { box: null, weight: 1, small: false };
  let rest = words;
  while (rest) {
    if (rest.startsWith("text:")) {
      part.text = rest.slice("text:".length);
      break;
    }
    const end = rest.indexOf(";");
    const word = end < 0 ? rest : rest.slice(0, end);
    rest = end < 0 ? "" : rest.slice(end + 1);
    const [key, value = ""] = word.split(":");
    if (key === "image" && IMAGE.test(value)) part.image = value;
    else if (key === "box") part.box = decodeBox(value);
    else if (key === "weight" && value && Number.isFinite(Number(value))) part.weight = Number(value);
    else if (key === "small") part.small = true;
  }
  return part.image || part.text?.trim() ? part : null;
}

function decodeBox(value) {
  const box = value.split(",").map(Number);
  return box.length === 4 && box.every(Number.isFinite) && box[0] < box[2] && box[1] < box[3] ? box : null;
}
