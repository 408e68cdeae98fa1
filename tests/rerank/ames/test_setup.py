"""AMES asked for by name: a gallery, a folder with tiny networks, and the scores that the parts give by hand."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from conftest import FakeEncoder, make_picture  # noqa: E402
from patchwise import Gallery, Hit  # noqa: E402
from patchwise.encoders import load_encoder  # noqa: E402
from patchwise.encoders.torch_runtime import TorchEncoder  # noqa: E402
from patchwise.errors import EncoderError, ImageUnreadable, MissingExtra  # noqa: E402
from patchwise.images import Picture, read_picture  # noqa: E402
from patchwise.rerank import Question, Setting  # noqa: E402
from patchwise.rerank.ames import (  # noqa: E402
    BINARY,
    FULL,
    Ames,
    ames_in,
    extract,
    load_attention,
    load_matcher,
    setup,
    write_descriptors,
)
from patchwise.store.remembered import RememberedArrays  # noqa: E402

from .parts import write_detector, write_folder, write_matcher  # noqa: E402

SIZES = [(64, 48), (48, 64), (64, 64), (120, 40), (64, 48), (90, 70)]
QUERY = make_picture(50, (60, 60))

NOTHING_STORED = (np.empty((0, 4), "f4"), np.empty((0, 48), "f2"))


@pytest.fixture(autouse=True)
def nothing_is_loaded() -> None:
    setup._loaded.cache_clear()
    setup._parts.cache_clear()


@pytest.fixture(scope="module", params=[False, True], ids=["full", "binary"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("ames"), binary=request.param)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    place = tmp_path_factory.mktemp("gallery")
    (place / "pictures").mkdir()
    for seed, size in enumerate(SIZES):
        make_picture(seed, size).save(place / "pictures" / f"{seed}.png")
    with Gallery.create(place / "g", encoder=FakeEncoder(), regions="pyramid:1") as made:
        made.add(place / "pictures")
        yield made


def by_hand(folder: Path, hits: list[Hit], query: Image.Image, depth: int) -> list[tuple[str, float]]:
    """Paths and scores of hits, pair by pair."""
    (checkpoint,) = folder.glob("*_ames*.pt")
    matcher, attention = load_matcher(checkpoint), load_attention(folder / "dinov2_detector.pt")
    backbone = load_encoder(f"hf:{folder / 'backbone'}", device="cpu")

    def features(picture: Image.Image, count: int) -> torch.Tensor:
        found = extract(picture, backbone.patch_tokens, attention, count, patch=8, longer_side=64)
        return torch.from_numpy(found.features)[None]

    asked, scores = features(query, 20), []
    for hit in hits[:depth]:
        image = features(read_picture(Path(hit.path)).pixels, 12).half().float()
        nothing = [torch.zeros(part.shape[:2], dtype=torch.bool) for part in (asked, image)]
        logit = float(matcher(asked, nothing[0], image, nothing[1])[0])
        share, steepness = (0.35, 0.10) if matcher.shape.binary else (0.55, 0.30)
        scores.append(share * hit.score + (1 - share) / (1 + np.exp(-steepness * logit)))
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    rest = [(hit.path, hit.score) for hit in hits[depth:]]
    return [(hits[place].path, scores[place]) for place in order] + rest


@pytest.mark.parametrize("depth", [4, 100])
def test_scores_of_a_search_are_those_of_the_parts(folder: Path, gallery: Gallery, depth: int) -> None:
    plain = gallery.search(QUERY)
    found = gallery.search(QUERY, rerank=f"ames:{depth}:{folder}")
    expected = by_hand(folder, plain, QUERY, depth)
    assert [hit.path for hit in found] == [path for path, _ in expected]
    assert [hit.score for hit in found] == pytest.approx([score for _, score in expected], abs=1e-4)
    assert [hit.rank for hit in found] == list(range(1, len(SIZES) + 1))
    if depth == 100:
        assert [hit.path for hit in found] != [hit.path for hit in plain]
    boxes = {hit.path: (hit.box, hit.regions) for hit in plain}
    assert all(boxes[hit.path] == (hit.box, hit.regions) for hit in found)


def test_a_box_of_the_query_is_what_is_matched(folder: Path, gallery: Gallery) -> None:
    box = (10, 5, 50, 35)
    found = gallery.search(QUERY, box=box, rerank=f"ames:100:{folder}")
    expected = by_hand(folder, gallery.search(QUERY, box=box), QUERY.crop(box), 100)
    assert [(hit.path, round(hit.score, 3)) for hit in found] == [(path, round(score, 3)) for path, score in expected]


def test_the_checkpoint_may_be_named_itself(folder: Path, gallery: Gallery) -> None:
    (checkpoint,) = folder.glob("*_ames*.pt")
    asked = [f"ames:3:{place}" for place in (folder, checkpoint, f"{folder}/")]
    first, *others = (gallery.search(QUERY, rerank=text) for text in asked)
    assert all(other == first for other in others)


def test_queries_without_a_picture_are_left_as_they_are(folder: Path, gallery: Gallery) -> None:
    several = [QUERY, make_picture(3)]
    assert gallery.search(several, rerank=f"ames:100:{folder}") == gallery.search(several)


# What is kept


class Remembering:
    """A setting that keeps what was computed, and says how often."""

    def __init__(self, gallery: Gallery) -> None:
        self.kept: dict[tuple[str, str], Any] = {}
        self.gone: set[str] = set()
        self.setting = Setting(gallery.encoder, self.read, lambda _: NOTHING_STORED, self.remembered)

    def read(self, hit: Hit) -> Picture:
        if hit.path in self.gone:
            raise ImageUnreadable(hit.path, "no such file")
        return read_picture(Path(hit.path))

    def remembered(self, hit: Hit, name: str, compute: Callable[[Picture], Any]) -> Any:
        if (hit.path, name) not in self.kept:
            self.kept[hit.path, name] = compute(self.read(hit))
        return self.kept[hit.path, name]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the pictures that go through a network; those that try it out are black."""
    seen: list[tuple[int, ...]] = []
    tokens = TorchEncoder.patch_tokens

    def counted(self: TorchEncoder, picture: np.ndarray) -> np.ndarray:
        if picture.any():
            seen.append(picture.shape)
        return tokens(self, picture)

    monkeypatch.setattr(TorchEncoder, "patch_tokens", counted)
    return seen


