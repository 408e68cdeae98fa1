// The slider for the lowest score that is shown; it acts in the browser at once, and says how many stay.

import { el } from "./dom.js";
import { scoreText } from "./verdict.js";

const STEP = 0.005;
const REMEMBER_MS = 200; // browsers refuse to note the address anew too often

export class ScoreSlider {
  #remember;
  #timer = 0;
  #low = 0;

  /** @param {(least: number|null) => void} remember takes the score when the hand rests */
  constructor(remember) {
    this.#remember = remember;
    this.least = null;
    this.onInput = () => {};
    this.input = el("input", {
      type: "range",
      id: "min-score",
      step: STEP,
      "aria-describedby": "min-score-text",
      on: { input: () => this.#moved(), change: () => this.#rest() },
    });
    this.output = el("output", { id: "min-score-text", for: "min-score" });
    this.element = el("div", { class: "score-slider" },
      el("label", { for: "min-score", text: "Least score" }), this.input, this.output);
  }

  /** Take a score from elsewhere; answers whether it is another one. */
  set(least) {
    const other = this.least !== least;
    this.least = least;
    return other;
  }

  /** Let the slider reach from the lowest to the highest of these hits. */
  range(hits) {
    const scores = hits.map((hit) => hit.score);
    this.element.hidden = scores.length < 2;
    if (scores.length === 0) return;
    this.#low = Math.floor(Math.min(...scores, this.least ?? Infinity) / STEP) * STEP;
    this.input.min = this.#low.toFixed(3);
    this.input.max = (Math.ceil(Math.max(...scores, this.least ?? -Infinity) / STEP) * STEP).toFixed(3);
    this.input.value = String(this.least ?? this.#low);
  }

  /** Tell how many hits reach the score. */
  say(staying, all) {
    const score = this.least === null ? "any" : scoreText(this.least);
    const told = this.least === null ? `any, ${all} shown` : `${score}, ${staying} of ${all}`;
    this.output.textContent = told;
    this.input.setAttribute("aria-valuetext", told);
  }

  #moved() {
    const value = Number(this.input.value);
    this.least = value <= this.#low + STEP / 2 ? null : Math.round(value * 1000) / 1000;
    this.onInput();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#rest(), REMEMBER_MS);
  }

  #rest() {
    clearTimeout(this.#timer);
    this.#remember(this.least);
  }
}
