// What is being added: uploads of this page and jobs of the server, each with its progress.
//
// A task is one thing that the user wanted: an upload of many batches, each a job of the server, or a single job.

import { api, eventsUrl, galleryPath, isAborted } from "./api.js";
import { announce, el, fileName, icon, notice, plural } from "./dom.js";
import { getState } from "./state.js";

const FINAL = new Set(["done", "failed", "cancelled"]);
const REFRESH = 2500; // ms between two looks at the gallery's numbers while pictures come in
const LISTED = 200;

const tasks = [];
let refresh = async () => {};
let again = () => {};
let source = null; // the one event stream: browsers allow few connections to a server
let followed = "";
let refreshed = 0;

// refresh(): look at the gallery's numbers again; again(): repeat the search that is shown.
export function mountJobs(options) {
  ({ refresh, again } = options);
}

// files: how many the page itself sends; 0 for a job that runs at the server.
export function newTask({ gallery, files = 0, title }) {
  const task = { gallery, files, title, sent: 0, jobs: new Map(), refused: [], error: "", stop: new AbortController(),
    uploading: files > 0, began: 0, beganAt: 0, over: false };
  task.card = card(task);
  tasks.push(task);
  shelf().append(task.card.node);
  shelf().hidden = false;
  paint(task);
  return task;
}

export function addJob(task, job) {
  task.jobs.set(job.job, job);
  task.refused.push(...(job.refused ?? []));
  paint(task);
  follow();
}

// Says that something of the task changed: a batch was sent, or the upload is over.
export function taskChanged(task) {
  paint(task);
  finishIfOver(task);
}

// Jobs that run already, started elsewhere or before the page was loaded anew.
export async function followJobs(gallery) {
  const { jobs } = await api(galleryPath(gallery, "jobs"));
  const known = new Set(tasks.flatMap((task) => [...task.jobs.keys()]));
  for (const job of jobs) {
    if (FINAL.has(job.state) || known.has(job.job)) continue;
    addJob(newTask({ gallery, title: "Adding pictures" }), job);
  }
}

function shelf() {
  return document.getElementById("jobs");
}

function unfinished() {
  return tasks.flatMap((task) => [...task.jobs.values()]).filter((job) => !FINAL.has(job.state));
}

function follow() {
  const open = unfinished();
  const next = open.find((job) => job.state === "running") ?? open[0];
  if (!next || (source && followed === next.job)) return;
  if (source && open.some((job) => job.job === followed)) return;
  source?.close();
  followed = next.job;
  const mine = (source = new EventSource(eventsUrl(next.job)));
  const end = () => { mine.close(); if (source === mine) { source = null; follow(); } };
  mine.addEventListener("progress", (event) => update(JSON.parse(event.data)));
  mine.addEventListener("end", (event) => {
    update(JSON.parse(event.data));
    end();
  });
  // A stream that was cut is taken up again by the browser; one that was refused is not: then the job is asked for.
  mine.addEventListener("error", async () => {
    if (mine.readyState !== EventSource.CLOSED) return;
    await new Promise((settle) => setTimeout(settle, 1500));
    try {
      update(await api(`jobs/${encodeURIComponent(next.job)}`));
    } catch (error) {
      if (error.status === 404) update({ ...next, state: "failed", error: "The server was started anew before this was done." });
    }
    end();
  });
}

function update(job) {
  const task = tasks.find((one) => one.jobs.has(job.job));
  if (!task) return;
  task.jobs.set(job.job, job);
  if (!task.began && job.state === "running") { task.began = performance.now(); task.beganAt = sum(task, "done"); }
  paint(task);
  if (performance.now() - refreshed > REFRESH) { refreshed = performance.now(); refresh(); }
  finishIfOver(task);
}

function finishIfOver(task) {
  if (task.over || task.uploading || [...task.jobs.values()].some((job) => !FINAL.has(job.state))) return;
  task.over = true;
  paint(task);
  refresh();
  const bad = unusable(task);
  announce(`${summary(task)}${bad ? ` ${plural(bad, "file")} could not be used.` : ""}`);
  if (!bad && !task.error && !jobError(task)) setTimeout(() => close(task), 8000);
}

function close(task) {
  if (!tasks.includes(task)) return; // by hand, before its time was up
  task.card.node.remove();
  tasks.splice(tasks.indexOf(task), 1);
  shelf().hidden = !tasks.length;
}

