// Talking to the server.
//
// api(path, {method, body, lane, signal, raw})   path below /api/v1/, without a leading slash. body: an object (sent as
//     JSON) or FormData. Answers the JSON, null for 204, the Response where raw. A later request of the same lane aborts
//     the earlier one. Throws ProblemError (the server's own words), ServerGone (no answer), or an AbortError.
// isAborted(error)                               whether it was only superseded
// thumbnailUrl(gallery, image, size), fullUrl(gallery, image), galleryPath(gallery, ...rest)

const ROOT = new URL("api/v1/", document.baseURI);

export class ProblemError extends Error {
  constructor(status, problem, retryAfter = null) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    this.name = "ProblemError";
    this.status = status;
    this.type = problem.type ?? "about:blank";
    this.title = problem.title ?? "";
    this.errors = problem.errors ?? [];
    this.problem = problem;
    this.retryAfter = retryAfter; // seconds
  }
}

export class ServerGone extends Error {
  constructor() {
    super("The server does not answer. Is it still running?");
    this.name = "ServerGone";
  }
}

const lanes = new Map();
let askForToken = null;

// Called when the server wants a token: () => Promise that settles once there is a session.
export function onTokenNeeded(ask) {
  askForToken = ask;
}

export function isAborted(error) {
  return error?.name === "AbortError";
}

export async function api(path, options = {}) {
  const { lane, signal } = options;
  const control = new AbortController();
  signal?.addEventListener("abort", () => control.abort(), { once: true });
  if (signal?.aborted) control.abort();
  if (lane) {
    lanes.get(lane)?.abort();
    lanes.set(lane, control);
  }
  try {
    let response = await send(path, options, control.signal);
    if (response.status === 401 && askForToken && path !== "session") {
      await askForToken();
      response = await send(path, options, control.signal);
    }
    return await read(response, options.raw, control.signal);
  } finally {
    if (lane && lanes.get(lane) === control) lanes.delete(lane);
  }
}

async function send(path, { method = "GET", body }, signal) {
  const headers = { Accept: "application/json" };
  let content = body;
  if (body !== undefined && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    content = JSON.stringify(body);
  }
  try {
    return await fetch(new URL(path, ROOT), { method, headers, body: content, signal, credentials: "same-origin" });
  } catch (error) {
    throw isAborted(error) ? error : new ServerGone();
  }
}

async function read(response, raw, signal) {
  if (!response.ok) {
    const wait = Number(response.headers.get("Retry-After"));
    throw new ProblemError(response.status, await problemOf(response), Number.isFinite(wait) && wait > 0 ? wait : null);
  }
  if (raw) return response;
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (error) {
    if (isAborted(error) || signal.aborted) throw new DOMException("superseded", "AbortError");
    throw new ServerGone();
  }
}

async function problemOf(response) {
  if (!/json/.test(response.headers.get("Content-Type") ?? "")) return {};
  try {
    const problem = await response.json();
    return typeof problem === "object" && problem ? problem : {};
  } catch {
    return {}; // an answer cut off: its status says enough
  }
}

export function galleryPath(gallery, ...rest) {
  return ["galleries", gallery, ...rest].map(encodeURIComponent).join("/");
}

export function thumbnailUrl(gallery, image, size = 320) {
  return new URL(`${galleryPath(gallery, "images", image, "thumbnail")}?size=${Math.round(size)}`, ROOT).href;
}

export function fullUrl(gallery, image) {
  return new URL(galleryPath(gallery, "images", image, "full"), ROOT).href;
}

export function eventsUrl(job) {
  return new URL(`jobs/${encodeURIComponent(job)}/events`, ROOT).href;
}
