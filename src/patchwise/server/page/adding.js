// Adding pictures to the gallery: the dialog, and uploads in small batches.

import { api, galleryPath, isAborted, ProblemError } from "./api.js";
import { el, icon, notice, plural } from "./dom.js";
import { pickButton } from "./intake.js";
import { addJob, newTask, taskChanged } from "./jobs.js";
import { getState } from "./state.js";

const BATCH_FILES = 16;
const BATCH_BYTES = 16 * 2 ** 20;
const PATIENCE = 30; // times that a busy server is asked again
const NO_PICTURE = /\.(txt|md|json|jsonl|csv|xml|html?|css|js|py|pdf|docx?|xlsx?|zip|gz|tar|mp[34]|mov|avi|mkv|wav|db|ini|log)$/i;

// info(): the gallery shown. Returns open() for the dialog and addFiles(files).
export function mountAdding({ info }) {
  let dialog = null;
  return { open, addFiles };

  function open() {
    if (dialog) return;
    const { roots, name } = info();
    const shut = () => dialog.close();
    const take = (files) => { shut(); addFiles(files); };
    const path = el("input", { type: "text", id: "add-path", required: true, placeholder: "/photos/2024", spellcheck: "false", autocapitalize: "off" });
    const problem = el("p", { class: "problem", id: "add-path-problem", role: "alert" });
    const byPath = el("form", { class: "by-path", on: { submit: async (event) => {
      event.preventDefault();
      problem.textContent = "";
      try {
        await addPath(path.value.trim());
        shut();
      } catch (error) {
        problem.textContent = error.message;
      }
    } } }, el("label", { for: "add-path", text: "Or a file or folder on the server" }),
      el("div", { class: "row" }, path, el("button", { class: "button", id: "add-path-send", text: "Add" })), problem);
    dialog = el("dialog", { class: "card", id: "add-dialog", "aria-labelledby": "add-title" },
      el("div", { class: "dialog-head" }, el("h2", { id: "add-title", text: `Add pictures to ${name}` }),
        el("button", { type: "button", class: "quiet round", id: "add-close", "aria-label": "Close", on: { click: shut } }, icon("cross"))),
      el("div", { class: "drop-zone" }, icon("drop"), el("p", { class: "no-touch" }, el("strong", { text: "Drop pictures or folders here" })),
        el("div", { class: "actions" },
          pickButton({ id: "add-files", class: "main", input: { multiple: true }, take }, icon("picture"), "Choose pictures"),
          pickButton({ id: "add-folder", class: "no-touch", input: { webkitdirectory: true, multiple: true, accept: null }, take }, icon("folder"), "Choose a folder"))),
      el("p", { class: "hint", text: "They are copied to the server and can be searched as soon as they are indexed." }),
      roots && byPath);
    dialog.addEventListener("close", () => { dialog.remove(); dialog = null; });
    document.body.append(dialog);
    dialog.showModal();
  }

  async function addPath(path) {
    const { gallery } = getState();
    const job = await api(galleryPath(gallery, "images", "paths"), { method: "POST", body: { paths: [path] } });
    addJob(newTask({ gallery, title: `Adding ${path}` }), job);
  }

  function addFiles(given) {
    document.getElementById("add-dialog")?.close();
    if (!info()?.can_add) {
      notice({ text: "Nothing can be added to this gallery", detail: "The server does not allow it.", key: "adding" });
      return;
    }
    // A folder holds other things beside pictures; these are not sent at all. A file chosen by itself always is.
    const many = given.length > 1;
    const files = given.filter((file) => !many || !(NO_PICTURE.test(file.name) || file.name.startsWith(".")));
    if (!files.length) {
      notice({ text: "There is no picture among these files", key: "adding" });
      return;
    }
    upload(newTask({ gallery: getState().gallery, files: files.length, title: `Adding ${plural(files.length, "picture")}` }), files);
  }
}

async function upload(task, files) {
  for (const batch of batches(files)) {
    if (task.stop.signal.aborted) break;
    try {
      const job = await sendBatch(task, batch);
      if (job) addJob(task, job);
    } catch (error) {
      if (isAborted(error)) break;
      task.error = `${error.message} ${plural(files.length - task.sent, "picture")} not sent.`;
      break;
    }
    task.sent += batch.length;
    taskChanged(task);
  }
  task.uploading = false;
  taskChanged(task);
}

function* batches(files) {
  let batch = [], bytes = 0;
  for (const file of files) {
    if (batch.length && (batch.length >= BATCH_FILES || bytes + file.size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(file);
    bytes += file.size;
  }
  if (batch.length) yield batch;
}

// The batch's job; null where all of it was refused.
async function sendBatch(task, batch) {
  const body = new FormData();
  for (const file of batch) body.append("pictures", file, file.webkitRelativePath || file.name);
  for (let tries = 1; ; tries++) {
    try {
      return await api(galleryPath(task.gallery, "images"), { method: "POST", body, signal: task.stop.signal });
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if ([409, 429, 503].includes(error.status) && tries < PATIENCE) {
        await new Promise((settle) => setTimeout(settle, Math.min(error.retryAfter ?? 1, 10) * 1000));
      } else if ([413, 415, 422].includes(error.status)) {
        const { refused } = error.problem;
        if (Array.isArray(refused)) {
          task.refused.push(...refused);
          return null;
        }
        // What is wrong with one of them is told where it comes alone.
        if (batch.length > 1) return inHalves(task, batch);
        const { name } = batch[0];
        task.refused.push({ name, reason: error.message.split(`${name}: `).pop() });
        return null;
      } else throw error;
    }
  }
}

async function inHalves(task, batch) {
  const middle = Math.ceil(batch.length / 2);
  for (const half of [batch.slice(0, middle), batch.slice(middle)]) {
    const job = await sendBatch(task, half);
    if (job) addJob(task, job);
  }
  return null;
}
