// The left side: what was asked for, each picture with its box.

import { thumbnailUrl } from "./api.js";
import { fitted } from "./compare_stage.js";
import { el } from "./dom.js";
import { drawBox } from "./overlay.js";
import { pictureFacts } from "./pictures.js";

/** The parts of a query; pictures come as soon as their sizes are known. */
export function queryView({ gallery, parts }) {
  const several = parts.length > 1;
  return el("div", { class: "asked", id: "compare-query" }, ...parts.map((part) => {
    const figure = el("figure", { class: part.weight < 0 ? "unwanted" : "" });
    const caption = el("figcaption", { text: captionOf(part, several) });
    if (part.text === undefined) {
      const place = el("div", { class: "place" });
      figure.append(place, caption);
      fill(place, caption, gallery, part);
    } else figure.append(el("blockquote", { text: part.text }), caption);
    return figure;
  }));
}

function captionOf(part, several) {
  const what = part.text !== undefined ? "Text" : part.box ? "Query, searched inside the box" : "Query, all of it";
  if (!several) return what;
  const weight = Math.abs(part.weight) === 1 ? "" : `, weight ${Math.abs(part.weight)}`;
  return `${part.weight < 0 ? "Not wanted" : "Wanted"}${weight}`;
}

async function fill(place, caption, gallery, part) {
  try {
    const { size, name } = await pictureFacts(gallery, part.image);
    const photo = el("img", { class: "photo", src: thumbnailUrl(gallery, part.image, 640), alt: `Query ${name}` });
    const { room, overlay } = fitted(size, photo);
    if (part.box) drawBox(overlay, part.box, "best", size, size[0] / 320);
    place.append(room);
    caption.title = name;
  } catch {
    // The side view lives on without it: the query half says what became of its picture.
    place.append(el("p", { class: "gone", text: "The query picture is no longer here." }));
  }
}
