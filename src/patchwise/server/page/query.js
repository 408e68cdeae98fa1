// The query half of the page: the first view, the picture with its box, the parts and how to search.

import { isAborted, ServerGone } from "./api.js";
import { announce, clearNotice, el, icon, isFocusLost, notice } from "./dom.js";
import { pickButton } from "./intake.js";
import { makeLanding } from "./landing.js";
import { makePartsList } from "./parts.js";
import { knownFacts, pictureFacts, sendPicture } from "./pictures.js";
import { makeStage } from "./stage.js";
import { getState, onState, setState } from "./state.js";

const MOST_PARTS = 16;
const SECOND_LOOK = "refine:20";

// info(): the gallery shown; again(): search once more. take(files) makes pictures the query; focus() goes to them.
export function mountQuery(container, { info, again }) {
  let active = 0; // the part on the stage
  let sending = null; // an upload: {add, stop}
  let wanted = false; // whether the focus goes to the picture once it is there
  const missing = new Set(); // pictures that the server no longer keeps

  const stage = makeStage({
    changed: (box, { push }) => change(active, { box }, push),
    failed: () => lost(getState().parts[active]?.image),
  });
  const list = makePartsList({
    choose(index) { active = index; render(); },
    change: (index, what) => change(index, what, true),
    remove(index) {
      if (active > index || active === getState().parts.length - 1) active = Math.max(0, active - 1);
      setState({ parts: getState().parts.filter((_, other) => other !== index) }, { push: true });
      document.getElementById(`part-${Math.max(0, index - 1)}-remove`)?.focus();
    },
  });
  const gone = el("div", { class: "gone", id: "picture-gone", hidden: true }, icon("picture"),
    el("p", {}, el("strong", { text: "This picture is no longer kept by the server." }), el("br"),
      "Drop it here again, and the search goes on as it was."),
    pickButton({ id: "pick-again", class: "small", take }, "Choose the picture"));
  const small = toggle("small-object", "Small object", "Also look for it as it shows when it is small in a picture",
    (on) => change(active, { small: on }, true));
  const again2 = toggle("second-look", "Second look", "Fits the box of the 20 best more closely; takes longer",
    (on) => setState({ rerank: on ? SECOND_LOOK : "" }, { push: true }));
  const collapse = toggle("collapse", "Group alike", "One result for pictures that are nearly the same",
    (on) => setState({ collapse: on }, { push: true }));
  const addText = el("input", { type: "text", id: "add-text", placeholder: "Add words …", "aria-label": "Add words to the query",
    enterkeyhint: "search" });
  const addForm = el("form", { class: "add-text", on: { submit: addWords } }, addText);
  addText.addEventListener("change", () => addForm.requestSubmit());
  const adders = el("div", { class: "adders" }, stage.whole,
    pickButton({ id: "pick-more", class: "small", input: { multiple: true }, take: (files) => take(files, { add: true }) },
      icon("plus"), "Picture"),
    addForm,
    el("button", { type: "button", id: "query-clear", class: "small quiet",
      on: { click: clear } }, "Clear"));
  const panel = el("div", { class: "panel" }, stage.node, gone, list.node, adders,
    el("div", { class: "switches" }, small.node, again2.node, collapse.node));
  const landing = makeLanding({ take, words: (text) => setState({ parts: [{ text }] }, { push: true }),
    choose: (image) => { setState({ parts: [{ image }] }, { push: true }); focus(); } });
  container.append(landing.node, panel);

  onState((state, previous) => {
    if (state.gallery !== previous.gallery) missing.clear();
    // Who chooses another picture no longer waits for the one that is on its way.
    const other = state.gallery !== previous.gallery || (sending && !sending.add && picturesOf(state) !== picturesOf(previous));
    if (sending && other) stopSending();
    active = Math.min(active, Math.max(0, state.parts.length - 1));
    render();
  });
  render();
  return { take, render, focus };

  // To the picture, as soon as it is shown; what was used to choose it is gone from the page.
  function focus() {
    wanted = true;
    focusWanted();
  }

  function focusWanted() {
    if (!wanted || !stage.node.checkVisibility()) return;
    wanted = false;
    if (isFocusLost()) stage.focus();
  }

  function stopSending() {
    sending.stop.abort();
    sending = null;
    container.classList.remove("sending");
  }

  function clear() {
    if (sending) stopSending();
    setState({ parts: [], open: "" }, { push: true });
    render(); // also where nothing was asked yet
    document.getElementById("pick-picture")?.focus();
  }

  // Pictures become the query; the words stay. With `add` they stand beside what is asked already.
  async function take(files, { add = false } = {}) {
    const room = MOST_PARTS - (add ? getState().parts.length : getState().parts.filter((part) => part.text !== undefined).length);
    if (files.length > room) {
      notice({ text: "That is too much for one search", key: "picture",
        detail: `A query has up to ${MOST_PARTS} parts. To put pictures into the gallery, use "Add pictures".` });
      return;
    }
    sending?.stop.abort();
    const mine = (sending = { add, stop: new AbortController() });
    clearNotice("picture");
    if (!add) preview(files[0]);
    const { gallery } = getState();
    const sent = await Promise.all(files.map((file) => sendPicture(gallery, file, file.name, mine.stop.signal)
      .then((picture) => ({ picture }), (error) => ({ error, file }))));
    if (mine !== sending) return;
    sending = null;
    container.classList.remove("sending");
    for (const { error, file } of sent) if (error && !isAborted(error)) refused(error, file, files, add);
    const pictures = sent.filter(({ picture }) => picture).map(({ picture }) => picture);
    if (pictures.length) accept(pictures, add);
    else render();
  }

  function preview(file) {
    container.classList.add("sending");
    const address = URL.createObjectURL(file);
    stage.preview(address, file.name);
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    announce("Reading the picture.");
    render();
  }

  function accept(pictures, add) {
    const { parts } = getState();
    const found = pictures.filter(({ image }) => missing.delete(image));
    if (found.length && parts.some((part) => part.image === found[0].image)) {
      render(); // the lost picture of a link: its box still holds
      again();
      return;
    }
    const fresh = pictures.map(({ image }) => ({ image }));
    const kept = add ? parts : parts.filter((part) => part.text !== undefined);
    active = add ? kept.length : 0;
    setState({ parts: add ? [...kept, ...fresh] : [...fresh, ...kept], ...(add ? {} : { open: "", view: "search" }) }, { push: true });
    render(); // also where the same picture came again
    if (!add) stage.focus();
  }

  function refused(error, file, files, add) {
    const silent = error instanceof ServerGone;
    notice({ key: "picture", text: silent ? error.message : `${file.name || "This picture"} cannot be used`,
      detail: silent ? "" : error.message,
      actions: silent ? [{ label: "Try again", run: () => take(files, { add }) }] : [] });
  }

  function change(index, what, push) {
    const parts = [...getState().parts];
    if (!parts[index]) return;
    parts[index] = { ...parts[index], ...(typeof what === "function" ? what(parts[index]) : what) };
    setState({ parts }, { push });
  }

  function addWords(event) {
    event.preventDefault();
    const text = addText.value.trim();
    addText.value = "";
    if (text) setState({ parts: [...getState().parts, { text }].slice(0, MOST_PARTS) }, { push: true });
  }

  function lost(image) {
    if (!image || missing.has(image)) return;
    missing.add(image);
    render();
  }

  function render() {
    const { gallery, parts, rerank, collapse: grouped } = getState();
    const sendingNow = container.classList.contains("sending");
    const empty = parts.length === 0 && !sendingNow;
    landing.node.hidden = !empty;
    panel.hidden = empty;
    document.body.classList.toggle("asking", !empty);
    if (empty) return landing.show(info());
    if (parts[active]?.text !== undefined) active = Math.max(0, parts.findIndex((part) => part.text === undefined));
    const part = parts[active];
    const pictured = part?.text === undefined;
    list.show({ gallery, parts, active, missing });
    addForm.hidden = !info()?.reads_text;
    stage.node.inert = sendingNow;
    const lostNow = pictured && missing.has(part?.image);
    if (sendingNow || !pictured || lostNow) stage.whole.hidden = true;
    stage.node.hidden = !sendingNow && (!pictured || lostNow);
    gone.hidden = sendingNow || !lostNow;
    small.node.hidden = !pictured;
    small.set(Boolean(part?.small));
    again2.set(Boolean(rerank));
    collapse.set(grouped);
    if (!sendingNow && pictured) showPart(gallery, part);
    for (const other of parts) if (other !== part && other.image) nameIt(gallery, other.image);
    focusWanted();
  }

  // The list of parts calls pictures by their names.
  function nameIt(gallery, image) {
    if (missing.has(image) || knownFacts(gallery, image)) return;
    pictureFacts(gallery, image).then(render, (error) => { if (error.status === 404) lost(image); });
  }

  function showPart(gallery, part) {
    if (missing.has(part.image)) return stage.forget();
    const facts = knownFacts(gallery, part.image);
    if (facts) return stage.show({ gallery, image: part.image, box: part.box, facts });
    pictureFacts(gallery, part.image).then(render, (error) => {
      if (error.status === 404) lost(part.image);
      else if (!isAborted(error)) notice({ key: "picture", text: "The picture cannot be shown", detail: error.message });
    });
  }
}

const picturesOf = ({ parts }) => parts.map(({ image }) => image ?? "").join(" ").trim();

function toggle(id, label, title, changed) {
  const box = el("input", { type: "checkbox", role: "switch", id, on: { change: () => changed(box.checked) } });
  return { node: el("label", { class: "switch", title }, box, el("span", { text: label })), set: (on) => { box.checked = on; } };
}
