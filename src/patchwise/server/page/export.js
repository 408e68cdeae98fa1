// Taking results along: files, lists, links.
//
// mountExport(container)
//
// Controls: #export-open, #export-json, #export-csv, #export-html, #export-matches, #export-paths, #export-link,
// #export-state.

import { api, galleryPath, isAborted } from "./api.js";
import { copyText } from "./clipboard.js";
import { current, onCurrent } from "./current.js";
import { el, plural } from "./dom.js";
import { dropPanel } from "./panel.js";
import { getState, linkOf, searchRequest } from "./state.js";
import { drawing } from "./svg.js";

const FORGET_MS = 60_000;
const MOST = 1000; // hits in one answer of the server

/** Build the button and its panel; it is there while there are results. */
export function mountExport(container) {
  const state = el("p", { class: "hint", id: "export-state", role: "status" });
  const say = (words) => { state.textContent = words; };
  const file = (format, label, hint) => item(`export-${format}`, "down", label, hint, () => save(format, say));
  const matches = item("export-matches", "copy", "", "", (button) => copyPaths(button, say, (hit) => hit.matches !== false));
  const all = item("export-paths", "copy", "", "", (button) => copyPaths(button, say, () => true));
  const link = item("export-link", "link", "Copy the link", "to this search, for those who reach this server", async (button) => {
    const address = new URL(linkOf({ open: "" }), location.href).href;
    say((await copyText(address, button)) ? "The link is copied." : "Copying is not allowed here.");
  });
  const content = el("div", { class: "export-items" },
    file("html", "HTML report", "one file with pictures, boxes and heat maps"),
    file("csv", "CSV", "a row for each hit"),
    file("json", "JSON", "with the ten best regions of each"),
    matches, all, link, state);
  const refresh = () => {
    const hits = wanted();
    const strong = hits.filter((hit) => hit.matches !== false).length;
    matches.hidden = strong === 0 || strong === hits.length;
    label(matches, `Copy ${plural(strong, "path")}`, "without those that may be chance");
    label(all, `Copy ${plural(hits.length, "path")}`, "one on each line");
  };
  const panel = dropPanel("export-open", { text: "Export", children: [drawing("down"), "Export"] }, content,
    { side: "right", onOpen: () => { say(""); refresh(); } });
  container.classList.add("exporting");
  container.replaceChildren(panel.element);
  const follow = (found) => {
    container.hidden = !found?.hits.length;
    if (!panel.panel.hidden) refresh();
  };
  onCurrent(follow);
  follow(current());
}

function item(id, picture, name, hint, run) {
  const button = el("button", { type: "button", class: "quiet", id, on: { click: () => run(button) } }, drawing(picture),
    el("span", {}, el("b", { text: name }), el("small", { text: hint })));
  return button;
}

function label(button, name, hint) {
  button.querySelector("b").textContent = name;
  button.querySelector("small").textContent = hint;
}

// The hits that are loaded and reach the score.
function wanted() {
  const { minScore } = getState();
  return (current()?.hits ?? []).filter((hit) => minScore === null || hit.score >= minScore);
}

async function copyPaths(button, say, fits) {
  const paths = wanted().filter(fits).map((hit) => hit.path);
  say((await copyText(paths.join("\n"), button)) ? `${plural(paths.length, "path")} copied.` : "Copying is not allowed here.");
}

async function save(format, say) {
  const { gallery } = current().context;
  const { minScore } = getState();
  const k = Math.min(Math.max(current().hits.length, getState().k), MOST);
  const body = { ...searchRequest(getState()), k, ...(minScore === null ? {} : { min_score: minScore }) };
  say("Preparing the file …");
  try {
    const response = await api(galleryPath(gallery, "search", "export", format), { method: "POST", body, raw: true, lane: "export" });
    const blob = await response.blob();
    const name = nameIn(response.headers.get("Content-Disposition")) ?? `patchwise-${gallery}.${format}`;
    const address = URL.createObjectURL(blob);
    el("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), FORGET_MS);
    say(`${name} is saved where your browser keeps downloads.`);
  } catch (error) {
    if (!isAborted(error)) say(`The file could not be made: ${error.message}`);
  }
}

function nameIn(disposition) {
  return /filename="?([^";]+)"?/.exec(disposition ?? "")?.[1] ?? null;
}
