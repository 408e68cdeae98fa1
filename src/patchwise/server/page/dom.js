// Making elements and speaking to people.
//
// el("button", {class: "quiet", id: "x", text: "Label", on: {click}}, ...children)   props that are no listeners are
//     attributes; null and false are left out, true is an empty attribute
// icon(name)            a small drawing, hidden from screen readers
// isFocusLost()         whether what had the focus is gone from the page, so that it may be put elsewhere
// announce(text)        said by screen readers, without moving the focus
// notice({...})         a message at the edge of the page
// confirmed({...})      a question; resolves to true or false

const DRAWINGS = {
  search: "M10.5 17a6.5 6.5 0 1 1 0-13 6.5 6.5 0 0 1 0 13Zm5-1.5L20 20",
  grid: "M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h6v6h-6z",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9.2h.01",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 16.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Z",
  plus: "M12 5v14M5 12h14",
  cross: "M6 6l12 12M18 6L6 18",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  folder: "M3 6h6l2 2h10v11H3z",
  alert: "M12 4 2.8 19.5h18.4zM12 10v4.5M12 17v.01",
  done: "M5 12.5l4.5 4.5L19 7.5",
  drop: "M12 4v11M7.5 10.5 12 15l4.5-4.5M5 20h14",
  retry: "M19 8a8 8 0 1 0 1 5M19.5 3.5V8H15",
};

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (key === "text") node.textContent = value;
    else if (key === "class") node.className = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }))
    svg.setAttribute(key, value);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", DRAWINGS[name]);
  svg.append(path);
  return svg;
}

export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

export function fileName(path) {
  return path.split(/[\\/]/).pop() || path;
}

// A browser itself notices only a moment later that what has the focus was hidden.
export function isFocusLost() {
  const now = document.activeElement;
  return !now || now === document.body || !now.checkVisibility();
}

let said = 0;
export function announce(text) {
  const status = document.getElementById("status");
  const turn = ++said;
  status.textContent = "";
  // A change that comes a moment later is said even where the words are the same as before.
  setTimeout(() => { if (turn === said) status.textContent = text; }, 60);
}

// kind "error" stays until it is closed; others go by themselves. `key`: replaces an earlier notice of that key.
export function notice({ text, detail = "", kind = "error", key = text, actions = [], seconds = 6 }) {
  const shelf = document.getElementById("notices");
  for (const old of [...shelf.children]) if (old.dataset.key === key) old.remove();
  const close = () => node.remove();
  const node = el(
    "div",
    { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status", "data-testid": "notice" },
    icon(kind === "error" ? "alert" : "done"),
    el("div", { class: "words" }, el("strong", { text }), detail && el("p", { text: detail }),
      actions.length > 0 && el("p", { class: "actions" },
        ...actions.map(({ label, run }) =>
          el("button", { type: "button", class: "small", text: label, on: { click: () => { close(); run(); } } })))),
    el("button", { type: "button", class: "quiet round", "aria-label": "Close this message", on: { click: close } },
      icon("cross")),
  );
  node.dataset.key = key;
  shelf.append(node);
  if (kind !== "error") setTimeout(close, seconds * 1000);
  return close;
}

export function clearNotice(key) {
  for (const old of [...document.getElementById("notices").children]) if (old.dataset.key === key) old.remove();
}

export function confirmed({ title, text, yes, no = "Cancel" }) {
  return new Promise((settle) => {
    const heading = el("h2", { id: "confirm-title", text: title });
    const dialog = el("dialog", { class: "card", "aria-labelledby": "confirm-title", "data-testid": "confirm" }, heading,
      el("p", { text }),
      el("form", { method: "dialog", class: "actions" },
        el("button", { value: "no", id: "confirm-no", text: no }),
        el("button", { value: "yes", id: "confirm-yes", class: "danger", text: yes })));
    dialog.addEventListener("close", () => { dialog.remove(); settle(dialog.returnValue === "yes"); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
