// Asks the server for what the state says, and shows the answer.

import { api, galleryPath, isAborted, ServerGone } from "./api.js";
import { setCurrent } from "./current.js";
import { announce } from "./dom.js";
import { inWords, showBusy, showMessage, showResults } from "./results.js";
import { getState, searchRequest } from "./state.js";

const PATIENT = 180; // ms before an answer that is still awaited is said to be so

// context(): what is needed beside an answer, null before the first.
export function makeSearching({ container, info, searchWith }) {
  let asked = "";
  let context = null;
  let turn = 0;
  return { follow, run, context: () => context };

  // Searches where the state asks for something else than what is shown or awaited.
  function follow() {
    const state = getState();
    if (!state.parts.length) {
      turn += 1;
      asked = "";
      context = null;
      setCurrent(null);
      container.replaceChildren();
      container.dataset.state = "idle";
    } else if (JSON.stringify([state.gallery, searchRequest(state)]) !== asked) run();
  }

  async function run() {
    const state = getState();
    if (!state.parts.length) return;
    const mine = ++turn;
    const body = searchRequest(state);
    asked = JSON.stringify([state.gallery, body]);
    container.setAttribute("aria-busy", "true");
    const busy = setTimeout(() => { container.dataset.state = "busy"; showBusy(container); }, context ? PATIENT : 0);
    try {
      const answer = await api(galleryPath(state.gallery, "search"), { method: "POST", body, lane: "search" });
      performance.mark("patchwise:answer");
      if (mine !== turn) return;
      clearTimeout(busy);
      context = { gallery: state.gallery, info: info(), parts: state.parts, answer, searchWith };
      showResults(container, answer, context);
      container.dataset.state = "ready";
      announce(inWords(answer));
      performance.mark("patchwise:shown");
    } catch (error) {
      if (isAborted(error) || mine !== turn) return;
      clearTimeout(busy);
      container.dataset.state = "error";
      fail(error, state);
    } finally {
      clearTimeout(busy);
      if (mine === turn) {
        container.removeAttribute("aria-busy");
        container.dataset.turn = mine; // how many searches there were, for whoever waits for one
      }
    }
  }

  function fail(error, state) {
    asked = "";
    context = null;
    const lost = error.status === 404 && state.parts.some(({ image }) => image);
    showMessage(container, {
      title: error instanceof ServerGone ? "The server does not answer" : lost ? "The picture is no longer here" : "This cannot be searched for",
      detail: error instanceof ServerGone ? "Nothing is lost: try again when it runs." : lost ? "Drop it here again, and the search goes on." : error.message,
      actions: error.status === 422 || lost ? [] : [{ label: "Try again", run: () => run() }],
    });
    announce(error.message);
  }
}
