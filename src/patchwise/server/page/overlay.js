// Boxes and outlines over a picture, drawn in the pixels of the upright original.

import { makeSvg } from "./svg.js";

const EDGE = 1.5; // CSS pixels: half a stroke, so that a box at the picture's edge shows whole

/** An empty overlay for a picture of this size; it fills its parent. */
export function makeOverlay(size) {
  return makeSvg("svg", {
    class: "overlay",
    viewBox: `0 0 ${size[0]} ${size[1]}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
    focusable: "false",
  });
}

/**
 * A box as two rectangles, a dark one under a coloured one, so that it shows on any picture.
 *
 * `pixel` is how many pixels of the original one CSS pixel covers.
 */
export function drawBox(overlay, box, kind, size, pixel = 0) {
  const inset = EDGE * pixel;
  const x0 = Math.max(box[0], inset);
  const y0 = Math.max(box[1], inset);
  const x1 = Math.max(Math.min(box[2], size[0] - inset), x0);
  const y1 = Math.max(Math.min(box[3], size[1] - inset), y0);
  const place = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
  const group = makeSvg(
    "g",
    { class: `box ${kind}`, "data-box": box.join(",") },
    makeSvg("rect", { class: "under", ...place }),
    makeSvg("rect", { class: "line", ...place }),
  );
  overlay.append(group);
  return group;
}

/** The outline that local features verified, if there is one. */
export function drawOutline(overlay, geometry) {
  if (!geometry?.outline?.length) return null;
  const points = geometry.outline.map(([x, y]) => `${x},${y}`).join(" ");
  const group = makeSvg(
    "g",
    { class: "box outline" },
    makeSvg("polygon", { class: "under", points }),
    makeSvg("polygon", { class: "line", points }),
  );
  overlay.append(group);
  return group;
}

/** All that a search says of a hit: further places dashed, its best box, its verified outline. */
export function drawHit(overlay, hit, pixel) {
  for (const place of hit.instances ?? []) drawBox(overlay, place.box, "more", hit.size, pixel);
  drawBox(overlay, hit.box, "best", hit.size, pixel);
  drawOutline(overlay, hit.geometry);
}

/** What an overlay shows, for those who cannot see it. */
export function overlayText(hit) {
  const said = ["the best matching box"];
  if (hit.instances?.length) said.push(`${hit.instances.length} further places, dashed`);
  if (hit.geometry?.outline?.length) said.push("the verified outline in green");
  return said.join(", ");
}
