"""Checkpoints from a hub: the cache first, one download of what is needed, and a way out where neither helps."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.fake_hub import COMMIT, OLDER, FakeHub, lay_out, serving
from patchwise.encoders.hub import checkpoint, is_cached
from patchwise.encoders.spec import EncoderSpec
from patchwise.errors import EncoderError

huggingface_hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import constants  # noqa: E402

WHOLE = {"config.json": b"{}", "model.safetensors": b"weights"}
INDEX = json.dumps({"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}).encode()
SHARDS = {"model-1-of-2.safetensors": b"one", "model-2-of-2.safetensors": b"two"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network: whoever asks for one fails the test."""

    def connect(*arguments: object) -> None:
        raise AssertionError(f"asked the network for {arguments[1:]}")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    return tmp_path / "hub"


def found(reference: str, **arguments: Any) -> Any:
    return checkpoint(EncoderSpec.parse(f"hf:{reference}"), **arguments)


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    local = found(str(tmp_path))
    assert local.folder == tmp_path
    assert str(local.spec) == f"hf:{tmp_path}"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no such folder"):
        found(str(tmp_path / "none"))


def test_the_latest_commit_that_the_cache_knows(cache: Path) -> None:
    lay_out(cache, "owner/name", WHOLE, OLDER, reference=None)
    folder = lay_out(cache, "owner/name", WHOLE)
    latest = found("owner/name,size=64")
    assert latest.folder == folder
    assert str(latest.spec) == f"hf:owner/name@{COMMIT},size=64"


@pytest.mark.parametrize("revision", [OLDER, "v1", "refs/pr/3"])
def test_the_commit_that_is_named(revision: str, cache: Path) -> None:
    lay_out(cache, "owner/name", WHOLE)
    older = lay_out(cache, "owner/name", WHOLE, OLDER, reference=None if revision == OLDER else revision)
    pinned = found(f"owner/name@{revision}")
    assert pinned.folder == older
    assert pinned.spec.reference == f"owner/name@{OLDER}"
    assert found(pinned.spec.reference).folder == older


def test_a_name_that_stands_for_a_repository(cache: Path) -> None:
    folder = lay_out(cache, "timm/vit", WHOLE)
    standing = checkpoint(EncoderSpec.parse("timm:vit.tag"), "timm/vit")
    assert standing.folder == folder
    assert standing.spec.reference == f"vit.tag@{COMMIT}"


def test_configuration_alone_where_no_weights_are_asked_for(cache: Path) -> None:
    folder = lay_out(cache, "owner/name", {"config.json": b"{}"})
    assert found("owner/name", weights=()).folder == folder


@pytest.mark.parametrize(
    ("files", "whole"),
    [
        (WHOLE, True),
        ({"model.onnx": b"network"}, True),
        ({"onnx/model.onnx": b"network"}, True),
        ({"model.safetensors.index.json": INDEX, **SHARDS}, True),
        ({**WHOLE, "model.safetensors.index.json": INDEX}, True),
        ({"model.safetensors.index.json": INDEX, "model-1-of-2.safetensors": b"one"}, False),
        ({"model.safetensors.index.json": b"{", **SHARDS}, False),
        ({"config.json": b"{}"}, False),
        ({"config.json": b"{}", "pytorch_model.bin": b"pickled"}, False),
        ({"model.safetensors": b""}, False),
        ({"unet/model.safetensors": b"a part of something else"}, False),
    ],
)
def test_weights_are_here_or_not(files: dict[str, bytes], whole: bool, cache: Path) -> None:
    assert not is_cached("owner/name")
    lay_out(cache, "owner/name", files)
    assert is_cached("owner/name") is whole
    assert is_cached(f"owner/name@{COMMIT}") is whole
    assert not is_cached(f"owner/name@{OLDER}")
    assert not is_cached("owner/other")


def test_a_link_to_weights_that_were_deleted(cache: Path) -> None:
    folder = lay_out(cache, "owner/name", WHOLE)
    (folder / "model.safetensors").resolve().unlink()
    assert not is_cached("owner/name")


def test_a_commit_without_a_name_is_not_what_its_name_alone_loads(cache: Path) -> None:
    lay_out(cache, "owner/name", WHOLE, reference=None)
    assert is_cached(f"owner/name@{COMMIT}")
    assert not is_cached("owner/name")


