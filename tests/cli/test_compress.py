"""patchwise compress: what it writes, what it says, and what a search makes of it, whole, damaged or interrupted."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchwise import Gallery
from patchwise.codecs.names import FAMILIES
from patchwise.compression import DEFAULT_RECALL, TRAINING_SETS
from patchwise.search import CodeIndex, CompressedSearcher
from patchwise.store.codes import Codes

from .conftest import ALBUM, ALBUM_SUB, Cli, Ran, environment

IMAGES, REGIONS, DIMENSION = ALBUM + ALBUM_SUB, 5 * (ALBUM + ALBUM_SUB), 256
INFO_KEYS = {
    "codec",
    "codes_only",
    "bytes_per_region",
    "bytes_per_image",
    "codes_bytes",
    "memory_bytes",
    "trained_on",
    "training_vectors",
    "recall",
    "recall_now",
    "margin",
    "given_up",
    "advice",
}
REPORT_KEYS = {
    "gallery",
    "info",
    "images",
    "regions",
    "training_seconds",
    "encoding_seconds",
    "measuring_seconds",
    "notes",
    "fp16_bytes_per_region",
    "fp16_bytes_per_image",
}

Search = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def hits(in_process: Cli, album: Path) -> Search:
    """Hits of `patchwise search`, as their JSON, with a picture of the album or another file."""

    def search(gallery: Path, picture: object, *arguments: object) -> list[dict[str, Any]]:
        query = picture if isinstance(picture, Path) else album / "pictures" / f"{picture}.png"
        ran = in_process("search", query, "--json", "-g", gallery, *arguments)
        assert (ran.code, ran.err) == (0, ""), ran
        found: list[dict[str, Any]] = json.loads(ran.out)["hits"]
        return found

    return search


def codes_of(gallery: Path) -> Codes:
    codes = Codes.open(gallery, DIMENSION)
    assert codes is not None
    return codes


def whole(gallery: Path) -> bool:
    """Whether every region has its code, as it was written."""
    codes = Codes.open(gallery, DIMENSION)
    with Gallery.open(gallery) as opened:
        shards = opened.current(1)[0].shards
        return codes is not None and all(
            (kept := codes.read(shard)) is not None and len(kept) == rows for shard, rows in shards.items()
        )


# What it says


def test_the_report_for_people(cli: Cli, plain: Path) -> None:
    ran = cli("compress", "-g", "plain", "--codec", "fastscan:32")
    assert (ran.code, ran.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert list(lines) == ["gallery", "codec", "size", "memory", "recall", "seconds"]
    assert lines["gallery"] == f"plain, {IMAGES} images, {REGIONS} regions"
    assert lines["codec"] == f"fastscan:32, learned from {codes_of(plain).record.training['vectors']} vectors (random)"
    assert lines["size"] == "32 bytes per region, 160 per image; the fp16 vectors take 512 and 2,560"
    assert lines["memory"].startswith("0.0 MiB")
    measured = codes_of(plain).record.calibration["recall"]
    assert lines["recall"] == f"{measured['10']:.3f} of the best 10" and measured["10"] >= DEFAULT_RECALL
    assert "training" in lines["seconds"] and "measuring" in lines["seconds"]


def test_the_report_as_json(in_process: Cli, plain: Path, hits: Search) -> None:
    ran = in_process("compress", "-g", plain, "--codec", "pq:16", "--train", "distinct", "--json")
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    report = json.loads(ran.out)
    assert report["notes"] == ran.err.splitlines() and "random regions" in ran.err  # half of so few are not enough
    assert set(report) == REPORT_KEYS and set(report["info"]) == INFO_KEYS
    info = report["info"]
    assert (info["codec"], info["trained_on"], info["codes_only"]) == ("pq:16", "distinct", False)
    assert (info["bytes_per_region"], info["bytes_per_image"], info["codes_bytes"]) == (16, 80, 16 * REGIONS)
    assert 0 < info["training_vectors"] < REGIONS and info["given_up"] == {} and info["advice"] is None
    assert info["recall"] == info["recall_now"] and set(info["recall"]) == {"10"}
    assert (report["images"], report["regions"]) == (IMAGES, REGIONS)
    assert (report["fp16_bytes_per_region"], report["fp16_bytes_per_image"]) == (2 * DIMENSION, 10 * DIMENSION)
    assert min(report["training_seconds"], report["encoding_seconds"], report["measuring_seconds"]) > 0
    assert hits(plain, "07", "-k", "5") == hits(plain, "07", "-k", "5", "--exact")


@pytest.mark.parametrize("codec", ["auto", "ivf:16:4", "SQ8"])
def test_every_codec_can_be_chosen(in_process: Cli, plain: Path, hits: Search, codec: str) -> None:
    ran = in_process("compress", "-g", plain, "--codec", codec, "--json")
    assert ran.code == 0, ran
    made = json.loads(ran.out)["info"]["codec"]
    # A few pictures on any machine: one byte for 8 numbers.
    assert made == ("fastscan:32" if codec == "auto" else codec) == codes_of(plain).codec.name
    assert [hit["path"] for hit in hits(plain, "07", "-k", "3")] == [
        hit["path"] for hit in hits(plain, "07", "-k", "3", "--exact")
    ]


@pytest.mark.parametrize("train", ["whole", "salient", "queries:q.csv"])
def test_every_training_set_can_be_chosen(
    in_process: Cli, plain: Path, album: Path, tmp_path: Path, train: str
) -> None:
    rows = [f"{album}/pictures/0{number}.png" for number in range(4)]
    (tmp_path / "q.csv").write_text("\n".join(["path", *rows, f"{tmp_path}/gone.png"]))
    ran = in_process("compress", "-g", plain, "--codec", "fastscan:16", "--train", train, "--json")
    assert ran.code == 0, ran
    report = json.loads(ran.out)
    assert report["info"]["trained_on"] == train
    assert report["notes"] == ran.err.splitlines() and f"training set {train}: " in ran.err
    assert ("gone.png" in ran.err) == train.startswith("queries")


def test_the_codec_can_be_changed(in_process: Cli, squeezed: Path, hits: Search) -> None:
    expected = hits(squeezed, "03", "-k", "5")
    assert in_process("compress", "-g", squeezed, "--codec", "fastscan:16").code == 0
    assert codes_of(squeezed).codec.name == "fastscan:16"
    assert len([entry for entry in (squeezed / "compressed").iterdir() if entry.is_dir()]) == 1
    assert hits(squeezed, "03", "-k", "5") == expected


def test_help_lists_codecs_and_training_sets_without_loading_them(cli: Cli) -> None:
    text = " ".join(cli("compress", "--help").out.split())
    for family, what in FAMILIES.items():
        assert f"{family}:BYTES" in text and f": {what}." in text
    for name, what in TRAINING_SETS.items():
        assert f"{name}: {what}." in text
    code = (
        "import sys; sys.argv = ['patchwise', 'compress', '--help']\nfrom patchwise.cli import main\n"
        "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split()
    assert not {"numpy", "faiss", "safetensors", "patchwise.gallery"} & set(loaded) and "typer" in loaded


def test_the_recall_that_help_tells_is_that_of_the_library(in_process: Cli) -> None:
    assert f"[default: ({DEFAULT_RECALL})]" in " ".join(in_process("search", "--help").out.split())


def test_bars_for_a_terminal_alone(plain: Path) -> None:
    """On a terminal every stage has its bar on stderr; stdout holds the report alone."""
    pty = pytest.importorskip("pty")
    import os

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "patchwise", "compress", "-g", plain, "--codec", "fastscan:16"],
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=follower,
        env=environment(TERM="xterm", COLUMNS="120"),
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 65_536)
        except OSError:
            break  # Linux says so at the end
        if not part:
            break
        seen += part
    out, _ = process.communicate(timeout=60)
    os.close(leader)
    assert process.returncode == 0 and out.startswith(b"gallery ")
    assert b"encoding" in seen and b"measuring" in seen and b"left" in seen and b"gallery" not in seen


# What a search makes of it


def test_a_search_looks_at_codes_and_answers_as_without_them(
    album: Path, squeezed: Path, hits: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[int] = []
    scan = CodeIndex.scan
    monkeypatch.setattr(CodeIndex, "scan", lambda self, *asked: scans.append(len(asked[0])) or scan(self, *asked))
    with Gallery.open(squeezed) as opened:
        searcher = opened.current()[1]
        assert isinstance(searcher, CompressedSearcher)
        vectors = opened.query_vectors([(album / "pictures" / "07.png", None)])
        assert isinstance(vectors[0], np.ndarray)
        searcher.top(vectors[0][None], 3)
        assert scans == [1]  # otherwise all regions are scored anyway
    for picture in ("07", "sub/40"):
        for arguments in (["-k", "3"], ["-k", "10", "--offset", "2"], ["--box", "0,0,48,32"]):
            exact = hits(squeezed, picture, "--exact", *arguments)
            assert exact == hits(squeezed, picture, "--recall", "1", *arguments)
            assert exact == hits(album / "plain", picture, *arguments)
            # Whatever is found has the score, the box and the regions of exact search, and next to all of it is found.
            everything = hits(squeezed, picture, "--exact", "-k", "99", *(arguments if "--box" in arguments else ()))
            known = {hit["path"]: {**hit, "rank": 0} for hit in everything}
            found = hits(squeezed, picture, *arguments)
            assert [{**hit, "rank": 0} for hit in found] == [known[hit["path"]] for hit in found]
            assert [hit["score"] for hit in found] == sorted((hit["score"] for hit in found), reverse=True)
            assert len(found) == len(exact) and len({hit["path"] for hit in found + exact}) <= 1.1 * len(exact)


def test_a_lower_recall_finds_the_best_all_the_same(squeezed: Path, hits: Search) -> None:
    for recall in ("0.5", "0.9", "0.999"):
        found = hits(squeezed, "11", "--recall", recall, "-k", "5")
        assert len(found) == 5 and found[0]["path"].endswith("/11.png") and found[0]["score"] > 0.99


def test_many_queries_take_the_same_options(
    in_process: Cli, squeezed: Path, album: Path, tmp_path: Path, hits: Search
) -> None:
    (tmp_path / "q.csv").write_text(f"path\n{album}/pictures/05.png\n{album}/pictures/sub/38.png\n")
    for options in ([], ["--recall", "0.9"], ["--exact"], ["--under", album / "pictures" / "sub", "--exact"]):
        ran = in_process("search", "--queries", tmp_path / "q.csv", "-g", squeezed, "-k", "4", *options)
        assert (ran.code, ran.err) == (0, "")
        answers = [json.loads(line)["hits"] for line in ran.out.splitlines()]
        alone = [hits(squeezed, picture, "-k", "4", *options) for picture in ("05", "sub/38")]
        paths = [[hit["path"] for hit in answer] for answer in answers]
        assert paths == [[hit["path"] for hit in answer] for answer in alone]


def test_what_is_added_is_found_and_what_is_removed_never(
    in_process: Cli, squeezed: Path, album: Path, tmp_path: Path, picture: Callable[..., Image.Image], hits: Search
) -> None:
    (tmp_path / "new").mkdir()
    for seed in range(100, 104):
        picture(seed).save(tmp_path / "new" / f"{seed}.png")
    assert in_process("index", tmp_path / "new", "-g", squeezed).code == 0
    assert whole(squeezed)
    found = hits(squeezed, tmp_path / "new" / "102.png", "-k", "3")
    assert found[0]["path"] == str(tmp_path / "new" / "102.png")
    assert found == hits(squeezed, tmp_path / "new" / "102.png", "-k", "3", "--exact")

    gone = {str(album / "pictures" / f"{number:02d}.png") for number in (7, 8, 30)} | {str(tmp_path / "new/101.png")}
    assert in_process("remove", *gone, "-g", squeezed).code == 0
    for _ in range(2):
        for query in ("07", "08", "30", tmp_path / "new" / "101.png"):
            found = hits(squeezed, query, "-k", "5")
            assert found == hits(squeezed, query, "-k", "5", "--exact") and len(found) == 5
            assert not gone & {hit["path"] for hit in hits(squeezed, query, "-k", "99")}
        assert in_process("compact", "-g", squeezed).code == 0
        assert whole(squeezed)
    assert in_process("verify", "-g", squeezed).code == 0


def test_the_reader_of_a_pipe_may_leave(album: Path, plain: Path) -> None:
    for arguments in (["compress", "-g", str(plain), "--codec", "fastscan:16"], ["info", "-g", str(album / "g")]):
        command = [sys.executable, "-m", "patchwise", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 0


# Loss and damage


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "all of it deleted": shutil.rmtree,
    "the generation deleted": lambda root: shutil.rmtree(root / "0001"),
    "current.json deleted": lambda root: (root / "current.json").unlink(),
    "current.json empty": lambda root: (root / "current.json").write_text(""),
    "current.json not of an object": lambda root: (root / "current.json").write_text("[1, 2]"),
    "current.json not text": lambda root: (root / "current.json").write_bytes(b"\xff\xfe\x00"),
    "current.json of a generation that is nowhere": lambda root: (root / "current.json").write_text(
        '{"format": "patchwise-codes", "version": 2, "generation": "0099"}'
    ),
    "index.json deleted": lambda root: (root / "0001" / "index.json").unlink(),
    "index.json garbage": lambda root: (root / "0001" / "index.json").write_text("garbage"),
    "index.json cut": lambda root: cut(root / "0001" / "index.json"),
    "index.json of a later version": lambda root: (root / "0001" / "index.json").write_text(
        (root / "0001" / "index.json").read_text().replace('"version": 2', '"version": 99')
    ),
    "the codec deleted": lambda root: (root / "0001" / "codec.safetensors").unlink(),
    "the codec cut": lambda root: cut(root / "0001" / "codec.safetensors"),
    "the codec garbage": lambda root: (root / "0001" / "codec.safetensors").write_bytes(b"garbage" * 99),
    "the codec with a flipped byte": lambda root: flip(root / "0001" / "codec.safetensors", -5),
    "codes deleted": lambda root: (root / "0001" / "000002.codes").unlink(),
    "codes cut": lambda root: cut(root / "0001" / "000002.codes"),
    "codes empty": lambda root: (root / "0001" / "000002.codes").write_bytes(b""),
    "a byte of the codes flipped": lambda root: flip(root / "0001" / "000002.codes", 77),
    "codes of another shard": lambda root: shutil.copy(root / "0001" / "000001.codes", root / "0001" / "000002.codes"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_mended_by_the_next_search(album: Path, squeezed: Path, hits: Search, what: str) -> None:
    assert len(codes_of(squeezed).record.shards) > 2
    expected = hits(album / "plain", "13", "-k", "5")
    DAMAGE[what](squeezed / "compressed")
    assert not whole(squeezed)
    assert hits(squeezed, "13", "-k", "5") == expected
    assert whole(squeezed)
    assert codes_of(squeezed).codec.name == "fastscan:32"
    assert hits(squeezed, "13", "-k", "5") == expected


@pytest.mark.parametrize("what", ["all of it deleted", "index.json garbage", "a byte of the codes flipped"])
def test_damage_does_not_stop_other_commands(
    in_process: Cli, squeezed: Path, album: Path, tmp_path: Path, hits: Search, what: str
) -> None:
    DAMAGE[what](squeezed / "compressed")
    shutil.copytree(album / "pictures" / "sub", tmp_path / "more")
    for command in (
        ["info"],
        ["verify"],
        ["index", tmp_path / "more"],
        ["remove", album / "pictures" / "03.png"],
        ["compact"],
        ["compress", "--codec", "fastscan:32"],
    ):
        ran = in_process(*command, "-g", squeezed)
        assert (ran.code, ran.err) == (0, ""), ran
    assert whole(squeezed)
    assert hits(squeezed, "13", "-k", "5") == hits(squeezed, "13", "-k", "5", "--exact")


def test_a_gallery_that_may_not_be_written_is_searched_without_its_codes(
    unprivileged: Callable[..., subprocess.CompletedProcess[str]], squeezed: Path, album: Path
) -> None:
    shutil.rmtree(squeezed / "compressed")
    squeezed.chmod(0o555)
    (squeezed / "lock").chmod(0o444)
    try:
        picture = album / "pictures" / "04.png"
        searched = unprivileged("-m", "patchwise", "search", picture, "-g", squeezed, "-f", "-k", "1")
        compressed = unprivileged("-m", "patchwise", "compress", "-g", squeezed)
    finally:
        squeezed.chmod(0o755)
        (squeezed / "lock").chmod(0o644)
    assert (searched.returncode, searched.stdout, searched.stderr) == (0, f"{picture}\n", "")
    assert (compressed.returncode, compressed.stdout) == (1, "")
    assert compressed.stderr == f"patchwise: {squeezed}: cannot be written to (Permission denied)\n"


# No file may grow beyond a limit, so that a write really fails.
LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv[1:] = sys.argv[2:]
from patchwise.cli import main
main()
"""