async function cancel(task) {
  task.stop.abort();
  task.cancelled = true;
  for (const job of task.jobs.values()) {
    if (FINAL.has(job.state)) continue;
    try {
      update(await api(`jobs/${encodeURIComponent(job.job)}`, { method: "DELETE" }));
    } catch (error) {
      if (!isAborted(error)) notice({ text: "This could not be cancelled", detail: error.message, key: "cancel" });
    }
  }
  taskChanged(task);
}

const sum = (task, field) => [...task.jobs.values()].reduce((total, job) => total + (job[field] ?? 0), 0);
const failures = (task) => [...task.jobs.values()].flatMap((job) => job.failed ?? []);
const unusable = (task) => task.refused.length + sum(task, "failures");
const note = (task) => [...task.jobs.values()].find((job) => job.note && !FINAL.has(job.state))?.note ?? "";
const jobError = (task) => [...task.jobs.values()].find((job) => job.error)?.error ?? "";

function summary(task) {
  const added = sum(task, "added");
  const words = added ? `${plural(added, "picture")} added.` : "No new picture was added.";
  return task.cancelled || [...task.jobs.values()].some((job) => job.state === "cancelled") ? `Cancelled. ${words}` : words;
}

function timeLeft(task, done, total) {
  const passed = (performance.now() - task.began) / 1000;
  const here = done - task.beganAt;
  if (!task.began || task.uploading || passed < 2 || here < 1 || done >= total) return "";
  const seconds = ((total - done) * passed) / here;
  if (seconds < 8) return " · a few seconds left";
  if (seconds < 90) return ` · about ${Math.ceil(seconds / 5) * 5} s left`;
  return seconds < 5400 ? ` · about ${Math.round(seconds / 60)} min left` : ` · about ${Math.round(seconds / 360) / 10} h left`;
}

function card(task) {
  const heading = el("strong", { text: task.title });
  const line = el("p", { class: "job-line", "data-testid": "job-line" });
  const bar = el("progress", { "aria-label": task.title, "data-testid": "job-progress", max: 1 });
  const problem = el("p", { class: "problem" });
  const files = el("ul", {});
  const count = el("summary", {});
  const refused = el("details", { class: "refused", "data-testid": "job-refused", hidden: true }, count, files);
  const search = el("button", { type: "button", class: "small", "data-testid": "job-search", text: "Search again", hidden: true,
    on: { click: () => { close(task); again(); } } });
  const stop = el("button", { type: "button", class: "small", "data-testid": "job-cancel", text: "Cancel", on: { click: () => cancel(task) } });
  const shut = el("button", { type: "button", class: "quiet round", "aria-label": "Close", "data-testid": "job-close", hidden: true,
    on: { click: () => close(task) } }, icon("cross"));
  const node = el("article", { class: "job", "data-testid": "job" },
    el("div", { class: "job-head" }, heading, search, stop, shut), bar, line, problem, refused);
  return { node, line, bar, problem, refused, files, count, search, stop, shut };
}

function paint(task) {
  const { node, line, bar, problem, refused, files, count, search, stop, shut } = task.card;
  const done = sum(task, "done");
  const total = Math.max(sum(task, "total"), done);
  node.dataset.state = task.over ? "over" : task.uploading ? "uploading" : "indexing";
  if (task.over) line.textContent = summary(task);
  else if (task.uploading) line.textContent = `${task.sent.toLocaleString("en")} of ${task.files.toLocaleString("en")} sent`;
  else if (note(task)) line.textContent = note(task);
  else if (!total) line.textContent = "Waiting for its turn …";
  else line.textContent = `${done.toLocaleString("en")} of ${total.toLocaleString("en")} looked at${timeLeft(task, done, total)}`;
  if (task.uploading) setBar(bar, task.sent, task.files);
  else setBar(bar, done, total);
  bar.hidden = task.over;
  search.hidden = !(task.over && sum(task, "added") && getState().parts.length && getState().view === "search");
  stop.hidden = task.over;
  shut.hidden = !task.over;
  problem.textContent = task.error || jobError(task);
  problem.hidden = !problem.textContent;
  const bad = [...task.refused.map(({ name, reason }) => [name, reason]), ...failures(task).map(({ path, reason }) => [fileName(path), reason])];
  refused.hidden = !bad.length;
  if (files.children.length !== Math.min(bad.length, LISTED)) {
    count.textContent = `${plural(unusable(task), "file")} could not be used`;
    files.replaceChildren(...bad.slice(0, LISTED).map(([name, reason]) => el("li", {}, el("b", { text: name }), ` ${reason}`)));
  }
}

function setBar(bar, value, max) {
  if (!max) { bar.removeAttribute("value"); return; }
  bar.max = max;
  bar.value = value;
}