def asked(query: Image.Image = QUERY) -> Question:
    return Question(np.zeros(48, dtype=np.float32), opened=lambda: query)


def test_descriptors_of_images_are_computed_once(
    folder: Path, gallery: Gallery, looked_at: list[tuple[int, ...]]
) -> None:
    hits, memory = gallery.search(QUERY), Remembering(gallery)
    first = ames_in(memory.setting, 100, str(folder)).rerank(asked(), hits)
    assert sorted(looked_at) == sorted([(64, 64, 3), *map(_shape, SIZES)])
    looked_at.clear()
    assert ames_in(memory.setting, 100, str(folder)).rerank(asked(), hits) == first
    assert looked_at == [(64, 64, 3)]
    memory.gone = {hit.path for hit in hits}  # what is kept is there without the pictures
    assert ames_in(memory.setting, 100, str(folder)).rerank(asked(), hits) == first


def _shape(size: tuple[int, int]) -> tuple[int, int, int]:
    width, height = (max(round(64 / max(size) * side / 8), 1) * 8 for side in size)
    return height, width, 3


def test_they_are_kept_in_half_precision_under_all_that_decides_them(folder: Path, gallery: Gallery) -> None:
    hits, memory = gallery.search(QUERY, k=1), Remembering(gallery)
    ames_in(memory.setting, 100, str(folder)).rerank(asked(), hits)
    ((_, name), arrays), *_ = memory.kept.items()
    backbone = load_encoder(f"hf:{folder / 'backbone'}")
    attention = load_attention(folder / "dinov2_detector.pt")
    for part in (backbone.id, backbone.weights_sha256, attention.sha256, "longer_side=64", "descriptors=12"):
        assert part in name
    assert {key: (array.dtype.name, array.shape) for key, array in arrays.items()} == {
        "features": ("float16", (12, 32)),
        "places": ("float16", (12, 2)),
        "weights": ("float16", (12,)),
    }