def test_a_full_disk_leaves_what_was_there(squeezed: Path, album: Path, hits: Search) -> None:
    pytest.importorskip("resource")
    digest, expected = codes_of(squeezed).codec.digest, hits(album / "plain", "13", "-k", "5")
    for codec, what in (("pq:16", "codec.safetensors"), ("Flat", "000001.codes")):
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, "45000", "compress", "-g", squeezed, "--codec", codec],
            capture_output=True,
            text=True,
            env=environment(),
        )
        Ran(done.returncode, done.stdout, done.stderr).complains(1, what, "File too large")
        assert codes_of(squeezed).codec.digest == digest and whole(squeezed)
        assert hits(squeezed, "13", "-k", "5") == expected


# Codes only


@pytest.fixture(scope="module")
def bare_album(album: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The album's gallery with codes only, not to be changed."""
    root = tmp_path_factory.mktemp("bare")
    shutil.copytree(album / "plain", root / "g")
    command = ["compress", "--codes-only", "--yes", "--codec", "fastscan:64", "-g", "g"]
    done = subprocess.run(
        [sys.executable, "-m", "patchwise", *command], cwd=root, env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "64 bytes per region, 320 per image; the fp16 vectors that were deleted took 512 and 2,560" in done.stdout
    return root / "g"


@pytest.fixture
def bare(bare_album: Path, tmp_path: Path) -> Path:
    """A copy of it, to do with as one likes."""
    shutil.copytree(bare_album, tmp_path / "bare")
    return tmp_path / "bare"


def test_codes_only_asks_and_somebody_must_answer(cli: Cli, plain: Path) -> None:
    cli("compress", "--codes-only", "-g", "plain", stdin=b"y\n").complains(
        2, f"plain: with --codes-only the vectors of {REGIONS} regions", "deleted for good", "--yes"
    )
    assert list((plain / "vectors").glob("*.f16")) and not (plain / "compressed").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX shells only")
def test_closed_streams(plain: Path) -> None:
    for redirect, code in (("<&-", 2), ("<&- 2>&-", 2), ("--yes <&- 2>&-", 0)):
        command = f"'{sys.executable}' -m patchwise compress --codes-only --codec fastscan:16 -g plain {redirect}"
        done = subprocess.run(command, shell=True, capture_output=True, cwd=plain.parent, env=environment())
        assert done.returncode == code and b"Traceback" not in done.stderr
        assert bool(list((plain / "vectors").glob("*.f16"))) == bool(code)


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 1), ("nay", 1), ("y", 0), ("YES", 0)])
def test_the_answer_counts(
    in_process: Cli, plain: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return f"{answer}\n"

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    ran = in_process("compress", "--codes-only", "-g", plain, "--codec", "fastscan:64")
    assert ran.code == code and f"plain: the vectors of {REGIONS} regions" in ran.err and "Go on? [y/N] " in ran.err
    assert bool(list((plain / "vectors").glob("*.f16"))) == bool(code)
    assert ("nothing was changed" in ran.err) == bool(code)


def test_codes_only_is_asked_about_once(in_process: Cli, bare: Path) -> None:
    """Where the vectors are gone already there is nothing to ask."""
    ran = in_process("compress", "--codes-only", "-g", bare)
    assert (ran.code, ran.err) == (0, "")
    in_process("compress", "--codec", "pq:8", "-g", bare).complains(1, "keeps only codes of fastscan:64", "pq:8")


def test_everything_works_with_codes_only(
    in_process: Cli, bare: Path, album: Path, tmp_path: Path, picture: Callable[..., Image.Image], hits: Search
) -> None:
    assert not list(bare.glob("vectors/*.f16")) and list(bare.glob("vectors/*.codes"))
    for query in ("00", "21", "sub/39"):
        found = hits(bare, query, "-k", "4")
        assert found == hits(bare, query, "-k", "4", "--exact")
        assert found[0]["path"] == str(album / "pictures" / f"{query}.png") and found[0]["score"] > 0.9
    with Gallery.open(bare) as opened:
        explanation = opened.explain(album / "pictures" / "21.png", album / "pictures" / "21.png")
        assert max(region.score for region in explanation.regions) == pytest.approx(
            hits(bare, "21", "-k", "1")[0]["score"], abs=1e-6
        )
    (tmp_path / "new").mkdir()
    picture(200).save(tmp_path / "new" / "200.png")
    for command in (
        ["index", tmp_path / "new"],
        ["verify"],
        ["remove", album / "pictures" / "05.png"],
        ["compact"],
        ["verify"],
        ["info"],
        ["compress"],
    ):
        ran = in_process(*command, "-g", bare)
        assert (ran.code, ran.err) == (0, ""), ran
    assert hits(bare, tmp_path / "new" / "200.png", "-k", "1")[0]["path"] == str(tmp_path / "new" / "200.png")
    assert str(album / "pictures" / "05.png") not in {hit["path"] for hit in hits(bare, "05", "-k", "99")}
    page = in_process("search", album / "pictures" / "09.png", "-g", bare, "--html", tmp_path / "page.html", "-k", "2")
    assert page.code == 0 and (tmp_path / "page.html").read_text().count("data:image/png;base64,") == 2


def test_lost_margins_of_codes_only_are_measured_again(bare: Path, hits: Search) -> None:
    expected = hits(bare, "21", "-k", "4", "--exact")
    shutil.rmtree(bare / "compressed")
    assert hits(bare, "21", "-k", "4") == expected
    assert (bare / "compressed" / "current.json").exists()


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--codec", "nonsense:9"], ["codec 'nonsense:9'", "fastscan:BYTES", "auto"]),
        (["--codec", "Nonsense"], ["codec Nonsense", "256-d"]),
        (["--codec", ""], ["codec ''", "expected auto"]),
        (["--codec", "pq:0"], ["codec 'pq:0'", "at least 1 byte"]),
        (["--codec", "pq:4096"], ["codec pq:4096", "256 dimensions", "at most pq:256"]),
        (["--codec", "fastscan:129"], ["codec fastscan:129", "at most fastscan:128"]),
        (["--train", "nonsense"], ["training set 'nonsense'", "random", "queries:FILE"]),
        (["--train", "queries"], ["training set 'queries'"]),
        (["--train", "queries:none.csv"], ["none.csv", "cannot be read"]),
    ],
)
def test_wrong_usage(in_process: Cli, album: Path, arguments: list[str], parts: list[str]) -> None:
    in_process("compress", *arguments, "-g", album / "plain").complains(2, *parts)
    assert not (album / "plain" / "compressed").exists()


