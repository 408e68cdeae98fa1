// The right side: a hit's picture, the layers over it, its regions and facts, and what can be done with it.

import { api, fullUrl, galleryPath, isAborted } from "./api.js";
import { copyText } from "./clipboard.js";
import { bestRegions, levelSwitches } from "./compare_regions.js";
import { Stage } from "./compare_stage.js";
import { dropImage } from "./current.js";
import { confirmed, el, fileName } from "./dom.js";
import { factList, factsOf, metadataOf } from "./facts.js";
import { getState, searchRequest } from "./state.js";
import { drawing } from "./svg.js";
import { scoreText } from "./verdict.js";

const REFINE_AFTER_MS = 250; // who leafs through hits asks for nothing

let heatShare = 0.35; // kept from hit to hit

/** The stage and the column beside it; `signal` ends what is under way, `removed` is told after a deletion. */
export function hitView(hit, context, explanations, { signal, removed }) {
  let pinned = null;
  let refined = null;
  let regions = [];
  const stage = new Stage(hit, context.gallery, (region) => stage.highlight(region ?? pinned));
  const search = el("button", { type: "button", class: "main", id: "compare-search" }, drawing("box"), el("span"));
  const layers = layerSwitches(stage);
  const levels = el("div", { id: "compare-level-place" });
  const heat = heatSlider(stage);
  const update = () => {
    const name = pinned ? "this region" : refined ? "the refined box" : "this box";
    search.querySelector("span").textContent = `Search with ${name}`;
  };
  search.addEventListener("click", () => context.searchWith({ image: hit.image, box: (pinned ?? refined ?? hit).box }));
  update();

  explain(hit, explanations, stage, heat, signal).then((found) => {
    if (!found) return;
    regions = found.regions;
    levels.replaceChildren(levelSwitches(regions, (wanted) => stage.levels(regions, wanted)));
  });
  refine(hit, context, layers, signal).then((better) => {
    if (!better) return;
    refined = better;
    stage.refine(better);
    layers.refined(better);
    update();
  });

  const list = bestRegions(hit, stage, {
    onLook: (region) => stage.highlight(region),
    onPin: (region) => {
      pinned = region;
      stage.highlight(region);
      update();
    },
  });
  const metadata = metadataOf(hit);
  const side = el("div", { class: "side" },
    el("div", { class: "actions" }, search,
      el("button", { type: "button", id: "compare-whole", title: "Take this picture as the query, and draw a box on it",
        on: { click: () => context.searchWith({ image: hit.image, box: null }) } }, drawing("picture"),
        el("span", { text: "Draw another box on it" }))),
    section("Boxes", layers.element),
    section("Best regions", list, levels),
    section("Found", factList(factsOf(hit, context), "What was found")),
    metadata.length > 0 && section("Metadata", factList(metadata, "Metadata")),
    section("File", ...fileTools(hit, context, removed)));
  return { stage: el("div", { class: "scene" }, stage.element, heat.element), side };
}

function section(title, ...children) {
  return el("section", {}, el("h3", { text: title }), ...children);
}

function heatSlider(stage) {
  const input = el("input", { type: "range", id: "compare-heat", min: 0, max: 100, step: 5, value: Math.round(heatShare * 100) });
  const state = el("span", { class: "state", id: "heat-state" });
  const key = el("span", { class: "scale", hidden: true });
  input.addEventListener("input", () => {
    heatShare = Number(input.value) / 100;
    stage.heatOpacity = heatShare;
  });
  stage.heatOpacity = 0;
  return {
    element: el("div", { class: "heat-slider" }, el("label", { for: "compare-heat", text: "Heat map" }), input, key, state),
    start: (low, high) => {
      stage.heatOpacity = heatShare;
      key.hidden = false;
      key.replaceChildren(el("span", { text: scoreText(low).slice(0, -1) }), el("i"), el("span", { text: scoreText(high).slice(0, -1) }));
    },
    fail: (words) => { state.textContent = words; },
  };
}

