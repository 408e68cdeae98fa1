// Why it matched: the ten best regions, and all regions by level.

import { drawCrop } from "./compare_stage.js";
import { el, plural } from "./dom.js";
import { placeText, scoreText } from "./verdict.js";

const CROP = 56; // CSS pixels, as in results.css

/**
 * The best regions as buttons: looking at one brings it out in the picture, pressing one keeps it.
 *
 * `onLook(region|null)`, `onPin(region|null)`.
 */
export function bestRegions(hit, stage, { onLook, onPin }) {
  let pinned = null;
  const rows = hit.regions.slice(0, 10).map((region, index) => {
    const crop = el("canvas", { class: "crop", "aria-hidden": "true" });
    const place = placeText(region.level, region.cell);
    const button = el("button", {
      type: "button",
      class: "region",
      "aria-pressed": "false",
      "aria-label": `Region ${index + 1}, score ${scoreText(region.score)}, ${place}`,
      "data-testid": "region",
      "data-box": region.box.join(","),
    }, el("span", { class: "crop-place" }, crop),
      el("span", { class: "words" }, el("b", { text: scoreText(region.score) }), el("span", { text: shortPlace(region) })));
    button.addEventListener("pointerenter", () => onLook(region));
    button.addEventListener("focus", () => onLook(region));
    for (const away of ["pointerleave", "blur"]) button.addEventListener(away, () => onLook(pinned));
    button.addEventListener("click", () => {
      pinned = pinned === region ? null : region;
      rows.forEach((row) => row.button.setAttribute("aria-pressed", String(row.region === pinned)));
      onPin(pinned);
    });
    return { button, crop, region };
  });
  stage.ready.then((picture) => {
    if (picture) rows.forEach(({ crop, region }) => drawCrop(crop, picture, region.box, hit.size, CROP));
  });
  return el("ol", { class: "regions", id: "compare-regions" }, ...rows.map(({ button }) => el("li", {}, button)));
}

function shortPlace({ level, cell }) {
  if (level < 0) return "box";
  return level === 0 ? "whole" : `L${level} ${cell[0]},${cell[1]}`;
}

/** Switches for the regions of each level; `onChange` is given the levels that are wanted. */
export function levelSwitches(regions, onChange) {
  const counts = new Map();
  for (const { level } of regions) counts.set(level, (counts.get(level) ?? 0) + 1);
  const wanted = new Set();
  const boxes = [...counts].sort(([a], [b]) => a - b).map(([level, number]) => {
    const input = el("input", {
      type: "checkbox",
      id: `level-${level}`,
      on: {
        change: () => {
          if (input.checked) wanted.add(level);
          else wanted.delete(level);
          onChange(wanted);
        },
      },
    });
    const name = level < 0 ? "outside any grid" : `level ${level}`;
    return el("label", { title: plural(number, "region") }, input, `${name} `, el("small", { text: String(number) }));
  });
  return el("fieldset", { class: "levels", id: "compare-levels" }, el("legend", { text: "All regions of" }), ...boxes);
}