def test_a_gallery_keeps_them_in_its_folder(
    tmp_path: Path, folder: Path, gallery: Gallery, looked_at: list[tuple[int, ...]]
) -> None:
    """As safetensors, written and read by several threads."""
    kept = RememberedArrays(tmp_path, gallery._store.catalogue)
    memory, hits = Remembering(gallery), gallery.search(QUERY)
    setting = Setting(
        gallery.encoder,
        memory.read,
        memory.setting.stored,
        lambda hit, name, compute: kept(hit.path, name, lambda: compute(memory.read(hit))),
    )
    first = ames_in(setting, 100, str(folder)).rerank(asked(), hits)
    assert len(looked_at) == len(hits) + 1
    looked_at.clear()
    assert ames_in(setting, 100, str(folder)).rerank(asked(), hits) == first
    assert looked_at == [(64, 64, 3)]


def test_other_networks_and_sizes_are_kept_apart(tmp_path: Path, gallery: Gallery) -> None:
    hits, memory = gallery.search(QUERY, k=1), Remembering(gallery)
    place = write_folder(tmp_path)
    settings = json.loads((place / "ames.json").read_text())
    for change in ({}, {"longer_side": 72}, {"image_descriptors": 11}, {"query_descriptors": 9}, {"attention": None}):
        (place / "ames.json").write_text(json.dumps({**settings, **change}))
        ames_in(memory.setting, 100, str(place)).rerank(asked(), hits)
    assert len(memory.kept) == 4, "how many descriptors the query has does not matter for an image"


def test_an_image_that_is_gone_keeps_its_place(folder: Path, gallery: Gallery) -> None:
    """Its logit is taken for 0."""
    hits, memory = gallery.search(QUERY), Remembering(gallery)
    memory.gone = {hits[2].path}
    ames = ames_in(memory.setting, 100, str(folder))
    found = {hit.path: hit for hit in ames.rerank(asked(), hits)}
    mixture = BINARY if "dist" in str(list(folder.glob("*dist*"))) else FULL
    assert found[hits[2].path].score == pytest.approx(mixture.share * hits[2].score + (1 - mixture.share) / 2)
    assert len(found) == len(hits)