@pytest.mark.parametrize("reference", ["../secret", "owner/../..", "owner/name@../../../secret"])
def test_names_do_not_lead_out_of_the_cache(reference: str, cache: Path) -> None:
    lay_out(cache, "owner/name", WHOLE)
    secret = cache.parent / "secret"
    secret.mkdir()
    (secret / "model.safetensors").write_bytes(b"weights")
    assert not is_cached(reference)


def test_an_encoder_comes_from_the_cache_pinned_and_again_without_a_network(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from encoders.hf_checkpoints import write_checkpoint
    from patchwise.encoders import load_encoder, same_encoder

    written = write_checkpoint("dinov2", tmp_path / "written")
    lay_out(cache, "owner/name", {file.name: file.read_bytes() for file in written.iterdir()})
    encoder = load_encoder("hf:owner/name,pooling=mean", device="cpu")
    assert encoder.id == f"hf:owner/name@{COMMIT},pooling=mean"
    assert same_encoder("hf:owner/name,pooling=mean", encoder.id)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (cache / "models--owner--name" / "refs" / "main").unlink()
    again = load_encoder(encoder.id, device="cpu")
    assert (again.id, again.weights_sha256) == (encoder.id, encoder.weights_sha256)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 42, 42, 3), dtype=np.uint8)
    np.testing.assert_array_equal(again.encode(pixels), encoder.encode(pixels))
    local = load_encoder(f"hf:{written},pooling=mean", device="cpu")
    assert local.weights_sha256 == encoder.weights_sha256


def test_an_interrupted_download_is_not_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(cache, "owner/name", {"model.safetensors": b"weights"})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert found("owner/name").folder.is_dir()
    with pytest.raises(EncoderError, match="Three ways out"):
        found("owner/name", needed=("config.json",))


