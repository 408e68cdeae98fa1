"""Scenes under control: one photograph of an object seen from an angle, in a given light, behind and among others.

Every condition is a number, drawn so that each object meets every condition evenly and independently of the others
(Latin hypercube), and measured on the scene as it was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from patchwise.boxes import Box
from patchwise.demo.scenes import random_piece

__all__ = ["SCENE_SIZE", "Condition", "compose_scene", "conditions", "photograph_object"]

SCENE_SIZE = (800, 600)
_SUPERSAMPLING = 2
_CAMERA = 1.6  # distance of the camera from the object's middle, in diagonals of the object
_DISPLAY_GAMMA = 2.2

# Ranges of the conditions; half of the scenes are free of occlusion.
_SIZE_SHARE = (0.008, 0.25)
_MOST_CLUTTER = 12
_MOST_OCCLUSION = 0.5
_LIGHT_STOPS = (-1.5, 1.0)
_MOST_VIEWPOINT = 60.0
_MOST_TURN = 20.0


@dataclass(frozen=True)
class Condition:
    """How an object is shown.

    `size_share` is the area of its box over the scene's, `reach` how far from the middle it lies (0 middle, 1 as far
    as the scene allows), `clutter` the number of other pictures behind it, `occlusion` the part of its width or
    height that something hides, `light` the exposure in stops, `viewpoint` the angle in degrees out of the picture's
    plane and `turn` the angle within it.
    """

    size_share: float
    reach: float
    clutter: int
    occlusion: float
    light: float
    viewpoint: float
    turn: float


def conditions(count: int, generator: np.random.Generator) -> list[Condition]:
    """`count` conditions that cover every range evenly, independently of one another."""
    share, reach, clutter, occlusion, light, viewpoint, turn = (
        (generator.permutation(count) + generator.random(count)) / count for _ in range(7)
    )
    low, high = np.log(_SIZE_SHARE)
    return [
        Condition(
            size_share=float(np.exp(low + share[row] * (high - low))),
            reach=float(reach[row]),
            clutter=int(clutter[row] * (_MOST_CLUTTER + 1)),
            occlusion=float(max(2 * occlusion[row] - 1, 0) * _MOST_OCCLUSION),
            light=float(_LIGHT_STOPS[0] + light[row] * (_LIGHT_STOPS[1] - _LIGHT_STOPS[0])),
            viewpoint=float(viewpoint[row] * _MOST_VIEWPOINT),
            turn=float((2 * turn[row] - 1) * _MOST_TURN),
        )
        for row in range(count)
    ]


def compose_scene(
    photo: Image.Image | None,
    condition: Condition,
    backgrounds: Sequence[Image.Image],
    generator: np.random.Generator,
) -> tuple[Image.Image, Box | None, Mapping[str, float]]:
    """A scene with the object, its exact box and what was measured; or, without a photo, a scene without an object.

    The box encloses all of the object, hidden parts included.
    """
    order = generator.permutation(len(backgrounds))
    scene = random_piece(backgrounds[order[0]], SCENE_SIZE, generator)
    for number in range(condition.clutter):
        _hang_clutter(scene, backgrounds[order[1 + number % (len(order) - 1)]], generator)
    box, occluded = None, 0.0
    if photo is not None:
        seen, box = _place(photo, condition, generator)
        corner = (int(box[0]), int(box[1]))
        scene.paste(seen, corner, seen)
        if condition.occlusion > 0:
            hider = random_piece(backgrounds[order[-1]], (300, 300), generator)
            occluded = _hide(scene, seen.getchannel("A"), corner, hider, condition.occlusion, generator)
    scene = relight(scene, condition.light, generator)
    measured = {"clutter_pictures": float(condition.clutter), "light_stops": condition.light}
    if box is not None:
        measured |= _measured(box, condition, occluded)
    return scene, box, measured


def photograph_object(photo: Image.Image, generator: np.random.Generator, side: int = 384) -> Image.Image:
    """The object as one would photograph it to ask for it: nearly frontal, in good light, filling the picture.

    Its edges are cut, its viewpoint and light are its own, so that no pixel is that of a scene.
    """
    cut = generator.uniform(0.02, 0.07, 4) * np.array([photo.width, photo.height] * 2)
    part = photo.crop((int(cut[0]), int(cut[1]), int(photo.width - cut[2]), int(photo.height - cut[3])))
    corners = _project(part.size, generator.uniform(8, 16), generator.uniform(-3, 3), generator.uniform(0, 360))
    scale = side / np.ptp(corners, axis=0).max()
    seen = _warp(part, corners * scale, supersampling=1)  # the photographs are hardly larger than this
    picture = Image.new("RGB", seen.size, (188, 186, 182))
    picture.paste(seen, (0, 0), seen)
    return relight(picture, float(generator.uniform(-0.3, 0.3)), generator)


def relight(picture: Image.Image, stops: float, generator: np.random.Generator) -> Image.Image:
    """The picture exposed by `stops` more or less, under light that is a little warmer or cooler."""
    warmth = generator.uniform(-0.15, 0.15)
    gains = 2.0 ** ((stops + np.array([warmth, 0.0, -warmth])) / _DISPLAY_GAMMA)
    levels = np.arange(256)
    table = np.clip(levels[None] * gains[:, None], 0, 255).round().astype(int)
    return picture.point(table.ravel().tolist())


def _measured(box: Box, condition: Condition, occluded: float) -> dict[str, float]:
    width, height = SCENE_SIZE
    off_x, off_y = (box[0] + box[2]) / 2 - width / 2, (box[1] + box[3]) / 2 - height / 2
    return {
        "size_share": (box[2] - box[0]) * (box[3] - box[1]) / (width * height),
        "centre_distance": float(np.hypot(off_x, off_y) / np.hypot(width / 2, height / 2)),
        "occlusion_share": occluded,
        "viewpoint_degrees": condition.viewpoint,
        "turn_degrees": condition.turn,
    }


def _hang_clutter(scene: Image.Image, photo: Image.Image, generator: np.random.Generator) -> None:
    width = int(generator.uniform(0.12, 0.3) * SCENE_SIZE[0])
    height = int(width * generator.uniform(0.7, 1.4))
    piece = random_piece(photo, (width, height), generator)
    corners = _project(piece.size, generator.uniform(0, 40), generator.uniform(-20, 20), generator.uniform(0, 360))
    seen = _warp(relight(piece, generator.uniform(-0.7, 0.7), generator), corners, supersampling=1)
    at = (
        int(generator.integers(-width // 3, SCENE_SIZE[0] - width // 2)),
        int(generator.integers(-height // 3, SCENE_SIZE[1] - height // 2)),
    )
    scene.paste(seen, at, seen)


def _place(photo: Image.Image, condition: Condition, generator: np.random.Generator) -> tuple[Image.Image, Box]:
    """The object as seen (RGBA, the size of its box) and its box in whole pixels."""
    width, height = SCENE_SIZE
    corners = _project(photo.size, condition.viewpoint, condition.turn, generator.uniform(0, 360))
    extent = np.ptp(corners, axis=0)
    scale = np.sqrt(condition.size_share * width * height / extent.prod())
    # A long object of a large share would not fit.
    scale *= min(1.0, 0.96 * width / (extent[0] * scale), 0.96 * height / (extent[1] * scale))
    seen = _warp(photo, corners * scale)
    free_x, free_y = (width - seen.width) / 2, (height - seen.height) / 2
    angle = generator.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    # As far along the direction as the box stays inside the scene.
    reach = condition.reach * min(
        free / abs(part) if abs(part) > 1e-9 else np.inf for free, part in zip((free_x, free_y), direction, strict=True)
    )
    x, y = round(free_x + reach * direction[0]), round(free_y + reach * direction[1])
    x, y = min(max(x, 0), width - seen.width), min(max(y, 0), height - seen.height)
    return seen, (float(x), float(y), float(x + seen.width), float(y + seen.height))


def _project(size: tuple[int, int], viewpoint: float, turn: float, axis: float) -> npt.NDArray[np.float64]:
    """Corners (4, 2) of a flat picture of `size`, turned in its plane and then around an axis in it, in a camera.

    Order: left top, right top, right bottom, left bottom; angles in degrees; one unit is a pixel at the picture's
    middle, which is at (0, 0).
    """
    half = np.array(size) / 2
    flat = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    turn, viewpoint, axis = np.radians([turn, viewpoint, axis])
    flat = flat @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    along = np.array([np.cos(axis), np.sin(axis)])
    across = np.array([-along[1], along[0]])
    u, v = flat @ along, flat @ across
    depth = 1 + v * np.sin(viewpoint) / (_CAMERA * np.hypot(*size))
    corners: npt.NDArray[np.float64] = (u[:, None] * along + (v * np.cos(viewpoint))[:, None] * across) / depth[:, None]
    return corners


def _warp(photo: Image.Image, corners: npt.NDArray[np.float64], supersampling: int = _SUPERSAMPLING) -> Image.Image:
    """The photo drawn into a quadrilateral: RGBA of the size of its box, transparent outside it."""
    low = corners.min(axis=0)
    width, height = (max(round(extent), 4) for extent in np.ptp(corners, axis=0))
    large = (width * supersampling, height * supersampling)
    # First made no larger than needed, as the warp itself does not average pixels.
    shrink = min(1.0, max(large) * 1.5 / max(photo.size))
    source = photo.convert("RGB")
    if shrink < 1:
        source = source.resize(
            (max(round(photo.width * shrink), 4), max(round(photo.height * shrink), 4)), Image.Resampling.LANCZOS
        )
    target = (corners - low) / np.ptp(corners, axis=0) * np.array(large)
    coefficients = _homography(target, source.size)
    seen = source.convert("RGBA").transform(large, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)
    return seen.resize((width, height), Image.Resampling.BOX) if supersampling > 1 else seen


def _homography(target: npt.NDArray[np.float64], size: tuple[int, int]) -> list[float]:
    """The eight numbers by which Pillow finds, for each pixel of the target, its place in a picture of `size`."""
    width, height = size
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    rows, values = [], []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solution: list[float] = np.linalg.solve(np.array(rows), np.array(values)).tolist()
    return solution


def _hide(
    scene: Image.Image,
    mask: Image.Image,
    corner: tuple[int, int],
    hider: Image.Image,
    share: float,
    generator: np.random.Generator,
) -> float:
    """Cover the object from one side; returns the share of its pixels that are hidden."""
    width, height = mask.size
    side = int(generator.integers(4))
    along = width if side < 2 else height
    cover, beyond = max(round(share * along), 1), round(0.25 * along)
    size = (cover + beyond, round(height * 1.2)) if side < 2 else (round(width * 1.2), cover + beyond)
    offsets = (
        (-beyond, round(-0.1 * height)),
        (width - cover, round(-0.1 * height)),
        (round(-0.1 * width), -beyond),
        (round(-0.1 * width), height - cover),
    )
    x, y = offsets[side]
    piece = hider.resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(0.5))
    scene.paste(piece, (corner[0] + x, corner[1] + y))
    visible = np.asarray(mask, dtype=np.float64)
    hidden = visible[max(y, 0) : max(y, 0) + size[1] + min(y, 0), max(x, 0) : max(x, 0) + size[0] + min(x, 0)]
    return float(hidden.sum() / visible.sum())
