"""The built-in benchmark: composed scenes with exact boxes, made on the spot from photographs that come with packages.

ROOT/benchmark.json      what was made: version, seed, scenes with box and conditions, queries; written last
ROOT/scenes/*.jpg, ROOT/queries/*.jpg
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from patchwise.caches import cache_folder
from patchwise.errors import BenchmarkError, UsageError
from patchwise.evaluation.datasets.base import Benchmark, Query
from patchwise.evaluation.datasets.checks import few

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SYNTHETIC_EDGES", "SyntheticPhotographs", "default_folder", "load_photographs", "read_synthetic"]

VERSION = 1
SCENES_PER_OBJECT = 20
EMPTY_SCENES = 30
QUERIES_PER_OBJECT = 3
_USUAL = {"version": VERSION, "seed": 0, "scenes_per_object": SCENES_PER_OBJECT, "empty": EMPTY_SCENES}
_MANIFEST = "benchmark.json"
_FORMAT = "patchwise synthetic benchmark"

# Bins for breakdowns by the attributes, with about as many scenes each; the first of occlusion has none of it.
SYNTHETIC_EDGES: Mapping[str, tuple[float, ...]] = {
    "size_share": (0.0, 0.019, 0.045, 0.106, np.inf),
    "centre_distance": (0.0, 0.14, 0.27, 0.41, np.inf),
    "clutter_pictures": (0.0, 3.0, 6.0, 9.0, np.inf),
    "occlusion_share": (0.0, 1e-9, 0.22, np.inf),
    "light_stops": (-np.inf, -0.875, -0.25, 0.375, np.inf),
    "viewpoint_degrees": (0.0, 15.0, 30.0, 45.0, np.inf),
    "turn_degrees": (-np.inf, -10.0, 0.0, 10.0, np.inf),
}


@dataclass(frozen=True)
class SyntheticPhotographs:
    """`asked` are the objects as they are photographed for a query, `shown` as they stand in scenes."""

    asked: Mapping[str, Image.Image]
    shown: Mapping[str, Image.Image]
    backgrounds: tuple[Image.Image, ...]


def load_photographs() -> SyntheticPhotographs:
    """Sixteen objects and ten backgrounds from the sample images that scikit-image and scikit-learn install.

    None of them is downloaded. The motorcycle was photographed from two places: one view is asked for, the other
    stands in the scenes.

    Raises:
        MissingExtra: the packages are not installed.
    """
    from PIL import Image

    from patchwise.demo.scenes import Samples

    samples = Samples.load("the synthetic benchmark")
    photo, flower, china = samples.photo, samples.flower, samples.china
    left, right = samples.motorcycle
    asked = {
        "astronaut": photo("astronaut", (150, 0, 310, 210)),
        "cat": photo("chelsea", (90, 10, 390, 290)),
        "checkerboard": photo("checkerboard"),
        "coffee cup": photo("coffee", (140, 30, 480, 350)),
        "colour wheel": photo("colorwheel"),
        "flower": flower.crop((170, 20, 540, 400)),
        "helmet": photo("astronaut", (280, 320, 512, 512)),
        "horse": photo("horse"),
        "logo": photo("logo"),
        "motorcycle": left.crop((120, 60, 620, 460)),
        "pagoda": china.crop((70, 20, 410, 390)),
        "phantom": photo("shepp_logan_phantom"),
        "photographer": photo("camera", (120, 60, 420, 400)),
        "retina": photo("retina").resize((500, 500), Image.Resampling.LANCZOS),
        "rocket": photo("rocket", (220, 0, 420, 400)),
        "space shuttle": photo("astronaut", (340, 0, 512, 300)),
    }
    textures = (
        "brick",
        "cell",
        "coins",
        "grass",
        "gravel",
        "hubble_deep_field",
        "immunohistochemistry",
        "moon",
        "page",
        "text",
    )
    shown = {**asked, "motorcycle": right.crop((90, 60, 590, 460))}
    return SyntheticPhotographs(asked, shown, tuple(photo(name) for name in textures))


def default_folder(kind: str = "") -> Path:
    """Where the scenes are kept when no folder is named: in the user's cache, or under PATCHWISE_CACHE."""
    return cache_folder() / f"synthetic-{VERSION}{kind}"


