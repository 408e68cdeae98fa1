// A button with a panel under it that a click elsewhere or Escape closes.

import { el } from "./dom.js";

const TAP_MS = 400;

/**
 * `{element, button, panel, close}`; `id` names the button, the panel is `id-panel`. Closing it is told by the event
 * `patchwise:closed` of the element.
 */
export function dropPanel(id, label, content, { side = "left", onOpen = () => {} } = {}) {
  const panel = el("div", { class: `drop-panel at-${side}`, id: `${id}-panel`, hidden: true, role: "group", "aria-label": label.text }, content);
  const button = el("button", { type: "button", id, "aria-expanded": "false", "aria-controls": panel.id, class: "opens" },
    ...label.children);
  const element = el("div", { class: "drop-home" }, button, panel);
  const outside = (event) => {
    if (element.contains(event.target) || event.target.closest?.("dialog")) return;
    if (getComputedStyle(panel).position === "fixed") swallowClick();
    set(false);
  };
  const set = (open) => {
    panel.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    if (open) alignPanel(button, panel, side);
    document[open ? "addEventListener" : "removeEventListener"]("pointerdown", outside, true);
    if (open) onOpen();
    else element.dispatchEvent(new CustomEvent("patchwise:closed", { bubbles: true }));
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

// A tap beside a sheet that covers the page only closes it.
function swallowClick() {
  const swallow = (event) => {
    event.preventDefault();
    event.stopPropagation();
  };
  document.addEventListener("click", swallow, { capture: true, once: true });
  setTimeout(() => document.removeEventListener("click", swallow, true), TAP_MS);
}

// On the wanted side of its button, unless it would leave the window there.
function alignPanel(button, panel, side) {
  const { left, right } = button.getBoundingClientRect();
  const fits = { left: left + panel.offsetWidth <= document.documentElement.clientWidth, right: right >= panel.offsetWidth };
  const other = side === "left" ? "right" : "left";
  panel.classList.toggle("at-left", (fits[side] || !fits[other] ? side : other) === "left");
  panel.classList.toggle("at-right", !panel.classList.contains("at-left"));
}