async function explain(hit, explanations, stage, heat, signal) {
  try {
    const found = await explanations.of(hit, signal);
    const paint = () => {
      stage.paint(found.map, explanations.low, explanations.high);
      heat.start(explanations.low, explanations.high);
    };
    paint();
    const off = explanations.onScale(paint);
    signal.addEventListener("abort", off, { once: true });
    return found;
  } catch (error) {
    if (!isAborted(error)) heat.fail(`not available: ${error.message}`);
    return null;
  }
}

// The box again, at a finer place than the grid of regions allows.
async function refine(hit, context, layers, signal) {
  const { rerank } = getState();
  if (/\brefine\b/.test(rerank)) {
    layers.say("The best box is refined already.");
    return null;
  }
  try {
    await new Promise((resolve) => { setTimeout(resolve, REFINE_AFTER_MS); });
    if (signal.aborted) return null;
    layers.say("Refining the box …");
    const body = {
      ...searchRequest({ ...getState(), parts: context.parts }),
      under: [hit.path], where: "", k: 1, offset: 0, collapse: false, rerank: rerank ? `${rerank},refine:1` : "refine:1",
    };
    const answer = await api(galleryPath(context.gallery, "search"), { method: "POST", body, signal });
    const better = answer.hits[0];
    if (!better || better.box.every((edge, index) => Math.abs(edge - hit.box[index]) < 0.5)) {
      layers.say("Refining finds no better box.");
      return null;
    }
    layers.say("");
    return better;
  } catch (error) {
    if (!isAborted(error)) layers.say(`The box cannot be refined: ${error.message}`);
    return null;
  }
}

function layerSwitches(stage) {
  const list = el("div", { class: "layers" });
  const state = el("p", { class: "state", id: "refined-state", role: "status" });
  const add = (layer, label) => {
    const input = el("input", { type: "checkbox", id: `layer-${layer}`, checked: true,
      on: { change: () => stage.show(layer, input.checked) } });
    list.append(el("label", { class: layer }, input, el("i", { "aria-hidden": "true" }), label));
  };
  add("best", "Best box");
  if (stage.has("outline")) add("outline", "Verified outline");
  return {
    element: el("div", {}, list, state),
    say: (words) => { state.textContent = words; },
    refined: (better) => {
      add("refined", `Refined, score ${scoreText(better.score)}`);
      if (stage.has("outline") && !list.querySelector("#layer-outline")) add("outline", "Verified outline");
    },
  };
}

function fileTools(hit, context, removed) {
  const copy = el("button", { type: "button", class: "tool", id: "compare-copy", title: "Copy the path", "aria-label": "Copy the path" },
    drawing("copy"));
  const said = el("span", { class: "state", role: "status" });
  copy.addEventListener("click", async () => {
    said.textContent = (await copyText(hit.path, copy)) ? "Copied" : "Copying is not allowed here";
  });
  const paths = [hit, ...(hit.alike ?? [])].map((one) => one.path);
  return [
    el("div", { class: "file-path" }, el("code", { text: hit.path }), copy), said,
    paths.length > 1 && el("details", {}, el("summary", { text: `${paths.length - 1} alike` }),
      el("ul", { class: "paths" }, ...paths.slice(1).map((path) => el("li", { text: path })))),
    el("div", { class: "file-actions" },
      el("a", { id: "compare-full", href: fullUrl(context.gallery, hit.image), target: "_blank", rel: "noopener" },
        drawing("open"), el("span", { text: "Open the file" })),
      context.info?.can_remove && el("button", { type: "button", class: "quiet", id: "compare-delete",
        on: { click: () => remove(hit, context, removed, said) } }, drawing("bin"), el("span", { text: "Remove" }))),
  ];
}

async function remove(hit, context, removed, state) {
  const sure = await confirmed({
    title: `Remove ${fileName(hit.path)}?`,
    text: "The gallery forgets the picture. Its file is deleted only if it was added through this page.",
    yes: "Remove",
  });
  if (!sure) return;
  try {
    await api(galleryPath(context.gallery, "images", hit.image), { method: "DELETE" });
  } catch (error) {
    state.textContent = `It could not be removed: ${error.message}`; // a notice would lie under the dialog
    return;
  }
  removed();
  dropImage(hit.image);
}