def read_synthetic(
    root: Path | None = None,
    *,
    scenes_per_object: int = SCENES_PER_OBJECT,
    empty: int = EMPTY_SCENES,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """The synthetic benchmark in `root`; made there if the folder is empty or not there, which takes a minute.

    Each of 16 objects stands in `scenes_per_object` scenes and is asked for with three pictures; `empty` scenes show
    none. `Benchmark.attributes` tells of each scene with an object: `size_share` (of its box), `centre_distance` (half
    diagonals), `clutter_pictures` (behind it), `occlusion_share` (of its pixels), `light_stops`, `viewpoint_degrees`,
    `turn_degrees`.

    Args:
        root: the folder (default: one in the user's cache).
        scenes_per_object: at least 2.
        empty: scenes without an object.
        seed: of everything that is random.
        progress: told how far the making is.

    Raises:
        MissingExtra: the packages with the photographs are not installed.
        UsageError: the folder holds something else, or the same with another seed or size.
        BenchmarkError: files of the benchmark were changed or lost.
    """
    if scenes_per_object < 2 or empty < 0:
        raise UsageError("the synthetic benchmark needs at least 2 scenes per object, and no fewer than 0 without one")
    wanted = {"version": VERSION, "seed": seed, "scenes_per_object": scenes_per_object, "empty": empty}
    odd = [f"{key} {value}" for key, value in wanted.items() if value != _USUAL[key]]
    root = default_folder("".join(f"-{kind.replace(' ', '-')}" for kind in odd)) if root is None else root
    manifest = root / _MANIFEST
    if not manifest.is_file():
        _make(root, wanted, progress)
    return _read(root, manifest, wanted, odd)


def _read(root: Path, manifest: Path, wanted: Mapping[str, int], odd: list[str]) -> Benchmark:
    mend = f"delete the folder {root} and it is made anew"
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content["format"] != _FORMAT:
            raise UsageError(f"{manifest}: not a synthetic benchmark; name another folder")
        found = {key: content[key] for key in wanted}
        if found != wanted:
            shown = ", ".join(f"{key} {found[key]}, not {wanted[key]}" for key in wanted if found[key] != wanted[key])
            raise UsageError(f"{root}: holds a synthetic benchmark of another kind ({shown}); name another folder")
        changed = [
            entry["file"]
            for entry in (*content["scenes"], *content["queries"])
            if not (root / entry["file"]).is_file() or _digest(root / entry["file"]) != entry["blake2b"]
        ]
        if changed:
            raise BenchmarkError(f"{root}: changed or missing since it was made: {few(changed)}; {mend}")
        scenes = content["scenes"]
        truth: dict[str, dict[str, Any]] = {}
        for scene in scenes:
            if scene["shows"] is not None:
                truth.setdefault(scene["shows"], {})[scene["file"]] = (tuple(map(float, scene["box"])),)
        queries = [
            Query(entry["file"], root / entry["file"], None, truth[entry["shows"]], group=entry["shows"])
            for entry in content["queries"]
        ]
        attributes = {scene["file"]: scene["attributes"] for scene in scenes if scene["shows"] is not None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise BenchmarkError(f"{manifest}: cannot be read ({type(error).__name__}: {error}); {mend}") from error
    return Benchmark(
        name=", ".join([f"synthetic {VERSION}", *(kind.replace("_", " ") for kind in odd)]),
        root=root,
        image_ids=[scene["file"] for scene in scenes],
        queries=queries,
        attributes=attributes,
    )


def _make(root: Path, wanted: Mapping[str, int], progress: Callable[[str], None]) -> None:
    from patchwise.evaluation.datasets.synthetic_scenes import compose_scene, conditions, photograph_object

    if root.exists() and (not root.is_dir() or not _only_ours(root)):
        raise UsageError(f"{root}: holds other files, and is left alone; name another folder")
    photographs = load_photographs()
    try:
        for name in ("scenes", "queries"):
            (root / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{root}: cannot be written to ({error.strerror or error})") from error
    generator = np.random.default_rng(wanted["seed"])
    plan = [
        (name, condition)
        for name in [*photographs.shown, *[None] * bool(wanted["empty"])]
        for condition in conditions(wanted["empty" if name is None else "scenes_per_object"], generator)
    ]
    scenes = []
    for number, index in enumerate(generator.permutation(len(plan))):
        name, condition = plan[index]
        photo = None if name is None else photographs.shown[name]
        picture, box, attributes = compose_scene(photo, condition, photographs.backgrounds, generator)
        file = f"scenes/{number:04d}.jpg"
        picture.save(root / file, quality=88)
        scenes.append(
            {"file": file, "shows": name, "box": box, "attributes": attributes, "blake2b": _digest(root / file)}
        )
        if (number + 1) % 50 == 0 or number + 1 == len(plan):
            progress(f"composed {number + 1:,} of {len(plan):,} scenes")
    queries = []
    for name, photo in photographs.asked.items():
        for number in range(QUERIES_PER_OBJECT):
            file = f"queries/{name.replace(' ', '_')}_{number}.jpg"
            photograph_object(photo, generator).save(root / file, quality=95)
            queries.append({"file": file, "shows": name, "blake2b": _digest(root / file)})
    content = {"format": _FORMAT, **wanted, "scenes": scenes, "queries": queries}
    unfinished = root / (_MANIFEST + ".part")
    unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")
    unfinished.replace(root / _MANIFEST)


def _only_ours(root: Path) -> bool:
    """Whether the folder is empty, or what an interrupted run left."""
    return all(entry.name in ("scenes", "queries", _MANIFEST + ".part") for entry in root.iterdir())


def _digest(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
