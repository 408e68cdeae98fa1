"""Scenes with an answer: one photograph, small and off-centre, among many others, at a box that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from patchwise.boxes import Box
from patchwise.errors import MissingExtra

__all__ = ["Objects", "Samples", "Scene", "load_photographs", "make_scenes", "random_piece"]

SCENE_SIZE = (1024, 768)
_CLUTTER = 5


@dataclass(frozen=True)
class Scene:
    """A scene on disk; `shows` names the object in it and `box` where, or both are None."""

    path: Path
    shows: str | None
    box: Box | None


@dataclass(frozen=True)
class Objects:
    """What is searched for: `queries` as one would photograph them, `shown` as they hang in the scenes."""

    queries: Mapping[str, Image.Image]
    shown: Mapping[str, Image.Image]
    background: tuple[Image.Image, ...]


@dataclass(frozen=True)
class Samples:
    """The sample photographs that scikit-image and scikit-learn install; none of them is downloaded.

    `motorcycle` is the same photographed from two places.
    """

    motorcycle: tuple[Image.Image, Image.Image]
    flower: Image.Image
    china: Image.Image
    data: Any  # skimage.data

    @classmethod
    def load(cls, purpose: str) -> Samples:
        """Raises MissingExtra, which names `purpose`, where the packages are not installed."""
        try:
            from skimage import data
            from sklearn.datasets import load_sample_image
        except ImportError as error:
            raise MissingExtra(purpose, "demo") from error
        samples: Any = data  # not typed
        left, right = (Image.fromarray(view) for view in samples.stereo_motorcycle()[:2])
        flower, china = (Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("flower", "china"))
        return cls((left, right), flower, china, samples)

    def photo(self, name: str, box: tuple[int, int, int, int] | None = None) -> Image.Image:
        """A sample of skimage.data as RGB, transparency on white, or the part of it inside `box`."""
        pixels = np.asarray(getattr(self.data, name)())
        if pixels.dtype != np.uint8:
            pixels = (pixels.astype(np.float64) * 255 / pixels.max()).astype(np.uint8)
        picture = Image.fromarray(pixels)
        if picture.mode == "RGBA":
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("RGB")
        return picture.crop(box) if box else picture


def load_photographs() -> Objects:
    """The photographs of scikit-image and scikit-learn, cropped to the object where that is a part of them.

    The motorcycle is photographed twice, from two places: one is the query, the other hangs in the scenes.

    Raises:
        MissingExtra: the packages are not installed.
    """
    samples = Samples.load("the demo")
    photo, flower, china = samples.photo, samples.flower, samples.china
    left, right = samples.motorcycle
    queries = {
        "astronaut": photo("astronaut", (100, 0, 380, 300)),
        "cat": photo("chelsea", (90, 10, 390, 290)),
        "coffee cup": photo("coffee", (140, 30, 480, 350)),
        "flower": flower.crop((170, 20, 540, 400)),
        "motorcycle": left.crop((120, 60, 620, 460)),
        "photographer": photo("camera", (120, 60, 420, 400)),
        "rocket": photo("rocket", (220, 0, 420, 400)),
    }
    shown = {**queries, "motorcycle": right.crop((90, 60, 590, 460))}
    textures = (
        "brick",
        "grass",
        "gravel",
        "hubble_deep_field",
        "immunohistochemistry",
        "moon",
        "coins",
        "page",
        "text",
    )
    return Objects(queries, shown, (china, *(photo(name) for name in textures)))


def make_scenes(folder: Path, objects: Objects, *, per_object: int = 4, empty: int = 32, seed: int = 0) -> list[Scene]:
    """Compose scenes and write them as JPEG files: `per_object` with each object, `empty` with none.

    An object takes 4 to 9 % of its scene, lies off the middle, is tilted by up to 8 degrees, and differs in
    brightness, contrast and sharpness from its query.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    wanted = [name for name in objects.shown for _ in range(per_object)] + [None] * empty
    scenes = []
    for number, index in enumerate(generator.permutation(len(wanted))):
        name = wanted[index]
        picture = _background(objects, generator)
        box = None if name is None else _hang(picture, objects.shown[name], generator)
        path = folder / f"scene_{number:03d}.jpg"
        picture.save(path, quality=90)
        scenes.append(Scene(path, name, box))
    return scenes


def _background(objects: Objects, generator: np.random.Generator) -> Image.Image:
    """A wall of one photograph with pieces of others hung on it."""
    order = generator.permutation(len(objects.background))
    wall = random_piece(objects.background[order[0]], SCENE_SIZE, generator)
    for index in order[1 : 1 + _CLUTTER]:
        width = int(generator.uniform(0.2, 0.4) * SCENE_SIZE[0])
        height = int(width * generator.uniform(0.7, 1.3))
        piece = _relit(random_piece(objects.background[index], (width, height), generator), generator)
        x = int(generator.integers(-width // 3, SCENE_SIZE[0] - width // 2))
        y = int(generator.integers(-height // 3, SCENE_SIZE[1] - height // 2))
        _paste_tilted(wall, piece, (x, y), generator.uniform(-12, 12))
    return wall


def random_piece(photo: Image.Image, size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    """A random part of a photograph, of the aspect of `size`."""
    aspect = size[0] / size[1]
    width = min(photo.width, photo.height * aspect) * generator.uniform(0.5, 1.0)
    height = width / aspect
    x = generator.uniform(0, photo.width - width)
    y = generator.uniform(0, photo.height - height)
    piece = photo.resize(size, Image.Resampling.BICUBIC, box=(x, y, x + width, y + height))
    return piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else piece


def _hang(scene: Image.Image, photo: Image.Image, generator: np.random.Generator) -> Box:
    share = generator.uniform(0.04, 0.09)
    height = (share * scene.width * scene.height * photo.height / photo.width) ** 0.5
    size = (round(height * photo.width / photo.height), round(height))
    small = _relit(photo.resize(size, Image.Resampling.LANCZOS), generator)
    small = small.filter(ImageFilter.GaussianBlur(generator.uniform(0, 1.0)))
    margin = 16
    while True:
        x = int(generator.integers(margin, scene.width - size[0] - margin))
        y = int(generator.integers(margin, scene.height - size[1] - margin))
        off_x, off_y = (x + size[0] / 2) / scene.width - 0.5, (y + size[1] / 2) / scene.height - 0.5
        if max(abs(off_x), abs(off_y)) > 0.2:
            return _paste_tilted(scene, small, (x, y), generator.uniform(-8, 8))


def _relit(photo: Image.Image, generator: np.random.Generator) -> Image.Image:
    brighter = ImageEnhance.Brightness(photo).enhance(generator.uniform(0.75, 1.25))
    return ImageEnhance.Contrast(brighter).enhance(generator.uniform(0.8, 1.2))


def _paste_tilted(scene: Image.Image, photo: Image.Image, corner: tuple[int, int], degrees: float) -> Box:
    """Paste a rotated photograph around the place of the upright one; returns the box that encloses it."""
    tilted = photo.convert("RGBA").rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    x = corner[0] - (tilted.width - photo.width) // 2
    y = corner[1] - (tilted.height - photo.height) // 2
    scene.paste(tilted, (x, y), tilted)
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + tilted.width, scene.width), min(y + tilted.height, scene.height)
    return (float(x0), float(y0), float(x1), float(y1))