def test_fewer_than_two_images(in_process: Cli, album: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for count in (0, 1):
        if count:
            shutil.copy(album / "pictures" / "00.png", tmp_path / "one" / "a.png")
        in_process("index", "one", "-g", "small", "--regions", "whole")
        in_process("compress", "-g", "small").complains(2, f"small: holds {count} images", "index some")
    shutil.copy(album / "pictures" / "01.png", tmp_path / "one" / "b.png")
    assert in_process("index", "one", "-g", "small").code == 0
    assert in_process("compress", "-g", "small").code == 0
    ran = in_process("search", "one/b.png", "-g", "small", "-f", "-k", "1")
    assert (ran.code, ran.out) == (0, f"{tmp_path}/one/b.png\n")


def test_no_gallery(in_process: Cli) -> None:
    in_process("compress").complains(1, ".patchwise: no gallery here", "patchwise index FOLDER")
    in_process("compress", "--codes-only").complains(1, ".patchwise: no gallery here")


# Interrupted

# The command line, stopped by a signal at the n-th step of a stage.
STOPPED = """
import os, signal, sys
from contextlib import contextmanager
from patchwise.cli import compress, main
stage, step, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]

@contextmanager
def stopping(first):
    steps = 0
    def advance(what, done, total):
        nonlocal steps
        steps += what == stage
        if what == stage and steps == step:
            os.kill(os.getpid(), getattr(signal, name))
    yield advance

compress.progress_bars = stopping
sys.argv[1:] = sys.argv[4:]
main()
"""
MOMENTS = [("training", 1), ("training", 2), ("encoding", 2), ("measuring", 1), ("measuring", 4)]


def stopped(how: str, stage: str, step: int, *arguments: object) -> Ran:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, stage, str(step), how, "compress", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(params=["compressed before", "not compressed before"])
def before(request: pytest.FixtureRequest, squeezed: Path, plain: Path) -> Iterator[Path]:
    return squeezed if request.param == "compressed before" else plain


def vectors_of(gallery: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (gallery / "vectors").iterdir()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_stopped_anywhere_it_searches_as_before_and_compresses_again(
    in_process: Cli, before: Path, hits: Search, how: str
) -> None:
    expected, vectors = hits(before, "13", "-k", "5", "--exact"), vectors_of(before)
    codec = Codes.open(before, DIMENSION)
    for stage, step in MOMENTS:
        ran = stopped(how, stage, step, "-g", before, "--codec", "fastscan:16", "--codes-only", "--yes")
        assert ran.out == ""
        if how == "SIGINT":
            assert (ran.code, ran.err) == (130, "interrupted; the gallery is as it was\n")
        else:
            assert ran.code == -signal.SIGKILL
        assert vectors_of(before) == vectors
        now = Codes.open(before, DIMENSION)
        assert (now is None) == (codec is None) and (now is None or now.codec.digest == codec.codec.digest)  # type: ignore[union-attr]
        assert hits(before, "13", "-k", "5") == expected
    assert in_process("compress", "-g", before, "--codec", "fastscan:16").code == 0
    assert whole(before) and codes_of(before).codec.name == "fastscan:16"
    assert len(list((before / "compressed").iterdir())) == 2  # nothing is left of those that were stopped
    assert hits(before, "13", "-k", "5") == expected


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_stopped_while_vectors_go_it_goes_on_where_it_stopped(
    in_process: Cli, plain: Path, hits: Search, how: str
) -> None:
    for number, step in enumerate((3, 1, 3)):
        ran = stopped(how, "dropping vectors", step, "-g", plain, "--codec", "fastscan:64", "--codes-only", "--yes")
        if how == "SIGINT":
            assert ran.code == 130 and ran.err.startswith("interrupted; ")
            assert ("Run the same command again" in ran.err) == (number != 1)  # then not one shard was done
        assert in_process("verify", "-g", plain).code == 0
        found = hits(plain, "13", "-k", "5")
        assert found == hits(plain, "13", "-k", "5", "--exact") and found[0]["path"].endswith("13.png")
    left = len(list(plain.glob("vectors/*.f16")))
    assert left and list(plain.glob("vectors/*.codes"))
    assert in_process("compress", "-g", plain, "--codec", "fastscan:64", "--codes-only", "--yes").code == 0
    assert not list(plain.glob("vectors/*.f16"))
    assert hits(plain, "13", "-k", "5") == hits(plain, "13", "-k", "5", "--exact")
    assert in_process("verify", "-g", plain).code == 0
