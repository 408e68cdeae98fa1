// The token, where the server wants one. It comes in the address (#token=...) or is asked for.

import { api, onTokenNeeded, ProblemError } from "./api.js";
import { el } from "./dom.js";

let asking = null; // one dialog for all requests that wait for it

export async function startSession() {
  onTokenNeeded(askForToken);
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    // Out of the address at once, so that it is in no bookmark and on no screenshot.
    history.replaceState(null, "", location.pathname + location.search);
    await open(given).catch((error) => { if (error.status !== 401 && error.status !== 403) throw error; });
  }
  const session = await api("session");
  if (session.required && !session.valid) await askForToken();
}

function open(token) {
  return api("session", { method: "POST", body: { token } });
}

function askForToken() {
  asking ??= dialog().finally(() => { asking = null; });
  return asking;
}

function dialog() {
  return new Promise((settle) => {
    const token = el("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", required: true,
      autocapitalize: "off", spellcheck: "false" });
    const problem = el("p", { class: "problem", role: "alert", id: "token-problem" });
    const form = el("form", { on: { submit: async (event) => {
      event.preventDefault();
      problem.textContent = "";
      try {
        await open(token.value.trim());
      } catch (error) {
        const wrong = error instanceof ProblemError && (error.status === 401 || error.status === 403);
        problem.textContent = wrong ? "That is not the token of this server." : error.message;
        token.select();
        return;
      }
      node.close();
    } } },
      el("label", { for: "token", text: "Token" }), token, problem,
      el("div", { class: "actions" }, el("button", { class: "main", id: "token-send", text: "Open" })));
    const node = el("dialog", { class: "card", id: "token-dialog", "aria-labelledby": "token-title" },
      el("h2", { id: "token-title", text: "This server wants a token" }),
      el("p", { text: "It is the one that patchwise serve was started with, or printed when it started." }), form);
    node.addEventListener("cancel", (event) => event.preventDefault()); // nothing works without it
    node.addEventListener("close", () => { node.remove(); settle(); });
    document.body.append(node);
    node.showModal();
  });
}
