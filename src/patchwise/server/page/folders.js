// The folders of a gallery as a tree to choose from.

import { el } from "./dom.js";
import { drawing } from "./svg.js";

const FEW = 9; // more folders than these are searched rather than read

/**
 * A forest of {path, name, images, children} from [{path, images directly in it}]; `images` counts what lies below.
 *
 * A folder that holds nothing but one folder is named together with it.
 */
export function folderTree(folders) {
  const root = { path: "", own: 0, children: new Map() };
  for (const { path, images } of folders) {
    let node = root;
    let prefix = "";
    for (const step of path.split(/(?<=[\\/])/)) {
      prefix += step;
      const here = trimmed(prefix);
      if (!node.children.has(here)) node.children.set(here, { path: here, own: 0, children: new Map() });
      node = node.children.get(here);
    }
    node.own += images;
  }
  return below(root);
}

const trimmed = (path) => (path.length > 1 ? path.replace(/[\\/]$/, "") : path);

function below(node) {
  const nodes = [...node.children.values()].map((child) => finished(child, node.path));
  return nodes.sort((a, b) => b.images - a.images || (a.path < b.path ? -1 : 1));
}

function finished(node, parent) {
  let here = node;
  while (here.own === 0 && here.children.size === 1) [here] = here.children.values();
  const children = below(here);
  const images = here.own + children.reduce((total, child) => total + child.images, 0);
  const name = here.path.slice(parent.length).replace(parent ? /^[\\/]/ : /^/, "");
  return { path: here.path, name, images, children };
}

const isBelow = (path, folder) => path.startsWith(folder.endsWith("/") ? folder : `${folder}/`) || path.startsWith(`${folder}\\`);

/** Choose or leave a folder: what lies below a chosen one is chosen with it. */
export function withFolder(under, path, on) {
  const others = under.filter((one) => one !== path && !(on && isBelow(one, path)));
  return on ? [...others, path] : others;
}

/** The tree as check boxes: `{element, update(under)}`; `onChange(path, on)`. */
export function folderChoice(folders, onChange) {
  const rows = [];
  let numbered = 0;
  const list = (nodes, depth) => el("ul", { class: depth ? "" : "folder-tree" }, ...nodes.map((node) => row(node, depth)));
  const row = (node, depth) => {
    const input = el("input", { type: "checkbox", id: `folder-${numbered++}`, "data-path": node.path,
      on: { change: () => onChange(node.path, input.checked) } });
    const below = node.children.length ? list(node.children, depth + 1) : null;
    const fold = below && el("button", { type: "button", class: "fold", "aria-expanded": "true", "aria-label": `Folders in ${node.name}` }, drawing("next"));
    const item = el("li", {}, el("div", { class: "folder" }, fold || el("span", { class: "fold" }),
      el("label", { title: node.path }, input, el("span", { class: "folder-name", text: node.name }),
        el("span", { class: "tally", text: node.images.toLocaleString("en") }))), below);
    const set = (open) => {
      if (!below) return;
      below.hidden = !open;
      fold.setAttribute("aria-expanded", String(open));
    };
    fold?.addEventListener("click", () => set(below.hidden));
    rows.push({ node, input, item, set, depth });
    return item;
  };
  const tree = list(folderTree(folders), 0);
  rows.forEach(({ set, depth }) => set(depth < 1));
  const search = el("input", { type: "search", id: "folder-search", placeholder: "Find a folder", "aria-label": "Find a folder",
    on: { input: () => find(search.value.trim().toLowerCase()) } });
  const find = (words) => {
    for (const { node, item, set, depth } of rows) {
      const fits = node.path.toLowerCase().includes(words);
      item.hidden = words !== "" && !fits && !someBelow(node, words);
      set(words ? someBelow(node, words) : depth < 1);
    }
  };
  return {
    element: el("div", {}, rows.length > FEW && search, tree),
    update: (under) => {
      for (const { node, input, set, depth } of rows) {
        const above = under.some((folder) => isBelow(node.path, folder));
        input.checked = above || under.includes(node.path);
        input.disabled = above;
        if (depth && under.some((folder) => isBelow(folder, node.path))) set(true);
      }
    },
  };
}

function someBelow(node, words) {
  return node.children.some((child) => child.path.toLowerCase().includes(words) || someBelow(child, words));
}
