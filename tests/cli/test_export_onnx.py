"""patchwise export-onnx: one line of result, one of advice, and a file that finds what the backbone finds."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest

from .conftest import Cli

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from encoders.hf_checkpoints import write_checkpoint

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return write_checkpoint("dinov2", tmp_path_factory.mktemp("hf") / "dinov2")


@pytest.mark.slow
def test_nothing_but_its_own_words_reaches_the_terminal(cli: Cli, checkpoint: Path, tmp_path: Path) -> None:
    ran = cli("export-onnx", f"hf:{checkpoint}", "net.onnx")
    size = (tmp_path / "net.onnx").stat().st_size / 2**20
    first, second = ran.out.splitlines()
    assert first == f"net.onnx: {size:,.1f} MiB, 32-d, 42 x 42 pixels"
    found = re.fullmatch(r"against (.*): largest difference (\S+), smallest cosine (\d\.\d{6})", second)
    assert found is not None, second
    assert found[1] == f"hf:{checkpoint}" and float(found[2]) <= 1e-3 and float(found[3]) > 0.999
    assert (ran.code, ran.err) == (0, "use it with: --encoder onnx:net.onnx\n")


def test_json_and_the_same_hits_as_before(in_process: Cli, checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    ran = in_process("export-onnx", f"hf:{checkpoint},size=56", "some/net.onnx", "--json")
    assert (ran.code, ran.err) == (0, "")
    answer = json.loads(ran.out)
    assert set(answer) == {
        "path", "encoder", "dimension", "input_size", "bytes", "largest_difference", "smallest_cosine"
    }  # fmt: skip
    assert answer["path"] == "some/net.onnx" and answer["encoder"] == f"hf:{checkpoint},size=56"
    hits = []
    for gallery, encoder in (("torch.pw", answer["encoder"]), ("onnx.pw", "onnx:some/net.onnx")):
        ran = in_process("index", pictures, "-g", gallery, "--encoder", encoder, "--regions", "pyramid:1")
        assert ran.code == 0, ran
        found = json.loads(in_process("search", pictures / "3.png", "-g", gallery, "--json").out)["hits"]
        hits.append([(hit["path"], hit["box"], pytest.approx(hit["score"], abs=2e-3)) for hit in found])
    assert len(hits[0]) == 5
    assert [hit[:2] for hit in hits[1]] == [hit[:2] for hit in hits[0]]
    assert [hit[2].expected for hit in hits[1]] == [hit[2] for hit in hits[0]]


def test_what_is_there_stays_unless_forced(in_process: Cli, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("something dear")
    ran = in_process("export-onnx", f"hf:{checkpoint}", "net.onnx")
    ran.complains(2, "net.onnx: is there already", "--force")
    assert (tmp_path / "net.onnx").read_text() == "something dear"
    assert in_process("export-onnx", f"hf:{checkpoint}", "net.onnx", "--force", "--json").code == 0
    assert in_process("encoders").code == 0
    in_process("export-onnx", "onnx:net.onnx", "other.onnx").complains(1, "needs no export")


def test_interrupted_it_writes_nothing(
    in_process: Cli, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("patchwise.encoders.export._compare", interrupt)
    ran = in_process("export-onnx", f"hf:{checkpoint}", "net.onnx")
    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("encoder", "file", "code", "message"),
    [
        ("builtin", "net.onnx", 1, "encoder builtin: runs on onnxruntime as it is"),
        ("builtin", "net.pt", 2, "net.pt: the name of an ONNX file ends in .onnx"),
        ("hf:nowhere/at all", "net.onnx", 1, "hf:nowhere/at all"),
        ("hf:./nothing", "net.onnx", 1, "nothing: no such folder"),
        ("hf:./nothing,encode=dense", "net.onnx", 1, "leave encode=dense out"),
    ],
)
def test_complaints(
    encoder: str, file: str, code: int, message: str, in_process: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_process("export-onnx", encoder, file).complains(code, message)
    assert list(tmp_path.iterdir()) == []
