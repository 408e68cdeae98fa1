// The picture that is asked about, and the box on it.

import { thumbnailUrl } from "./api.js";
import { BoxEditor, fitBox } from "./boxes.js";
import { announce, el } from "./dom.js";
import { previewOf } from "./pictures.js";

const KEY_PAUSE = 350; // ms after the last key before a search starts
const EDGES = [["x0", "Left"], ["y0", "Top"], ["x1", "Right"], ["y1", "Bottom"]];

// changed(box, {push}): the box stands as the user wants it. failed(): the picture cannot be shown.
export function makeStage({ changed, failed }) {
  let size = [1, 1];
  let shown = "";
  let waiting = 0;
  const picture = el("img", { id: "stage-picture", alt: "", draggable: "false" });
  const frame = el("div", {
    id: "stage-frame", class: "frame", tabindex: "0", role: "application", "aria-roledescription": "picture with a box",
    "aria-describedby": "stage-hint", "data-testid": "stage",
  }, picture);
  const busy = el("p", { class: "busy", hidden: true });
  const fields = EDGES.map(([name, label]) =>
    el("input", { type: "number", id: `box-${name}`, inputmode: "numeric", min: 0, step: 1, "aria-label": label,
      on: { change: typed } }));
  const whole = el("button", { type: "button", id: "box-clear", class: "small", on: { click: clear } },
    "Whole picture");
  const node = el("div", { class: "stage" },
    el("div", { class: "stage-picture" }, frame, busy),
    el("div", { class: "box-tools" },
      el("p", { class: "hint", id: "stage-hint" },
        el("span", { class: "hint-pointer", text: "Drag a box around the part to look for." }),
        el("span", { class: "hint-keys unseen", text: " By keyboard: arrow keys move the box, Shift with them resizes it, " +
          "Alt makes single pixels, Escape takes the whole picture." })),
      el("fieldset", { class: "edges" }, el("legend", { class: "unseen", text: "Box in pixels of the picture" }),
        ...fields.map((field, index) => el("label", {}, el("span", { "aria-hidden": "true", text: EDGES[index][0] }), field)))));
  const editor = new BoxEditor(frame, {
    live: write,
    commit(box, { by }) {
      clearTimeout(waiting);
      if (by === "pointer") performance.mark("patchwise:release");
      const settle = () => { changed(box, { push: by === "pointer" || !box }); tell(box); };
      if (by === "key" && box) waiting = setTimeout(settle, KEY_PAUSE);
      else settle();
    },
  });
  picture.addEventListener("error", () => {
    if (picture.src.startsWith("blob:")) picture.removeAttribute("src"); // a format that only the server reads
    else if (picture.hasAttribute("src")) failed();
  });

  function typed() {
    const edges = fields.map((field) => (field.value === "" ? NaN : Number(field.value)));
    const box = edges[0] < edges[2] && edges[1] < edges[3] ? fitBox(edges, size) : null;
    if (!box) {
      announce("That is no box: right must exceed left, and bottom must exceed top.");
      write(editor.box);
      return;
    }
    editor.setBox(box);
    write(box);
    changed(box, { push: true });
  }

  function clear() {
    clearTimeout(waiting);
    editor.setBox(null);
    write(null);
    changed(null, { push: true });
    announce("The whole picture is looked for.");
    frame.focus({ preventScroll: true });
  }

  function write(box) {
    const edges = box ?? [0, 0, ...size];
    fields.forEach((field, index) => {
      field.max = size[index % 2];
      field.value = edges[index];
    });
    whole.hidden = !box;
    node.classList.toggle("boxed", Boolean(box));
    frame.setAttribute("aria-label", box
      ? `Box from ${box[0]}, ${box[1]} to ${box[2]}, ${box[3]} of a picture of ${size[0]} by ${size[1]} pixels`
      : `The whole picture, ${size[0]} by ${size[1]} pixels`);
  }

  function tell(box) {
    if (box) announce(`Box ${box[2] - box[0]} by ${box[3] - box[1]} pixels.`);
  }

  function fit([width, height]) {
    size = [width, height];
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.setProperty("--ratio", width / height);
    editor.setPicture(size);
  }

  return {
    node,
    whole, // the button, for where there is room
    focus: () => frame.focus(),
    // The picture of a part of the query; its size and name are known.
    show({ gallery, image, box, facts }) {
      const address = thumbnailUrl(gallery, image, 1280);
      if (shown !== address) {
        clearTimeout(waiting);
        shown = address;
        fit(facts.size);
        // The user's own file is there at once; the server's picture takes its place without a flicker.
        picture.src = previewOf(image) ?? address;
        picture.alt = facts.name;
        if (picture.src !== address) replaceBy(address);
      }
      busy.hidden = true;
      editor.setBox(box);
      write(editor.box);
    },
    // A file that is still on its way to the server.
    preview(address, name) {
      shown = "";
      editor.setBox(null);
      picture.src = address;
      picture.alt = name;
      picture.decode().then(() => { if (!shown) fit([picture.naturalWidth, picture.naturalHeight]); }, () => {});
      busy.textContent = "Reading the picture …";
      busy.hidden = false;
    },
    forget() {
      shown = "";
      busy.hidden = true;
    },
  };

  function replaceBy(address) {
    const better = new Image();
    better.src = address;
    better.decode().then(() => { if (shown === address) picture.src = address; }, () => {});
  }
}
