// Drawing a box on a picture by mouse, touch, pen and keyboard.
//
// Boxes are [x0, y0, x1, y1] in whole pixels of the upright original, at least LEAST wide and high.

const LEAST = 2;
const DRAWN = 6; // a shorter drag on the screen is a click, not a box
const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

const limit = (value, low, high) => Math.min(Math.max(value, low), high);

// Any four numbers as a box within a picture of this size; null where nothing is left of it.
export function fitBox(box, [width, height]) {
  const across = [box[0], box[2]].map((x) => Math.round(limit(x, 0, width))).sort((a, b) => a - b);
  const down = [box[1], box[3]].map((y) => Math.round(limit(y, 0, height))).sort((a, b) => a - b);
  const least = [Math.min(LEAST, width), Math.min(LEAST, height)];
  if (![...across, ...down].every(Number.isFinite)) return null;
  if (across[1] - across[0] < least[0] || down[1] - down[0] < least[1]) return null;
  return [across[0], down[0], across[1], down[1]];
}

export function moveBox([x0, y0, x1, y1], dx, dy, [width, height]) {
  const right = limit(dx, -x0, width - x1);
  const downwards = limit(dy, -y0, height - y1);
  return [x0 + right, y0 + downwards, x1 + right, y1 + downwards];
}

// Pulls the edges named by a handle ("nw", "e", ...) to a point; an edge pulled across its opposite changes places.
export function pullBox(box, handle, [x, y]) {
  const pulled = [...box];
  if (handle.includes("w")) pulled[0] = x;
  if (handle.includes("e")) pulled[2] = x;
  if (handle.includes("n")) pulled[1] = y;
  if (handle.includes("s")) pulled[3] = y;
  return pulled;
}

export class BoxEditor {
  // frame: a positioned element that covers the picture exactly. live(box) while it changes, commit(box, {by}) when it
  // stands: by is "pointer" or "key"; box is null for the whole picture.
  constructor(frame, { live, commit }) {
    this.frame = frame;
    this.live = live;
    this.commit = commit;
    this.size = [1, 1];
    this.box = null;
    this.drag = null;
    this.veil = layer("veil");
    this.hole = layer("hole");
    this.veil.append(this.hole);
    this.outline = layer("box");
    this.outline.append(...HANDLES.map((name) => Object.assign(layer(`handle ${name}`), { handle: name })));
    frame.append(this.veil, this.outline);
    frame.addEventListener("pointerdown", (event) => this.#down(event));
    frame.addEventListener("pointermove", (event) => this.#move(event));
    frame.addEventListener("pointerup", (event) => this.#up(event));
    frame.addEventListener("pointercancel", () => this.#giveUp());
    frame.addEventListener("keydown", (event) => this.#key(event));
    frame.addEventListener("dragstart", (event) => event.preventDefault());
    this.#draw();
  }

  setPicture(size) {
    this.size = size;
    this.#giveUp();
    this.#draw();
  }

  setBox(box) {
    if (this.drag) return;
    this.box = box && fitBox(box, this.size);
    this.#draw();
  }

  #down(event) {
    if (!event.isPrimary || event.button !== 0 || this.drag) return;
    event.preventDefault();
    this.frame.focus({ preventScroll: true });
    this.frame.setPointerCapture(event.pointerId);
    const handle = event.target.handle;
    const kind = handle ? "pull" : this.box && event.target === this.outline ? "move" : "draw";
    this.drag = { kind, handle, from: this.#point(event), screen: [event.clientX, event.clientY], before: this.box };
    this.frame.classList.add("dragging");
  }

  #move(event) {
    if (!this.drag || !event.isPrimary) return;
    const { kind, handle, from, screen, before } = this.drag;
    const at = this.#point(event);
    if (kind === "draw") {
      if (Math.hypot(event.clientX - screen[0], event.clientY - screen[1]) < DRAWN) return;
      this.#show(fitBox([...from, ...at], this.size) ?? this.box);
    } else if (kind === "pull") {
      this.#show(fitBox(pullBox(before, handle, at), this.size) ?? this.box);
    } else {
      this.#show(moveBox(before, Math.round(at[0] - from[0]), Math.round(at[1] - from[1]), this.size));
    }
  }

  #up(event) {
    if (!this.drag || !event.isPrimary) return;
    this.#move(event);
    const { before } = this.drag;
    this.drag = null;
    this.frame.classList.remove("dragging");
    if (!same(before, this.box)) this.commit(this.box, { by: "pointer" });
  }

  #giveUp() {
    if (!this.drag) return;
    const { before } = this.drag;
    this.drag = null;
    this.frame.classList.remove("dragging");
    this.#show(before);
  }

  #key(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") {
      if (this.drag) this.#giveUp();
      else if (this.box) this.#set(null);
      else return;
    } else if (!this.box && (way || event.key === "Enter" || event.key === " ")) {
      const [width, height] = this.size;
      this.#set(fitBox([width / 4, height / 4, (width * 3) / 4, (height * 3) / 4], this.size));
    } else if (way) {
      // One hundredth of the picture at a time; single pixels with Alt or Ctrl.
      const step = event.altKey || event.ctrlKey ? 1 : Math.max(1, Math.round(Math.max(...this.size) / 100));
      const [dx, dy] = [way[0] * step, way[1] * step];
      const [x0, y0, x1, y1] = this.box;
      const next = event.shiftKey
        ? [x0, y0, Math.max(x1 + dx, x0 + LEAST), Math.max(y1 + dy, y0 + LEAST)]
        : moveBox(this.box, dx, dy, this.size);
      this.#set(fitBox(next, this.size) ?? this.box);
    } else return;
    event.preventDefault();
  }

  #set(box) {
    this.#show(box);
    this.commit(box, { by: "key" });
  }

  #show(box) {
    this.box = box;
    this.#draw();
    this.live(box);
  }

  #point({ clientX, clientY }) {
    const { left, top, width, height } = this.frame.getBoundingClientRect();
    return [((clientX - left) / width) * this.size[0], ((clientY - top) / height) * this.size[1]];
  }

  #draw() {
    this.veil.hidden = this.outline.hidden = !this.box;
    this.frame.classList.toggle("boxed", Boolean(this.box));
    if (!this.box) return;
    const [width, height] = this.size;
    const [x0, y0, x1, y1] = this.box;
    for (const { style } of [this.outline, this.hole]) {
      style.left = `${(x0 / width) * 100}%`;
      style.top = `${(y0 / height) * 100}%`;
      style.width = `${((x1 - x0) / width) * 100}%`;
      style.height = `${((y1 - y0) / height) * 100}%`;
    }
  }
}

function layer(name) {
  const node = document.createElement("div");
  node.className = name;
  return node;
}

function same(a, b) {
  return a === b || Boolean(a && b && a.every((edge, index) => edge === b[index]));
}
