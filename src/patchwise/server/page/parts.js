// The list of what is asked for: pictures and texts, wanted or not, and how much each counts.

import { thumbnailUrl } from "./api.js";
import { el, icon } from "./dom.js";
import { knownFacts, previewOf } from "./pictures.js";

const WEIGHTS = [0.25, 0.5, 1, 2, 4];

// choose(index): show that picture on the stage; change(index, change) and remove(index) of the part.
export function makePartsList({ choose, change, remove }) {
  const node = el("ul", { id: "parts", class: "parts", "aria-label": "Parts of the query", "data-testid": "parts" });
  let built = "";

  return {
    node,
    show({ gallery, parts, active, missing }) {
      const single = parts.length === 1 && parts[0].text === undefined && parts[0].weight > 0;
      node.hidden = single || parts.length === 0;
      node.classList.toggle("only", parts.length === 1 && parts[0].weight === 1);
      // Rows are made anew only where there are others, so that typing and the focus are left alone.
      const shape = parts.map((part) => part.image ?? "text").join("|") + gallery;
      if (shape !== built) {
        built = shape;
        node.replaceChildren(...parts.map((part, index) => row(gallery, part, index)));
      }
      parts.forEach((part, index) => update(node.children[index], gallery, part, index === active, missing.has(part.image)));
    },
  };

  function row(gallery, part, index) {
    const isText = part.text !== undefined;
    const label = `part ${index + 1}`;
    const face = isText
      ? el("input", { type: "text", class: "part-text", "aria-label": `Text of ${label}`, id: `part-${index}-text`,
          on: { change: (event) => {
            const text = event.target.value.trim();
            if (text) change(index, { text });
            else remove(index);
          } } })
      : el("button", { type: "button", class: "part-face", id: `part-${index}-show`, on: { click: () => choose(index) } },
          el("img", { src: previewOf(part.image) ?? thumbnailUrl(gallery, part.image, 128), alt: "", draggable: "false" }),
          el("span", { class: "part-name" }));
    const weights = el("select", { class: "part-weight", id: `part-${index}-weight`, "aria-label": `How much ${label} counts`,
      on: { change: (event) => change(index, (old) => ({ weight: Math.sign(old.weight || 1) * Number(event.target.value) })) } });
    return el("li", { class: isText ? "part of-text" : "part", "data-testid": "part" }, face,
      el("button", { type: "button", class: "small part-not", id: `part-${index}-not`, "aria-pressed": "false", text: "Not this",
        on: { click: () => change(index, (old) => ({ weight: -old.weight || -1 })) } }),
      weights,
      el("button", { type: "button", class: "quiet round part-remove", id: `part-${index}-remove`, "aria-label": `Remove ${label}`,
        on: { click: () => remove(index) } }, icon("cross")));
  }
}

function update(row, gallery, part, active, missing) {
  const factor = Math.abs(part.weight);
  const text = row.querySelector(".part-text");
  if (text && document.activeElement !== text) text.value = part.text;
  row.classList.toggle("active", active && !text);
  row.classList.toggle("unwanted", part.weight < 0);
  row.querySelector(".part-not").setAttribute("aria-pressed", String(part.weight < 0));
  const name = row.querySelector(".part-name");
  if (name) {
    const known = knownFacts(gallery, part.image)?.name ?? "picture";
    name.textContent = missing ? "no longer here" : part.box ? `part of ${known}` : known;
    const face = row.querySelector(".part-face");
    face.setAttribute("aria-pressed", String(active));
    face.setAttribute("aria-label", `Show ${name.textContent}`);
  }
  const weights = row.querySelector(".part-weight");
  const choices = WEIGHTS.includes(factor) ? WEIGHTS : [...WEIGHTS, factor].sort((a, b) => a - b);
  if (weights.children.length !== choices.length || weights.value !== String(factor)) {
    weights.replaceChildren(...choices.map((value) => el("option", { value, text: `× ${value}` })));
    weights.value = String(factor);
  }
}
