// A button with a panel under it that a click elsewhere or Escape closes.

import { el } from "./dom.js";

/** `{element, button, panel, close}`; `id` names the button, the panel is `id-panel`. */
export function dropPanel(id, label, content, { side = "left", onOpen = () => {} } = {}) {
  const panel = el("div", { class: `drop-panel ${side}`, id: `${id}-panel`, hidden: true, role: "group", "aria-label": label.text }, content);
  const button = el("button", { type: "button", id, "aria-expanded": "false", "aria-controls": panel.id, class: "opens" },
    ...label.children);
  const element = el("div", { class: "drop-home" }, button, panel);
  const outside = (event) => !element.contains(event.target) && !event.target.closest?.("dialog") && set(false);
  const set = (open) => {
    panel.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    document[open ? "addEventListener" : "removeEventListener"]("pointerdown", outside, true);
    if (open) onOpen();
  };
  button.addEventListener("click", () => set(panel.hidden));
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || panel.hidden) return;
    event.stopPropagation();
    set(false);
    button.focus();
  });
  element.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !element.contains(event.relatedTarget)) set(false);
  });
  return { element, button, panel, close: () => set(false), open: () => set(true) };
}