def test_the_network_of_the_gallery_is_not_loaded_twice(
    folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = load_encoder(f"hf:{folder / 'backbone'}", device="cpu")
    loaded: list[str] = []
    monkeypatch.setattr("patchwise.rerank.ames.setup.load_encoder", lambda name, **_: loaded.append(name))
    memory = Remembering(gallery)
    setting = Setting(own, memory.read, memory.setting.stored, memory.remembered)
    hits = gallery.search(QUERY)
    found = ames_in(setting, 100, str(folder)).rerank(asked(), hits)
    assert not loaded
    assert [hit.path for hit in found] == [path for path, _ in by_hand(folder, hits, QUERY, 100)]


def test_files_that_change_are_read_again(tmp_path: Path, gallery: Gallery) -> None:
    place = write_folder(tmp_path)
    before = gallery.search(QUERY, rerank=f"ames:100:{place}")
    weights = torch.load(place / "dinov2_ames.pt", weights_only=True)
    weights["state"]["classifier.bias"] += 3
    torch.save(weights, place / "dinov2_ames.pt")
    after = {hit.path: hit.score for hit in gallery.search(QUERY, rerank=f"ames:100:{place}")}
    assert all(after[hit.path] > hit.score + 0.01 for hit in before)


# Descriptors in a file


def described(place: Path, hits: list[Hit], **more: Any) -> None:
    backbone = load_encoder(f"hf:{place / 'backbone'}", device="cpu")
    attention = load_attention(place / "dinov2_detector.pt")
    pictures = [read_picture(Path(hit.path)).pixels for hit in hits]
    sets = [extract(each, backbone.patch_tokens, attention, 20, patch=8, longer_side=64) for each in pictures]
    names = [Path(hit.path).name for hit in hits]
    write_descriptors(place / "dinov2_gallery_local.hdf5", sets, 20, names if not more else None)
    if more:
        (place / "test_gallery.txt").write_text("\n".join(f"{name},64,48" for name in names))


@pytest.mark.parametrize("listed", [False, True])
def test_descriptors_of_a_file_give_the_same_scores(
    tmp_path: Path, gallery: Gallery, looked_at: list[tuple[int, ...]], listed: bool
) -> None:
    """With names in the file itself or in a list; an image that the file does not know is looked at."""
    pytest.importorskip("h5py")
    hits = gallery.search(QUERY)
    place = write_folder(tmp_path)
    computed = gallery.search(QUERY, rerank=f"ames:100:{place}")
    described(place, hits[1:], **{"images": True} if listed else {})
    said = {"descriptors": "dinov2_gallery_local.hdf5", "root": str(Path(hits[0].path).parent)}
    if listed:
        said["images"] = "test_gallery.txt"
    write_folder(tmp_path, **said)
    looked_at.clear()
    shutil.rmtree(gallery.path / "remembered")
    read = gallery.search(QUERY, rerank=f"ames:100:{place}")
    assert sorted(looked_at) == sorted([(64, 64, 3), _shape(hits[0].size)])
    assert [hit.path for hit in read] == [hit.path for hit in computed]
    assert [hit.score for hit in read] == pytest.approx([hit.score for hit in computed], abs=2e-3)  # half precision


def test_a_file_of_other_images_is_not_taken_for_one_of_these(tmp_path: Path, gallery: Gallery) -> None:
    pytest.importorskip("h5py")
    place = write_folder(tmp_path)
    described(place, gallery.search(QUERY))
    write_folder(tmp_path, descriptors="dinov2_gallery_local.hdf5")
    with pytest.raises(
        EncoderError, match=r'local\.hdf5: lists none of 6 hits, such as .*\.png.*"root" in the settings'
    ):
        gallery.search(QUERY, rerank=f"ames:100:{place}")


# What does not fit


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda place: (place / "dinov2_ames.pt").write_bytes(b"garbage"), r"dinov2_ames\.pt: no checkpoint of AMES"),
        (lambda place: (place / "dinov2_detector.pt").write_bytes(b""), r"dinov2_detector\.pt: no detector of AMES"),
        (lambda place: write_detector(place / "dinov2_ames.pt"), r"dinov2_ames\.pt: no checkpoint of AMES"),
        (lambda place: write_matcher(place / "dinov2_detector.pt"), r"dinov2_detector\.pt: no detector of AMES"),
        (
            lambda place: write_matcher(place / "dinov2_ames.pt", dimension=40),
            "for descriptors of 40 numbers.*gives 32",
        ),
        (lambda place: write_detector(place / "dinov2_detector.pt", 40), "for descriptors of 40 numbers.*gives 32"),
        (lambda place: (place / "backbone" / "model.safetensors").unlink(), "backbone"),
    ],
)
def test_files_that_do_not_fit_are_told(
    tmp_path: Path, gallery: Gallery, damage: Callable[[Path], object], told: str
) -> None:
    place = write_folder(tmp_path)
    damage(place)
    with pytest.raises(EncoderError, match=told) as raised:
        gallery.search(QUERY, rerank=f"ames:100:{place}")
    assert "\n" not in str(raised.value)


