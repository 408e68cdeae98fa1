// Choices on the user's own metadata: values to tick, numbers from and to.

import { el } from "./dom.js";

const FEW = 8;

/** A column's choice as a fieldset: `{element, update(choice)}`; `onChange(choice)` with {values, from, to}. */
export function columnChoice(column, index, onChange) {
  return column.kind === "number" ? rangeChoice(column, index, onChange) : valueChoice(column, index, onChange);
}

function fieldset(column, index, ...children) {
  const count = el("span", { class: "tally", text: ` ${column.images.toLocaleString("en")}`, title: "Pictures with a value" });
  return el("fieldset", { class: "column", id: `column-${index}`, "data-column": column.name }, el("legend", { text: column.name }, count), ...children);
}

function rangeChoice(column, index, onChange) {
  const read = (input) => (input.value.trim() === "" || !Number.isFinite(Number(input.value)) ? null : Number(input.value));
  const end = (name, hint) => el("input", {
    type: "number", step: "any", id: `column-${index}-${name}`, "aria-label": `${column.name} ${name}`, placeholder: hint === null ? "" : String(hint),
    on: { change: () => onChange({ values: [], from: read(from), to: read(to) }) },
  });
  const from = end("from", column.minimum);
  const to = end("to", column.maximum);
  return {
    element: fieldset(column, index, el("div", { class: "range" }, from, el("span", { text: "to", "aria-hidden": "true" }), to)),
    update: (choice) => {
      if (document.activeElement !== from) from.value = choice?.from ?? "";
      if (document.activeElement !== to) to.value = choice?.to ?? "";
    },
  };
}

function valueChoice(column, index, onChange) {
  const rows = new Map();
  const list = el("ul", { class: "values" });
  const say = () => onChange({ values: [...rows].filter(([, { input }]) => input.checked).map(([value]) => value), from: null, to: null });
  const add = (value, count) => {
    const input = el("input", { type: "checkbox", id: `column-${index}-value-${rows.size}`, "data-value": String(value), on: { change: say } });
    const item = el("li", {}, el("label", { title: String(value) }, input, el("span", { text: String(value) }),
      count !== undefined && el("span", { class: "tally", text: count.toLocaleString("en"), title: "Pictures with this value" })));
    rows.set(value, { input, item });
    list.append(item);
  };
  column.values.forEach((value, place) => add(value, column.counts?.[place]));
  const search = el("input", { type: "search", id: `column-${index}-search`, placeholder: "Find a value", "aria-label": `Find a value of ${column.name}`,
    on: { input: () => find() } });
  const more = el("button", { type: "button", class: "quiet small", id: `column-${index}-more`, text: `Show all ${column.values.length}`,
    on: { click: () => { more.hidden = true; find(); } } });
  const find = () => {
    const words = search.value.trim().toLowerCase();
    [...rows.entries()].forEach(([value, { item, input }], place) => {
      const fits = String(value).toLowerCase().includes(words);
      item.hidden = !input.checked && (!fits || (words === "" && place >= FEW && !more.hidden));
    });
  };
  more.hidden = column.values.length <= FEW;
  find();
  return {
    element: fieldset(column, index, column.values.length > FEW && search, list, more),
    update: (choice) => {
      const chosen = new Set(choice?.values ?? []);
      for (const value of chosen) if (!rows.has(value)) add(value); // a link may name a rarer one
      for (const [value, { input }] of rows) input.checked = chosen.has(value);
      find();
    },
  };
}