@pytest.mark.parametrize("there", ["preprocessor_config.json", "processor_config.json"])
def test_one_of_several_files_is_enough(there: str, cache: Path) -> None:
    folder = lay_out(cache, "owner/name", {**WHOLE, there: b"{}"})
    assert found("owner/name", needed=("config.json", "preprocessor_config.json|p*r_config.json")).folder == folder


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("hf:owner/name", "its config.json and its preprocessor_config.json or processor_config.json cannot be found"),
        ("timm:owner/name", "its config.json cannot be found"),
        ("open_clip:owner/name", "its open_clip_config.json cannot be found"),
    ],
)
def test_bare_weights_in_a_cache(name: str, lacks: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from patchwise.encoders import load_encoder

    pytest.importorskip({"hf": "transformers", "timm": "timm", "open_clip": "open_clip"}[name.partition(":")[0]])
    lay_out(cache, "owner/name", {"model.safetensors": b"weights", "open_clip_model.safetensors": b"weights"})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        EncoderError, match=f"{lacks} on this machine, and the hub .*Three ways out.*{COMMIT}"
    ) as caught:
        load_encoder(name, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "refuses", "says"),
    [
        ("owner/name", (403, "GatedRepo"), r"accept a licence first\. Open http.*/owner/name, .*hf auth login"),
        ("owner/name", (401, "RepoNotFound"), r"the hub knows no 'owner/name', or keeps it private"),
        ("owner/other", None, r"the hub knows no 'owner/other'"),
        ("owner/name@v9", None, r"owner/name has no revision 'v9'"),
        ("owner/name", (500, ""), r"the hub cannot be reached .*500.*Three ways out"),
        ("owner name", None, r"'owner name' is neither a folder here nor a name on the hub"),
    ],
)
def test_what_a_hub_refuses(
    reference: str, refuses: tuple[int, str] | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with serving(FakeHub({}, refuses)) as hub, pytest.raises(EncoderError, match=says) as caught:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        found(reference)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("offline", [False, True])
def test_without_a_network(offline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(EncoderError, match="Three ways out") as caught:
            found(f"owner/name@{OLDER}")
    message = str(caught.value)
    assert f"hf download owner/name --revision {OLDER}" in message
    assert "--encoder hf:FOLDER" in message
    assert "--encoder builtin" in message
    assert ("HF_HUB_OFFLINE is set" in message) is offline
    assert "\n" not in message


def test_a_hub_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchwise.encoders.hub._PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(EncoderError, match="the hub cannot be reached"):
            found("owner/name")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written"), (errno.EACCES, "cannot be written")],
)
def test_a_cache_that_cannot_be_written(
    number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(EncoderError, match=says) as caught:
        found("owner/name")
    assert "HF_HOME=FOLDER" in str(caught.value)


# What follows runs in a process of its own, because the hub's package reads its environment once.

ASK = """
import sys
from patchwise.encoders.hub import checkpoint
from patchwise.encoders.spec import EncoderSpec
from patchwise.errors import EncoderError
try:
    found = checkpoint(EncoderSpec.parse(sys.argv[1]), weights=("model.safetensors",), needed=sys.argv[2:])
except EncoderError as error:
    print(error)
else:
    print(found.spec.reference, *sorted(file.name for file in found.folder.iterdir()))
"""


def asking(home: Path, reference: str, *needed: str, **environment: str) -> str:
    return answer(home, ASK, f"hf:{reference}", *needed, **environment)


def answer(home: Path, code: str, *arguments: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**inherited, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.strip()


FILES = {
    "config.json": b'{"model_type": "dinov2"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "pytorch_model.bin": b"pickled",
    "tf_model.h5": b"keras",
    "flax_model.msgpack": b"flax",
    "open_clip_model.safetensors": b"the same again",
    "onnx/model.onnx": b"network",
    "onnx/config.json": b"{}",
    "README.md": b"words",
}
WANTED = ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_download_of_what_is_needed_and_no_second_one(tmp_path: Path) -> None:
    with serving(FakeHub(FILES)) as hub:
        first = asking(tmp_path, "owner/name", HF_ENDPOINT=hub.endpoint)
        assert first == " ".join([f"owner/name@{COMMIT}", *WANTED])
        assert sorted(hub.downloaded) == WANTED
        asking(tmp_path, "owner/name", HF_ENDPOINT=hub.endpoint)
        assert len(hub.downloaded) == len(WANTED)
    # The hub is gone now.
    for reference in ("owner/name", f"owner/name@{COMMIT}"):
        assert asking(tmp_path, reference, HF_ENDPOINT=hub.endpoint) == first
        assert asking(tmp_path, reference, HF_HUB_OFFLINE="1") == first


def test_a_repository_of_other_formats(tmp_path: Path) -> None:
    with serving(FakeHub({"config.json": b"{}", "pytorch_model.bin": b"pickled"})) as hub:
        said = asking(tmp_path, "owner/name", HF_ENDPOINT=hub.endpoint)
        assert "pytorch_model.bin" not in hub.downloaded
    assert f"owner/name has no model.safetensors at {COMMIT}; other formats can run code" in said


def test_an_interrupted_download_goes_on(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "hub", "owner/name", {"config.json": FILES["config.json"]})
    with serving(FakeHub(FILES)) as hub:
        said = asking(tmp_path, "owner/name", HF_ENDPOINT=hub.endpoint)
    assert said == " ".join([f"owner/name@{COMMIT}", *WANTED])
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_small_files_that_a_cache_lacks_come_from_the_hub(tmp_path: Path) -> None:
    """At the commit of the weights, whatever the hub calls the latest; the weights are not fetched again."""
    files = {name: FILES[name] for name in WANTED}
    folder = lay_out(tmp_path / "hub", "owner/name", {"model.safetensors": FILES["model.safetensors"]})
    with serving(FakeHub(files, latest=OLDER)) as hub:
        said = asking(tmp_path, "owner/name", "config.json", HF_ENDPOINT=hub.endpoint)
        assert said == " ".join([f"owner/name@{COMMIT}", *WANTED])
        assert sorted(hub.downloaded) == ["config.json", "tokenizer.json"]
        assert (folder / "config.json").read_bytes() == files["config.json"]
        said = asking(tmp_path, "owner/name", "vocab.txt|vocab.json", HF_ENDPOINT=hub.endpoint)
    assert said == f"encoder hf:owner/name: owner/name has no vocab.txt or vocab.json at {COMMIT}"


READ = """
from patchwise.encoders import load_encoder
encoder = load_encoder("hf:owner/name", device="cpu")
print(encoder.id, *encoder.encode_texts(["a cup"]).shape)
"""


def test_a_tokenizer_that_a_cache_lacks_comes_with_the_first_text(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from encoders.hf_checkpoints import write_checkpoint

    written = write_checkpoint("clip", tmp_path / "written")
    files = {file.name: file.read_bytes() for file in written.iterdir()}
    tokenizer = {name: files.pop(name) for name in ("tokenizer.json", "tokenizer_config.json")}
    lay_out(tmp_path / "hub", "owner/name", files)
    with serving(FakeHub({**files, **tokenizer})) as hub:
        said = answer(tmp_path, READ, HF_ENDPOINT=hub.endpoint)
    assert said == f"hf:owner/name@{COMMIT} 1 24"
    assert sorted(hub.downloaded) == sorted(tokenizer)
