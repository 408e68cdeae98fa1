// Region scores of hits: each is asked for once per answer, few at a time, and given up when nobody waits any more.

import { api, galleryPath } from "./api.js";
import { hitKey } from "./current.js";
import { heatMap, heatRange } from "./heat.js";
import { getState, searchRequest } from "./state.js";

const AT_ONCE = 3;

/** The explanations of one answer, and the colour scale that all its heat maps share. */
export class Explanations {
  #context;
  #known = new Map();
  #waiting = [];
  #running = 0;
  #listeners = new Set();

  /** @param {{image: string, path: string}|undefined} first the best hit, which opens the scale */
  constructor(context, first) {
    this.#context = context;
    this.first = first;
    this.low = Infinity;
    this.high = -Infinity;
  }

  /** Call a listener whenever the scale widens; returns how to stop that. */
  onScale(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * A hit's regions and its heat map; fails as `api` does, or with an AbortError once `signal` says so.
   *
   * The scale always holds the best hit, or a chance likeness looked at first would be as bright as a match.
   */
  async of(hit, signal) {
    const needed = [this.#one(hit, signal)];
    if (this.first && hitKey(this.first) !== hitKey(hit)) {
      needed.push(this.#one(this.first, signal).catch(() => {})); // only the scale is the poorer without it
    }
    const [wanted] = await Promise.all(needed);
    return wanted;
  }

  /** The same if it is known already, else undefined. */
  known(hit) {
    return this.#known.get(hitKey(hit))?.found;
  }

  #one(hit, signal) {
    const key = hitKey(hit);
    let entry = this.#known.get(key);
    if (!entry) {
      entry = { hit, waiters: 0, stop: new AbortController() };
      entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
      entry.promise.catch(() => {}); // those who wait are told below
      this.#known.set(key, entry);
      this.#waiting.push(entry);
      this.#startNext();
    }
    if (entry.found) return Promise.resolve(entry.found);
    entry.waiters += 1;
    return new Promise((resolve, reject) => {
      const leave = () => {
        entry.waiters -= 1;
        if (entry.waiters === 0 && !entry.found) this.#giveUp(key, entry);
        reject(new DOMException("nobody looks at it any more", "AbortError"));
      };
      signal?.addEventListener("abort", leave, { once: true });
      entry.promise.then(resolve, reject).finally(() => signal?.removeEventListener("abort", leave));
      if (signal?.aborted) leave();
    });
  }

  #giveUp(key, entry) {
    this.#known.delete(key);
    this.#waiting = this.#waiting.filter((other) => other !== entry);
    entry.stop.abort();
  }

  async #startNext() {
    if (this.#running >= AT_ONCE || this.#waiting.length === 0) return;
    const entry = this.#waiting.shift();
    this.#running += 1;
    try {
      const found = await this.#fetch(entry);
      found.map = heatMap(found.size, found.regions);
      entry.found = found;
      this.#widen(heatRange(found.map));
      entry.resolve(found);
    } catch (error) {
      if (this.#known.get(hitKey(entry.hit)) === entry) this.#known.delete(hitKey(entry.hit));
      entry.reject(error);
    } finally {
      this.#running -= 1;
      this.#startNext();
    }
  }

  #fetch({ hit, stop }) {
    const { gallery, parts } = this.#context;
    const body = { parts: searchRequest({ ...getState(), parts }).parts, image: hit.image, path: hit.path };
    return api(galleryPath(gallery, "explain"), { method: "POST", body, signal: stop.signal });
  }

  #widen([low, high]) {
    if (low >= this.low && high <= this.high) return;
    this.low = Math.min(low, this.low);
    this.high = Math.max(high, this.high);
    for (const listener of this.#listeners) listener();
  }
}
