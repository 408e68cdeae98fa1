"""ILIAS and mini-ILIAS: the published layout is read as published, and every break of it is named."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from patchwise.errors import BenchmarkError
from patchwise.evaluation.datasets import Benchmark, read_benchmark
from patchwise.evaluation.datasets.ilias import from_official_id, official_id, read_ilias
from patchwise.images import read_bytes

CORE = {  # image -> boxes x y width height
    "bold_bimp_000/query/Q000_00.jpg": ["10 10 60 50"],
    "bold_bimp_000/query/Q000_01.jpg": ["0 0 20 20", "50 40 30 30"],
    "bold_bimp_000/pos/P000_00.jpg": ["5 6 20 10"],
    "bold_bimp_000/pos/P000_01.jpg": ["0 0 30 30", "40 40 25 25"],
    "zippy_zoo_001/query/Q001_00.jpg": ["1 1 98 78"],
    "zippy_zoo_001/pos/P001_00.jpg": ["90 70 12 10"],
}
POSITIVES = ["bold_bimp_000/pos/P000_00.jpg,0.025,12", "bold_bimp_000/pos/P000_01.jpg,0.19,40"]
POSITIVES += ["zippy_zoo_001/pos/P001_00.jpg,0.01,3"]
SHARDS = {"yfcc_00.tar": ["a1", "b2", "c3"], "yfcc_01.tar": ["d4", "e5"]}


@pytest.fixture
def root(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    root = tmp_path / "ilias"
    for name, boxes in CORE.items():
        write_image(root / "ilias_core" / name)
        box_file = (root / "ilias_core" / name).with_name(Path(name).stem + "_bbox.txt")
        box_file.write_text("\n".join(boxes) + "\n")
    ids = root / "image_ids"
    ids.mkdir()
    ids.joinpath("image_query_ids.txt").write_text("".join(f"{name},some text\n" for name in CORE if "/query/" in name))
    ids.joinpath("positive_ids.txt").write_text("\n".join(POSITIVES) + "\n")
    with gzip.open(ids / "distractor_ids.txt.gz", "wt") as file:
        file.write("".join(f"{shard}/{key}\n" for shard, keys in SHARDS.items() for key in keys))
    ids.joinpath("mini_ilias_yfcc100m_ids.txt").write_text("e5\na1\nc3\n")
    (root / "yfcc100m").mkdir()
    for shard, keys in SHARDS.items():
        with tarfile.open(root / "yfcc100m" / shard, "w") as tar:
            for key in keys:
                for ending, data in ((".jpg", jpeg()), (".json", b"{}")):
                    info = tarfile.TarInfo(key + ending)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return root


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_core_and_all_distractors(root: Path) -> None:
    benchmark = read_ilias(root)
    assert (benchmark.name, benchmark.depth, benchmark.average_precision) == ("ILIAS", 1000, "at depth")
    positives = [f"ilias_core/{line.split(',')[0]}" for line in POSITIVES]
    distractors = [f"yfcc100m/{shard}/{key}.jpg" for shard, keys in SHARDS.items() for key in keys]
    assert list(benchmark.image_ids) == positives + distractors
    assert [query.id for query in benchmark.queries] == [name for name in CORE if "/query/" in name]
    first, second, third = benchmark.queries
    assert first.positives == {
        "ilias_core/bold_bimp_000/pos/P000_00.jpg": ((5, 6, 25, 16),),
        "ilias_core/bold_bimp_000/pos/P000_01.jpg": ((0, 0, 30, 30), (40, 40, 65, 65)),
    }
    assert second.positives is first.positives
    assert (first.box, first.group, third.group) == (None, "bold_bimp_000", "zippy_zoo_001")
    assert first.image == root / "ilias_core/bold_bimp_000/query/Q000_00.jpg"
    assert benchmark.attributes["ilias_core/bold_bimp_000/pos/P000_01.jpg"] == {"scale": 0.19, "clutter": 40}
    assert "1,232 image queries; this list has 3" in benchmark.notes[-1]


def test_a_box_that_leaves_its_image_a_little_is_cut_and_noted(root: Path) -> None:
    (root / "ilias_core/zippy_zoo_001/query/Q001_00_bbox.txt").write_text("-8 0 80 60\n")
    benchmark = read_ilias(root, query_box=True)
    assert benchmark.queries[2].box == (0, 0, 72, 60)
    assert benchmark.queries[2].positives == {"ilias_core/zippy_zoo_001/pos/P001_00.jpg": ((90, 70, 100, 80),)}
    assert benchmark.notes[0].startswith("1 boxes were cut to their images, the first ")


def test_mini_takes_the_listed_keys_from_whatever_shard_has_them(root: Path) -> None:
    benchmark = read_benchmark("mini-ilias", root)
    assert benchmark.name == "mini-ILIAS"
    distractors = [name for name in benchmark.image_ids if name.startswith("yfcc100m/")]
    assert distractors == ["yfcc100m/yfcc_00.tar/a1.jpg", "yfcc100m/yfcc_00.tar/c3.jpg", "yfcc100m/yfcc_01.tar/e5.jpg"]
    for name in benchmark.image_ids:
        assert read_bytes(str(benchmark.root / name)).startswith(b"\xff\xd8")


def test_a_key_in_two_shards_counts_once(root: Path) -> None:
    (root / "yfcc100m/zz_copy.tar").write_bytes((root / "yfcc100m/yfcc_00.tar").read_bytes())
    benchmark = read_ilias(root, mini=True)
    assert len(benchmark.image_ids) == 3 + 3
    assert "yfcc100m/zz_copy.tar/a1.jpg" not in benchmark.image_ids


@pytest.mark.parametrize("packed", [True, False])
def test_lists_may_be_packed_or_not(root: Path, packed: bool) -> None:
    for name in ("distractor_ids.txt", "mini_ilias_yfcc100m_ids.txt"):
        plain, gz = root / "image_ids" / name, root / "image_ids" / (name + ".gz")
        text = plain.read_text() if plain.exists() else gzip.decompress(gz.read_bytes()).decode()
        plain.unlink(missing_ok=True)
        gz.unlink(missing_ok=True)
        if packed:
            gz.write_bytes(gzip.compress(text.encode()))
        else:
            plain.write_text(text)
    assert len(read_ilias(root).image_ids) == 3 + 5
    assert len(read_ilias(root, mini=True).image_ids) == 3 + 3


def test_query_boxes_enclose_all_boxes_of_the_query(root: Path) -> None:
    benchmark = read_benchmark("ilias:query-box", root)
    assert [query.box for query in benchmark.queries] == [(10, 10, 70, 60), (0, 0, 80, 70), (1, 1, 99, 79)]
    assert benchmark.name == "ILIAS, boxes as queries"


def test_missing_distractors_are_counted_and_going_on_is_named(root: Path, refusal: Callable[..., str]) -> None:
    (root / "yfcc100m/yfcc_01.tar").unlink()
    message = refusal(read_ilias, root)
    assert "yfcc100m: 2 of 5 distractors are missing" in message
    assert "https://vrg.fel.cvut.cz/ilias_data/yfcc100m/" in message and "ilias:present" in message
    assert "1 of 3 distractors are missing" in (message := refusal(read_ilias, root, mini=True))
    assert "mini-ilias:core" in message
    present: Benchmark = read_benchmark("ilias:present", root)
    assert (present.name, len(present.image_ids)) == ("ILIAS, 3 of 5 distractors", 3 + 3)
    core = read_benchmark("mini-ilias:core", root)
    assert (core.name, len(core.image_ids)) == ("ILIAS core, no distractors", 3)


def test_core_needs_neither_lists_of_distractors_nor_shards(root: Path) -> None:
    for name in ("distractor_ids.txt.gz", "mini_ilias_yfcc100m_ids.txt"):
        (root / "image_ids" / name).unlink()
    for shard in SHARDS:
        (root / "yfcc100m" / shard).unlink()
    (root / "yfcc100m").rmdir()
    assert len(read_ilias(root, distractors="none").image_ids) == 3


@pytest.mark.parametrize(
    "lost", ["image_query_ids.txt", "positive_ids.txt", "distractor_ids.txt", "mini_ilias_yfcc100m_ids.txt"]
)
def test_a_missing_list_says_where_to_get_it(root: Path, refusal: Callable[..., str], lost: str) -> None:
    for ending in ("", ".gz"):
        (root / "image_ids" / (lost + ending)).unlink(missing_ok=True)
    message = refusal(read_ilias, root, mini=lost.startswith("mini"))
    assert message.startswith(f"{root}/image_ids/{lost}: missing. ")
    assert "https://vrg.fel.cvut.cz/ilias_data/image_ids/" in message


@pytest.mark.parametrize("lost", ["zippy_zoo_001/pos/P001_00.jpg", "bold_bimp_000/query/Q000_01.jpg"])
def test_a_missing_image_is_named(root: Path, refusal: Callable[..., str], lost: str) -> None:
    (root / "ilias_core" / lost).unlink()
    message = refusal(read_ilias, root)
    assert f"1 of 6 listed queries and positives are missing: {lost}." in message
    assert "https://vrg.fel.cvut.cz/ilias_data/ilias_core.tar" in message


def break_line(file: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return apply


def pack(name: str, text: str) -> Callable[[Path], None]:
    return lambda root: (root / "image_ids" / name).write_bytes(gzip.compress(text.encode())) and None


BBOX = "ilias_core/bold_bimp_000/pos/P000_00_bbox.txt"
QUERIES, LIST = "image_ids/image_query_ids.txt", "image_ids/positive_ids.txt"
BROKEN = {
    "box outside the image": (
        break_line(BBOX, "5 6 20 10", "150 6 20 10"),
        "P000_00_bbox.txt, line 1: box 150 6 170 16"
        " (x0 y0 x1 y1), image 100 x 80: outside its image. Expected x y width height",
    ),
    "box without area": (
        break_line(BBOX, "5 6 20 10", "5 6 0 10"),
        "is empty or inside out; expected x y width height",
    ),
    "three numbers": (break_line(BBOX, "5 6 20 10", "5 6 20"), "line 1 is not x y width height: 5 6 20"),
    "no box": (break_line(BBOX, "5 6 20 10\n", ""), "P000_00_bbox.txt: holds no box"),
    "no box file": (lambda root: (root / BBOX).unlink(), "P000_00_bbox.txt: missing"),
    "duplicated positive": (
        break_line(LIST, POSITIVES[0], f"{POSITIVES[0]}\n{POSITIVES[0]}"),
        "positive_ids.txt: listed twice: bold_bimp_000/pos/P000_00.jpg",
    ),
    "duplicated query": (
        break_line(QUERIES, "bold_bimp_000/query/Q000_01.jpg", "bold_bimp_000/query/Q000_00.jpg"),
        "image_query_ids.txt: listed twice: bold_bimp_000/query/Q000_00.jpg",
    ),
    "duplicated distractor": (
        pack("distractor_ids.txt.gz", "s.tar/a\ns.tar/b\ns.tar/a\n"),
        "distractor_ids.txt: listed twice: s.tar/a",
    ),
    "a distractor that is a bare key": (pack("distractor_ids.txt.gz", "s.tar/a\nb\n"), "not shard.tar/key: b"),
    "a cut gz": (
        lambda root: (root / "image_ids/distractor_ids.txt.gz").write_bytes(gzip.compress(b"x" * 999)[:-9]),
        "distractor_ids.txt.gz: cannot be read",
    ),
    "query without positives": (
        break_line(LIST, POSITIVES[2], ""),
        "query zippy_zoo_001/query/Q001_00.jpg has no positive",
    ),
    "two columns": (break_line(LIST, ",0.025,12", ",0.025"), "line 1 is not id,scale,clutter"),
    "a word for a number": (break_line(LIST, ",0.025,12", ",small,12"), "line 1 is not id,scale,clutter"),
    "swapped lists": (
        break_line(QUERIES, "zippy_zoo_001/query/Q001_00.jpg", "zippy_zoo_001/pos/P001_00.jpg"),
        "not instance/query/NAME or instance/pos/NAME: zippy_zoo_001/pos/P001_00.jpg",
    ),
    "an empty list": (lambda root: (root / QUERIES).write_text("\n"), "a list of queries or positives is empty"),
    "a damaged shard": (
        lambda root: (root / "yfcc100m/yfcc_00.tar").write_text("<html>404</html>" * 99),
        "yfcc_00.tar: not an uncompressed tar file",
    ),
    "a picture that is none": (
        lambda root: (root / "ilias_core/bold_bimp_000/pos/P000_00.jpg").write_text("404"),
        "P000_00.jpg: cannot be read as an image",
    ),
    "no folder": (lambda root: root.rename(root.with_name("elsewhere")), "no such folder; ILIAS is expected there"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said(root: Path, refusal: Callable[..., str], name: str) -> None:
    read_ilias(root)  # whole before
    breaking, expected = BROKEN[name]
    breaking(root)
    assert expected in refusal(read_ilias, root)


def test_a_listed_twice_mini_key(root: Path, refusal: Callable[..., str]) -> None:
    (root / "image_ids/mini_ilias_yfcc100m_ids.txt").write_text("a1\nc3\na1\n")
    assert "mini_ilias_yfcc100m_ids.txt: listed twice: a1" in refusal(read_ilias, root, mini=True)


def test_boxes_as_xyxy_are_recognised(root: Path, refusal: Callable[..., str]) -> None:
    """x0 y0 x1 y1 read as x y width height leaves the image in most files."""
    for name, boxes in CORE.items():
        corners = []
        for line in boxes:
            x, y, width, height = map(int, line.split())
            corners.append(f"{x} {y} {min(x + width, 100)} {min(y + height, 80)}")
        (root / "ilias_core" / name).with_name(Path(name).stem + "_bbox.txt").write_text("\n".join(corners))
    assert "boxes leave their image: is this another box format" in refusal(read_ilias, root)


def test_boxes_are_of_the_upright_image(root: Path, write_image: Callable[..., Path]) -> None:
    write_image(root / "ilias_core/bold_bimp_000/pos/P000_00.jpg", (60, 140), turned=True)
    (root / BBOX).write_text("10 90 40 45\n")
    truth = read_ilias(root).queries[0].positives["ilias_core/bold_bimp_000/pos/P000_00.jpg"]
    assert truth == ((10, 90, 50, 135),)


def test_official_ids_and_back(root: Path) -> None:
    for name in read_ilias(root).image_ids:
        assert from_official_id(official_id(name)) == name
    assert official_id("yfcc100m/yfcc_00.tar/a1.jpg") == "yfcc_00.tar/a1"
    assert official_id("ilias_core/x_000/pos/P000_00.jpg") == "x_000/pos/P000_00.jpg"
    with pytest.raises(BenchmarkError, match="not the id of an image of ILIAS"):
        official_id("elsewhere/a.jpg")
