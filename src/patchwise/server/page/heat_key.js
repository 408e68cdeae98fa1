// The switch that shows heat on all hits, and the key to its colours.

import { el } from "./dom.js";
import { scoreText } from "./verdict.js";

let everywhere = false; // kept from answer to answer

/** The switch with its key; `onSwitch(on)` is told at once. */
export function heatKey(explanations, onSwitch) {
  const low = el("span", { class: "end", text: "0.00" });
  const high = el("span", { class: "end", text: "0.00" });
  // It keeps its room until there is a scale, so that nothing moves under the pointer that asks for the first map.
  const key = el("span", { class: "scale unknown", id: "heat-scale", title: "Mean score of the regions at a point" },
    low, el("i", { "aria-hidden": "true" }), high);
  const input = el("input", {
    type: "checkbox",
    id: "heat-all",
    role: "switch",
    on: { change: () => { everywhere = input.checked; onSwitch(everywhere); } },
  });
  explanations.onScale(() => {
    key.classList.remove("unknown");
    low.textContent = scoreText(explanations.low).slice(0, -1);
    high.textContent = scoreText(explanations.high).slice(0, -1);
    key.setAttribute("aria-label", `Heat map from ${low.textContent} (dark) to ${high.textContent} (bright)`);
    key.setAttribute("role", "img");
  });
  input.checked = everywhere;
  onSwitch(everywhere);
  return el("div", { class: "heat-key" }, el("label", { class: "switch" }, input, el("span", { text: "Heat maps" })), key);
}
