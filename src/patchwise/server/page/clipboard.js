// Copying text, also where the page may not write to the clipboard by itself (plain http from another machine).

import { el } from "./dom.js";

/** Copy a text; answers whether that was allowed. `near` is the button that asked, which keeps the focus. */
export async function copyText(text, near = document.activeElement) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelection(text, near); // no secure context, or not allowed: the older way
  }
}

function copySelection(text, near) {
  // Inside a dialog only what lies in it can be selected.
  const home = near?.closest?.("dialog[open]") ?? document.body;
  const area = el("textarea", { class: "unseen", readonly: true, "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  home.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  near?.focus?.();
  return copied;
}
