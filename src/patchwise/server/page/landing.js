// The first view: what to do while nothing is asked yet, and in a gallery that is still empty.

import { api, galleryPath, thumbnailUrl } from "./api.js";
import { el, fileName, icon, plural } from "./dom.js";
import { pickButton } from "./intake.js";
import { learn } from "./pictures.js";
import { linkOf, setState } from "./state.js";

const SAMPLES = 8;

// take(files), words(text) and choose(image) make the query.
export function makeLanding({ take, words, choose }) {
  const node = el("div", { class: "landing", "data-testid": "landing" });
  let shown = "";
  let all = null; // says how many pictures there are
  return {
    node,
    show(info) {
      if (all) all.textContent = allOf(info);
      const now = info ? JSON.stringify([info.name, info.images === 0, info.can_add]) : "";
      if (now === shown) return;
      all = null;
      shown = now;
      node.replaceChildren(...(info && info.images === 0 ? emptyGallery(info) : ready(info)));
    },
  };

  function ready(info) {
    const text = el("input", { type: "search", id: "landing-text", placeholder: "or describe it in words", "aria-label": "Describe it in words" });
    const samples = el("ul", { class: "samples", "aria-label": "Pictures of the gallery" });
    if (info) fill(samples, info);
    return [
      el("h2", { text: "Find a thing in your pictures" }),
      el("p", { class: "lead", text: "Give a picture, draw a box around what matters, and see every place where it is." }),
      el("div", { class: "drop-zone" }, icon("drop"),
        el("p", {}, el("strong", { class: "no-touch", text: "Drop a picture anywhere" }), el("span", { class: "no-touch", text: "or paste it" }),
          el("strong", { class: "touch-only", text: "Start with a picture" })),
        el("div", { class: "actions" },
          pickButton({ id: "pick-picture", class: "main", take }, icon("picture"), "Choose a picture"),
          pickButton({ id: "pick-camera", class: "touch-only", input: { capture: "environment" }, take }, icon("camera"), "Take a photo"))),
      info?.reads_text && el("form", { class: "words", id: "landing-words", on: { submit: (event) => {
        event.preventDefault();
        if (text.value.trim()) words(text.value.trim());
      } } }, text, el("button", { class: "button", text: "Search" })),
      samples,
    ].filter(Boolean);
  }

  function emptyGallery(info) {
    return [
      el("h2", { text: "This gallery is empty" }),
      el("p", { class: "lead", text: info.can_add ? "Put the pictures into it that you want to search." : "Pictures are put into it from the command line." }),
      info.can_add && el("div", { class: "drop-zone" }, icon("drop"),
        el("p", { class: "no-touch" }, el("strong", { text: "Drop pictures or folders here" })),
        el("div", { class: "actions" }, el("button", { type: "button", class: "main", id: "empty-add", "data-add": "", text: "Add pictures" }))),
      el("p", { class: "command" }, info.can_add ? "Or index a folder where it lies: " : "Index a folder: ", el("code", { text: "patchwise index FOLDER --gallery DIR" })),
    ].filter(Boolean);
  }

  // A few pictures from here and there in the gallery, to start from.
  async function fill(list, info) {
    const starts = [0.1, 0.35, 0.6, 0.85].map((place) => Math.floor(place * Math.max(0, info.images - 2)));
    const asked = starts.map((offset) => api(`${galleryPath(info.name, "images")}?offset=${offset}&limit=${SAMPLES / starts.length}`));
    const pages = await Promise.all(asked).catch(() => []); // only a convenience; a search says what is wrong
    const images = [...new Map(pages.flatMap((page) => page.images).map((image) => [image.image, image])).values()];
    if (!images.length) return;
    all = el("span", { text: allOf(info) });
    list.replaceChildren(
      ...images.map((image) => el("li", {}, el("button", { type: "button", class: "sample", "aria-label": `Search with ${fileName(image.path)}`,
        on: { click: () => {
          learn(info.name, image.image, { size: image.size, name: fileName(image.path) });
          choose(image.image);
        } } },
        el("img", { src: thumbnailUrl(info.name, image.image, 320), alt: "", loading: "lazy", decoding: "async", draggable: "false" })))),
      el("li", { class: "all" }, el("a", { href: linkOf({ view: "browse" }), id: "landing-browse", on: { click: (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        setState({ view: "browse" }, { push: true });
      } } }, icon("grid"), all)));
  }
}

function allOf({ images }) {
  return images === 1 ? "Browse the picture" : `Browse all ${plural(images, "picture")}`;
}
