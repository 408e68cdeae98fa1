// SVG elements, and the small drawings on the buttons of the results.

const SVG = "http://www.w3.org/2000/svg";

const DRAWINGS = {
  box: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M12 9v6M9 12h6",
  info: "M12 11v6M12 7.5v.01M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Z",
  cross: "M6 6l12 12M18 6 6 18",
  previous: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  open: "M14 4h6v6M20 4l-9 9M10 5H5v14h14v-5",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  down: "M12 4v11M7 11l5 5 5-5M5 20h14",
  filter: "M4 6h16M7 12h10M10 18h4",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
  heat: "M12 21a6 6 0 0 0 6-6c0-5-5-7-5-12-3 2-4 5-3 8-1 0-2-1-2-2-1 2-2 3-2 6a6 6 0 0 0 6 6Z",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4",
};

/** An SVG element with its attributes. */
export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A drawing that says nothing to a screen reader. */
export function drawing(name) {
  const path = makeSvg("path", { d: DRAWINGS[name] });
  return makeSvg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, path);
}
