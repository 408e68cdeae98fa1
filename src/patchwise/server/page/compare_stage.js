// The hit, large, with everything that can be laid over it.

import { thumbnailUrl } from "./api.js";
import { thumbnailSize } from "./card.js";
import { el, fileName } from "./dom.js";
import { paintHeat } from "./heat.js";
import { drawBox, drawHit, drawOutline, makeOverlay, overlayText } from "./overlay.js";
import { makeSvg } from "./svg.js";
import { placeText, scoreText } from "./verdict.js";

/** A picture that fills its surroundings as far as its shape allows, with an overlay in its own pixels. */
export function fitted(size, ...layers) {
  const overlay = makeOverlay(size);
  const shot = el("div", { class: "shot" }, ...layers, overlay);
  const room = el("div", { class: "room" }, shot);
  room.style.setProperty("--shape", size[0] / size[1]);
  room.style.setProperty("--pixels", `${Math.max(size[0] * 3, 260)}px`);
  return { room, shot, overlay };
}

export class Stage {
  #hit;
  #layers = new Map();
  #levels;
  #highlight;

  /** @param {(region) => void} onRegion told which region of a shown level the pointer is on, or null */
  constructor(hit, gallery, onRegion) {
    this.#hit = hit;
    this.photo = el("img", { class: "photo", alt: `${fileName(hit.path)}, with ${overlayText(hit)}` });
    this.heat = el("canvas", { class: "heat", "aria-hidden": "true" });
    const { room, shot, overlay } = fitted(hit.size, this.photo, this.heat);
    shot.append(el("span", { class: "cannot", text: "This picture cannot be shown. Is its file still there?" }));
    this.photo.addEventListener("error", () => shot.classList.add("broken"));
    this.element = room;
    this.element.id = "compare-stage";
    this.#levels = makeSvg("g", { class: "levels" });
    this.#highlight = makeSvg("g", { class: "highlight" });
    const found = makeSvg("g", { class: "found" });
    overlay.append(this.#levels, found, this.#highlight);
    const pixel = hit.size[0] / 800;
    drawHit(found, hit, pixel);
    this.#layers.set("best", found.querySelector(".best"));
    this.#layers.set("outline", found.querySelector(".outline"));
    this.found = found;
    this.#levels.addEventListener("pointerover", (event) => onRegion(event.target.region ?? null));
    this.#levels.addEventListener("pointerleave", () => onRegion(null));
    this.#load(gallery);
  }

  // What the grid has shown already comes at once, and gives way to a sharper one.
  #load(gallery) {
    const { image, size } = this.#hit;
    const sharp = thumbnailUrl(gallery, image, thumbnailSize(Math.min(Math.max(...size), 1000)));
    this.photo.src = thumbnailUrl(gallery, image, 320);
    this.ready = new Promise((resolve) => {
      const better = new Image();
      better.onload = () => {
        this.photo.src = sharp;
        resolve(better);
      };
      better.onerror = () => resolve(null);
      better.src = sharp;
    });
  }

  paint(map, low, high) {
    paintHeat(this.heat, map, low, high);
  }

  set heatOpacity(share) {
    this.heat.style.opacity = String(share);
  }

  /** Lay the refined box over the picture. */
  refine(hit) {
    this.#layers.set("refined", drawBox(this.found, hit.box, "refined", this.#hit.size, this.#hit.size[0] / 800));
    if (!this.#layers.get("outline")) this.#layers.set("outline", drawOutline(this.found, hit.geometry));
  }

  has(layer) {
    return Boolean(this.#layers.get(layer));
  }

  show(layer, on) {
    this.#layers.get(layer)?.setAttribute("visibility", on ? "visible" : "hidden");
  }

  /** Show all regions of these levels. */
  levels(regions, wanted) {
    this.#levels.replaceChildren(...regions.filter(({ level }) => wanted.has(level)).map((region) => {
      const [x0, y0, x1, y1] = region.box;
      const cell = makeSvg("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0 });
      cell.append(makeSvg("title"));
      cell.firstChild.textContent = `${placeText(region.level, region.cell)}: ${scoreText(region.score)}`;
      cell.region = region;
      return cell;
    }));
  }

  /** Bring one region out, or none. */
  highlight(region) {
    this.#highlight.replaceChildren();
    if (!region) return;
    const [width, height] = this.#hit.size;
    const [x0, y0, x1, y1] = region.box;
    const around = `M0 0H${width}V${height}H0ZM${x0} ${y0}V${y1}H${x1}V${y0}Z`;
    this.#highlight.append(makeSvg("path", { d: around, class: "shade", "fill-rule": "evenodd" }));
    drawBox(this.#highlight, region.box, "brought", this.#hit.size, width / 800);
  }
}

/** Draw a part of a loaded picture on a canvas, as large as it fits into `side` CSS pixels. */
export function drawCrop(canvas, picture, box, size, side) {
  const scale = picture.naturalWidth / size[0];
  const [x, y, width, height] = [box[0] * scale, box[1] * scale, (box[2] - box[0]) * scale, (box[3] - box[1]) * scale];
  const fit = side * Math.min(window.devicePixelRatio || 1, 2) / Math.max(width, height);
  canvas.width = Math.max(Math.round(width * fit), 1);
  canvas.height = Math.max(Math.round(height * fit), 1);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, x, y, width, height, 0, 0, canvas.width, canvas.height);
}
