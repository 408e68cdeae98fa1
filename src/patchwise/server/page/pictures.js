// What the page knows of the pictures of queries: their size, name and, until the server's own is there, a preview.

import { api, galleryPath } from "./api.js";
import { fileName } from "./dom.js";

const PREVIEWS = 24;
const facts = new Map(); // "gallery/image" -> {size, name}
const asked = new Map(); // "gallery/image" -> the answer that is awaited
const previews = new Map(); // image -> {file, address}, oldest first

const key = (gallery, image) => `${gallery}/${image}`;

// Keep a file as a query picture of the gallery -> {image, size, format, in_gallery}.
export async function sendPicture(gallery, file, name = file.name, signal = undefined) {
  const body = new FormData();
  body.append("picture", file, name || "picture");
  const picture = await api(galleryPath(gallery, "pictures"), { method: "POST", body, signal });
  learn(gallery, picture.image, { size: picture.size, name });
  keepPreview(picture.image, file);
  return picture;
}

export function learn(gallery, image, { size, name }) {
  facts.set(key(gallery, image), { size, name: name || "picture" });
}

// What is known without asking, or null.
export function knownFacts(gallery, image) {
  return facts.get(key(gallery, image)) ?? null;
}

// {size, name} of a picture; a ProblemError of status 404 where the server no longer keeps it.
export async function pictureFacts(gallery, image) {
  const known = knownFacts(gallery, image);
  if (known) return known;
  const name = key(gallery, image);
  if (!asked.has(name)) asked.set(name, askFacts(gallery, image).finally(() => asked.delete(name)));
  return asked.get(name);
}

async function askFacts(gallery, image) {
  const picture = await api(galleryPath(gallery, "pictures", image));
  const file = picture.in_gallery ? await api(galleryPath(gallery, "images", image)) : null;
  learn(gallery, image, { size: picture.size, name: file ? fileName(file.path) : "" });
  return knownFacts(gallery, image);
}

async function fileOf(gallery, image) {
  const kept = previews.get(image)?.file;
  return kept ?? (await api(galleryPath(gallery, "images", image, "full"), { raw: true })).blob();
}

// Address of the user's own file, or null.
export function previewOf(image) {
  return previews.get(image)?.address ?? null;
}

function keepPreview(image, file) {
  if (previews.has(image)) return;
  previews.set(image, { file, address: URL.createObjectURL(file) });
  if (previews.size > PREVIEWS) {
    const [oldest, { address }] = previews.entries().next().value;
    previews.delete(oldest);
    URL.revokeObjectURL(address);
  }
}

// Makes the pictures of a query known to another gallery; parts whose picture is gone are left out.
export async function carryOver(parts, from, to) {
  const carried = await Promise.all(parts.map(async (part) => {
    if (part.text !== undefined) return part;
    try {
      const file = await fileOf(from, part.image);
      const { image } = await sendPicture(to, file, knownFacts(from, part.image)?.name ?? "picture");
      return { ...part, image };
    } catch (error) {
      if (error.status === 404 || error.status === 410) return null;
      throw error;
    }
  }));
  return carried.filter(Boolean);
}