def test_descriptors_of_another_network_are_told(tmp_path: Path, gallery: Gallery) -> None:
    pytest.importorskip("h5py")
    from patchwise.rerank.ames import DescriptorSet

    place = write_folder(tmp_path, descriptors="d.hdf5")
    one = DescriptorSet(np.ones((1, 9), "f4"), np.zeros((1, 2), "f4"), np.ones(1, "f4"))
    write_descriptors(place / "d.hdf5", [one], 1, ["0.png"])
    with pytest.raises(EncoderError, match=r"d\.hdf5: holds descriptors of 9 numbers.*gives 32"):
        gallery.search(QUERY, rerank=f"ames:100:{place}")


def test_the_usual_network_is_taken_from_the_cache_of_the_hub(
    tmp_path: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is neither there nor in the folder, it is told how to get it, and nothing is downloaded."""
    from encoders.fake_hub import lay_out

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", refused)
    place = write_folder(tmp_path / "ames")
    hits = gallery.search(QUERY)
    expected = by_hand(place, hits, QUERY, 100)
    files = {file.name: file.read_bytes() for file in (place / "backbone").iterdir()}
    shutil.rmtree(place / "backbone")
    with pytest.raises(EncoderError, match=r"hf download facebook/dinov2-with-registers-base --local-dir .*/backbone "):
        gallery.search(QUERY, rerank=f"ames:100:{place}")
    lay_out(tmp_path / "hub", "facebook/dinov2-with-registers-base", files)
    assert [hit.path for hit in gallery.search(QUERY, rerank=f"ames:100:{place}")] == [path for path, _ in expected]
    own = load_encoder("dinov2-b-reg", device="cpu")
    memory = Remembering(gallery)
    monkeypatch.setattr("patchwise.rerank.ames.setup.load_encoder", refused)
    with_own = ames_in(Setting(own, memory.read, memory.setting.stored, memory.remembered), 100, str(place))
    assert [hit.path for hit in with_own.rerank(asked(), hits)] == [path for path, _ in expected]


def test_without_transformers_the_command_that_brings_it_is_told(
    tmp_path: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    lacking = lambda name, *more: None if name == "transformers" else found(name, *more)  # noqa: E731
    for module in ("hf", "overview"):
        monkeypatch.setattr(f"patchwise.encoders.{module}.find_spec", lacking)
    place = write_folder(tmp_path)
    shutil.rmtree(place / "backbone")
    with pytest.raises(MissingExtra, match=r"pip install 'patchwise\[torch\]'"):
        gallery.search(QUERY, rerank=f"ames:100:{place}")


@pytest.mark.parametrize(
    ("backbone", "told"),
    [("builtin", "builtin gives no tokens of patches"), ("hf:siglip2", "does not take pictures that are not square")],
)
def test_networks_that_cannot_look_so_are_told(tmp_path: Path, gallery: Gallery, backbone: str, told: str) -> None:
    from encoders.hf_checkpoints import write_checkpoint

    if backbone != "builtin":
        write_checkpoint("siglip2", tmp_path / "siglip2")
    write_folder(tmp_path, backbone=backbone)
    with pytest.raises(EncoderError, match=told):
        gallery.search(QUERY, rerank=f"ames:100:{tmp_path}")


def test_without_torch_the_command_that_brings_it_is_told(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchwise.rerank.registry.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"rerank ames needs an optional package: pip install 'patchwise\[rerank\]'"):
        gallery.search(QUERY, rerank="ames:100:x")


def test_the_depth_is_what_was_asked_for(folder: Path, gallery: Gallery) -> None:
    memory = Remembering(gallery)
    made = [ames_in(memory.setting, depth, str(folder)) for depth in (100, 400, 1_000)]
    assert [(type(each), each.name, each.depth) for each in made] == [
        (Ames, "ames", 100),
        (Ames, "ames", 400),
        (Ames, "ames", 1_000),
    ]
