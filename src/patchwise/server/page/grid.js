// A justified grid of cards that keeps its shape when the window or the choice of hits changes.

import { Card } from "./card.js";
import { current, hitKey } from "./current.js";
import { el } from "./dom.js";
import { justify } from "./justified.js";

const GAP = 12;
const PHONE = 560;
const NARROWEST = 112; // CSS pixels in a row of the wanted height

export class Grid {
  #cards = new Map();
  #width = 0;
  #heat = false;
  #seen;
  #resized;

  constructor(id, label) {
    this.element = el("ol", { class: "grid", id, "aria-label": label, on: { keydown: (event) => this.#walk(event) } });
    this.#seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const card = this.#cards.get(entry.target.dataset.key);
        if (card) card.near = entry.isIntersecting;
      }
    }, { rootMargin: "200px" });
    this.#resized = new ResizeObserver(() => this.layout());
    this.#resized.observe(this.element);
  }

  /** Show these hits, in this order; cards of those shown before are kept. */
  show(hits) {
    const { context, explanations } = current();
    const kept = new Map();
    for (const hit of hits) {
      const key = hitKey(hit);
      const card = this.#cards.get(key) ?? new Card(hit, { context, explanations });
      card.element.dataset.key = key;
      kept.set(key, card);
    }
    for (const [key, card] of this.#cards) {
      if (kept.has(key)) continue;
      this.#seen.unobserve(card.element);
      card.keepHeat(false);
      card.element.remove();
    }
    const fresh = [...kept].filter(([key]) => !this.#cards.has(key));
    this.#cards = kept;
    const wanted = [...kept.values()].map((card) => card.element);
    wanted.forEach((element, index) => {
      // Only what is out of place is moved: moving the card with the focus would lose it.
      if (this.element.children[index] !== element) this.element.insertBefore(element, this.element.children[index] ?? null);
    });
    for (const [, card] of fresh) {
      this.#seen.observe(card.element);
      card.keepHeat(this.#heat);
    }
    this.#width = 0;
    this.layout();
  }

  /** Fit the cards to the width there is. */
  layout() {
    const width = Math.floor(this.element.clientWidth);
    if (width === 0 || width === this.#width) return;
    this.#width = width;
    const cards = [...this.#cards.values()];
    const tiles = justify(cards.map(({ hit }) => hit.size[0] / hit.size[1]), width, shapeFor(width));
    cards.forEach((card, index) => card.resize(tiles[index].width, tiles[index].height));
  }

  heat(on) {
    this.#heat = on;
    for (const card of this.#cards.values()) card.keepHeat(on);
  }

  repaint() {
    for (const card of this.#cards.values()) card.repaint();
  }

  /** Put the focus on a hit, if it is here. */
  focus(hit) {
    const card = hit && this.#cards.get(hitKey(hit));
    card?.button.focus();
    return Boolean(card);
  }

  destroy() {
    this.#seen.disconnect();
    this.#resized.disconnect();
    for (const card of this.#cards.values()) card.keepHeat(false);
  }

  // Arrow keys walk from picture to picture; up and down find the nearest in the next row.
  #walk(event) {
    const from = event.target.closest?.(".frame");
    if (!from || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const buttons = [...this.#cards.values()].map((card) => card.button);
    const here = buttons.indexOf(from);
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: buttons.length - 1 }[event.key]
      ?? this.#nearest(buttons, here, event.key);
    if (to === undefined || !buttons[to]) return;
    event.preventDefault();
    buttons[to].focus();
  }

  #nearest(buttons, here, key) {
    if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
    const places = buttons.map((button) => button.getBoundingClientRect());
    const beyond = (place) => (key === "ArrowUp" ? place.bottom <= places[here].top : place.top >= places[here].bottom);
    const middle = (place) => place.left + place.width / 2;
    const distance = (place) =>
      Math.abs(place.top - places[here].top) * 10 + Math.abs(middle(place) - middle(places[here]));
    return places
      .map((place, index) => ({ place, index }))
      .filter(({ place }) => beyond(place))
      .sort((one, other) => distance(one.place) - distance(other.place))[0]?.index;
  }
}

/** What rows look like in a grid of this width; no tile is too narrow for its verdict. */
export function shapeFor(width) {
  const height = width < PHONE ? 150 : width < 1000 ? 180 : 205;
  return { height, gap: GAP, narrowest: NARROWEST / height, flattest: 3.4 };
}
