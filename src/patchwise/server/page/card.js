// One hit in the grid: its picture with boxes, heat on demand, and what is to be said of it.

import { isAborted, thumbnailUrl } from "./api.js";
import { openHit } from "./current.js";
import { el, fileName } from "./dom.js";
import { paintHeat } from "./heat.js";
import { showFacts } from "./facts.js";
import { drawHit, makeOverlay, overlayText } from "./overlay.js";
import { drawing } from "./svg.js";
import { scoreText, verdictOf } from "./verdict.js";

const STEPS = [320, 640, 1280, 2048]; // few sizes, so that a browser's cache serves them again
const HAIR = 0.02;
const INTENT_MS = 110; // a pointer that only passes over asks for nothing

/** The smallest of the usual sizes that shows a picture sharp when its longer side covers this many CSS pixels. */
export function thumbnailSize(longer) {
  const wanted = longer * Math.min(window.devicePixelRatio || 1, 2);
  return STEPS.find((step) => step >= wanted) ?? STEPS.at(-1);
}

export class Card {
  #context;
  #explanations;
  #loading = null;
  #steady = false;
  #near = false;
  #timer = 0;
  #asked = 0;

  constructor(hit, { context, explanations }) {
    this.hit = hit;
    this.#context = context;
    this.#explanations = explanations;
    const verdict = verdictOf(hit);
    const name = fileName(hit.path);
    this.image = el("img", { class: "photo", alt: `${name}, with ${overlayText(hit)}`, loading: "lazy", decoding: "async" });
    this.image.addEventListener("error", () => this.shot.classList.add("broken"));
    this.heat = el("canvas", { class: "heat", "aria-hidden": "true" });
    this.overlay = makeOverlay(hit.size);
    this.shot = el("span", { class: "shot" }, this.image, this.heat, this.overlay,
      el("span", { class: "cannot", text: "This picture cannot be shown. Is its file still there?" }));
    this.button = el("button", {
      type: "button",
      class: "frame",
      "data-testid": "hit-open",
      "aria-label": `Hit ${hit.rank}, ${name}, score ${scoreText(hit.score)}, ${verdict.word}: show side by side`,
      on: { click: () => openHit(hit) },
    }, this.shot);
    this.element = el("li", {
      class: `hit ${verdict.kind}`,
      "data-testid": "hit",
      "data-image": hit.image,
      "data-path": hit.path,
      "data-rank": hit.rank,
      "data-score": hit.score,
      "data-verdict": verdict.kind,
    }, this.button, this.#tools(name), this.#caption(name, verdict));
    this.#listen();
  }

  /** Give the card its size in the grid; `height` is that of the picture, without the caption. */
  resize(width, height) {
    const { hit } = this;
    const scale = Math.min(width / hit.size[0], height / hit.size[1]);
    const shown = hit.size.map((side) => Math.max(Math.round(side * scale), 1));
    this.element.style.width = `${width}px`;
    this.button.style.height = `${height}px`;
    // Tiles are whole pixels and fill their row: the picture gives way by a hair where both nearly agree.
    const [wide, high] = [width, height].map((side, axis) => (side - shown[axis] <= HAIR * side ? side : shown[axis]));
    this.shot.style.width = `${wide}px`;
    this.shot.style.height = `${high}px`;
    this.image.width = wide;
    this.image.height = high;
    const needed = thumbnailSize(Math.max(wide, high));
    if (needed > this.#asked) {
      this.#asked = needed;
      this.image.src = thumbnailUrl(this.#context.gallery, hit.image, needed);
    }
    this.overlay.replaceChildren();
    drawHit(this.overlay, hit, hit.size[0] / wide);
  }

  /** Show heat as long as the card is near the screen, or only while someone looks at it. */
  keepHeat(on) {
    this.#steady = on;
    this.#follow();
  }

  /** Whether the card is on the screen or near it. */
  set near(near) {
    this.#near = near;
    this.#follow();
  }

  /** Paint again with the scale as it is now. */
  repaint() {
    const known = this.#explanations.known(this.hit);
    if (known && this.element.classList.contains("hot")) this.#paint(known);
  }

  #follow() {
    if (this.#steady && this.#near) this.#showHeat();
    else if (!this.#steady && !this.#watched()) this.#hideHeat();
  }

  #watched() {
    return this.element.matches(":hover") || this.button.matches(":focus-visible");
  }

  #listen() {
    const come = () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#showHeat(), INTENT_MS);
    };
    const go = () => {
      clearTimeout(this.#timer);
      if (!this.#steady && !this.#watched()) this.#hideHeat();
    };
    this.button.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && come());
    this.element.addEventListener("pointerleave", go);
    this.button.addEventListener("focus", () => this.button.matches(":focus-visible") && come());
    this.button.addEventListener("blur", go);
  }

  async #showHeat() {
    if (this.element.classList.contains("hot") || this.#loading) return;
    const loading = new AbortController();
    this.#loading = loading;
    this.element.classList.add("heating");
    try {
      const found = await this.#explanations.of(this.hit, loading.signal);
      if (!loading.signal.aborted) this.#paint(found);
    } catch (error) {
      // The picture stays as it is without its heat; the side by side view says what went wrong.
      if (!isAborted(error)) console.warn(`${this.hit.path}: no heat map`, error);
    } finally {
      if (this.#loading === loading) {
        this.#loading = null;
        this.element.classList.remove("heating");
      }
    }
  }

  #paint(found) {
    paintHeat(this.heat, found.map, this.#explanations.low, this.#explanations.high);
    this.element.classList.add("hot");
  }

  #hideHeat() {
    this.#loading?.abort();
    this.element.classList.remove("hot");
  }

  #tools(name) {
    const { hit } = this;
    return el("div", { class: "tools" },
      el("button", {
        type: "button",
        class: "tool",
        title: "Search with this box",
        "aria-label": `Search with the box found in ${name}`,
        "data-testid": "hit-search",
        on: { click: () => this.#context.searchWith({ image: hit.image, box: hit.box }) },
      }, drawing("box")));
  }

  #caption(name, verdict) {
    const { hit } = this;
    const info = el("button", {
      type: "button",
      class: "more",
      title: "Where it lies, and what is known of it",
      "aria-label": `More about ${name}`,
      "aria-haspopup": "dialog",
      "data-testid": "hit-info",
      on: { click: () => showFacts(info, hit, this.#context) },
    }, drawing("info"));
    const alike = hit.alike?.length
      ? el("span", { class: "alike", title: "Near-duplicates, shown as one", text: `+${hit.alike.length} alike` })
      : null;
    return el("div", { class: "caption" },
      el("div", { class: "name" }, el("span", { class: "rank", text: `${hit.rank}` }),
        el("span", { class: "file", title: hit.path, text: name }), info),
      el("div", { class: "said" }, el("span", { class: `verdict ${verdict.kind}`, text: verdict.word }), alike),
      el("div", { class: "numbers", title: `Score ${scoreText(hit.score)}: ${verdict.detail}` },
        el("span", { class: "score", text: scoreText(hit.score) }), ` · ${verdict.brief}`));
  }
}
