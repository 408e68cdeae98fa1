// Filters on folders and metadata, as choices and as a condition in words.
//
// mountFilters(container, info)    speaks by state.under and state.where; may be mounted anew for another info
//
// Controls: #filters-open, #filters-panel, [data-testid=filter-chip], #filters-clear, #folder-search, #folder-N,
// #column-N-..., #where, #where-apply, #where-problem, #filters-count.

import { api, galleryPath, isAborted, ProblemError } from "./api.js";
import { columnChoice } from "./columns.js";
import { el, plural } from "./dom.js";
import { folderChoice, withFolder } from "./folders.js";
import { dropPanel } from "./panel.js";
import { getState, onState, setState } from "./state.js";
import { drawing } from "./svg.js";
import { quoteColumn, quoteValue, readWhere, writeWhere } from "./where.js";

let off = () => {};
let counted = new AbortController();

/** Build the filters of a gallery. */
export function mountFilters(container, info) {
  off();
  const folders = folderChoice(info.folders ?? [], (path, on) =>
    setState({ under: withFolder(getState().under, path, on) }, { push: true }));
  const columns = (info.metadata ?? []).map((column, index) => ({
    name: column.name,
    ...columnChoice(column, index, (choice) => choose(column.name, choice)),
  }));
  const expression = whereEditor(info);
  const count = el("span", { id: "filters-count", role: "status" });
  const clear = () => setState({ under: [], where: "" }, { push: true });
  const content = el("div", { class: "filter-parts" },
    info.folders?.length > 0 && el("section", { class: "folders" }, el("h2", { text: "Folders" }), folders.element),
    columns.length > 0 && el("section", { class: "columns" }, el("h2", { text: "Metadata" }), ...columns.map(({ element }) => element)),
    el("section", { class: "expression" }, expression.element),
    el("div", { class: "foot" }, count, el("button", { type: "button", class: "quiet small", id: "filters-reset", text: "Clear all", on: { click: clear } })));
  const panel = dropPanel("filters-open", { text: "Filters", children: [drawing("filter"), "Filters"] }, content);
  const chips = el("ul", { class: "chips", id: "filter-chips", "aria-label": "Active filters" });
  container.classList.add("filters");
  container.replaceChildren(panel.element, chips);

  const update = (state) => {
    const read = readWhere(state.where);
    folders.update(state.under);
    for (const { name, update: show } of columns) show(read?.columns.get(name));
    expression.update(state.where);
    showChips(chips, state, read, clear);
    showCount(info, state, count, expression);
  };
  off = onState((state, before) => {
    if (state.gallery === info.name && (state.where !== before.where || state.under !== before.under)) update(state);
  });
  update(getState());
}

function choose(name, choice) {
  const { where } = getState();
  const read = readWhere(where) ?? { columns: new Map(), others: [where] };
  read.columns.set(name, choice);
  setState({ where: writeWhere(read) }, { push: true });
}

function whereEditor(info) {
  const problem = el("p", { class: "problem", id: "where-problem", role: "alert" });
  const field = el("textarea", { id: "where", rows: 2, spellcheck: "false", autocapitalize: "off", "aria-describedby": "where-problem where-hint" });
  const complain = (words) => {
    problem.textContent = words;
    field.setAttribute("aria-invalid", String(Boolean(words)));
  };
  const apply = async () => {
    const where = field.value.trim();
    try {
      if (where) await countImages(info, { where, under: [] }, "where");
      complain("");
      setState({ where }, { push: true });
    } catch (error) {
      if (!isAborted(error)) complain(error.message);
    }
  };
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    apply();
  });
  const element = el("div", {}, el("label", { for: "where", text: "Condition" }), field, problem,
    el("div", { class: "where-foot" }, el("p", { class: "hint", id: "where-hint" }, "For example ", el("code", { text: exampleOf(info) })),
      el("button", { type: "button", class: "small", id: "where-apply", text: "Apply", on: { click: apply } })));
  return {
    element,
    complain,
    update: (where) => {
      if (field.value !== where) field.value = where;
      complain("");
    },
  };
}

function exampleOf(info) {
  const said = [];
  const text = info.metadata?.find(({ kind, values }) => kind !== "number" && values.length);
  const number = info.metadata?.find(({ kind, minimum }) => kind === "number" && minimum !== null);
  if (text) said.push(`${quoteColumn(text.name)} = ${quoteValue(text.values[0])}`);
  if (number) said.push(`${quoteColumn(number.name)} >= ${number.minimum}`);
  return said.join(" and ") || "name like '%.png'";
}

function countImages(info, { where, under }, lane) {
  const query = new URLSearchParams({ limit: "1" });
  if (where) query.set("where", where);
  for (const folder of under) query.append("under", folder);
  return api(`${galleryPath(info.name, "images")}?${query}`, { lane: `filters-${lane}`, signal: counted.signal });
}

async function showCount(info, state, count, expression) {
  counted.abort();
  counted = new AbortController();
  if (!state.where && !state.under.length) {
    count.textContent = `All ${plural(info.images, "picture")}`;
    return;
  }
  try {
    const { total } = await countImages(info, state, "count");
    count.textContent = `${total.toLocaleString("en")} of ${plural(info.images, "picture")}`;
  } catch (error) {
    if (isAborted(error)) return;
    count.textContent = "";
    if (error instanceof ProblemError) expression.complain(error.message);
  }
}

function showChips(list, state, read, clear) {
  const chips = state.under.map((path) =>
    chip(path.split(/[\\/]/).pop() || path, path, () => setState({ under: withFolder(state.under, path, false) }, { push: true })));
  const rewrite = (change) => {
    const next = readWhere(state.where);
    change(next);
    setState({ where: writeWhere(next) }, { push: true });
  };
  for (const [name, { values, from, to }] of read?.columns ?? []) {
    const words = values.length ? values.join(", ") : from === null ? `up to ${to}` : to === null ? `from ${from}` : `${from} to ${to}`;
    chips.push(chip(`${name}: ${words}`, "", () => rewrite((next) => next.columns.delete(name))));
  }
  read?.others.forEach((text, index) => chips.push(chip(text, "", () => rewrite((next) => next.others.splice(index, 1)))));
  if (!read) chips.push(chip(state.where, "", () => setState({ where: "" }, { push: true })));
  if (chips.length > 1) chips.push(el("li", {}, el("button", { type: "button", class: "quiet small", id: "filters-clear", text: "Clear all", on: { click: clear } })));
  list.replaceChildren(...chips);
  list.hidden = chips.length === 0;
}

function chip(text, title, remove) {
  return el("li", {}, el("button", {
    type: "button", class: "chip", title: title || text, "aria-label": `Remove the filter ${text}`, "data-testid": "filter-chip", on: { click: remove },
  }, el("span", { text }), drawing("cross")));
}
