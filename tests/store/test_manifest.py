"""The manifest: written in one step, read back as it was, and refused when it cannot be trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from patchwise.errors import GalleryDamaged, GalleryMismatch
from patchwise.store import Manifest
from patchwise.store.manifest import MANIFEST


def test_it_reads_back_as_it_was_written(tmp_path: Path, manifest: Manifest) -> None:
    manifest.write(tmp_path)
    read = Manifest.read(tmp_path)
    assert read == manifest
    assert read.dimension == manifest.encoder["dimension"]
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_writing_replaces_in_one_step(tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest.write(tmp_path)
    before = (tmp_path / MANIFEST).read_bytes()

    def refused(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(OSError):
        Manifest({**manifest.encoder, "dimension": 5}, "whole", "gallery", "later", "9").write(tmp_path)
    assert (tmp_path / MANIFEST).read_bytes() == before


def test_a_newer_format_is_refused_with_the_upgrade(tmp_path: Path, manifest: Manifest) -> None:
    manifest.write(tmp_path)
    content = json.loads((tmp_path / MANIFEST).read_text())
    content.update(version=2, patchwise="7.0.0")
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(GalleryMismatch, match=r"7\.0\.0") as raised:
        Manifest.read(tmp_path)
    assert "pip install -U patchwise" in str(raised.value)


def without(key: str) -> Any:
    def change(content: dict[str, Any]) -> dict[str, Any]:
        del content[key]
        return content

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(without(key) for key in ("format", "version", "encoder", "regions", "whitening", "created", "patchwise")),
        lambda content: {**content, "format": "something else"},
        lambda content: {**content, "version": "one"},
        lambda content: {**content, "encoder": "builtin"},
        lambda content: {**content, "encoder": {**content["encoder"], "dimension": 0}},
        lambda content: {**content, "encoder": {**content["encoder"], "dimension": "256"}},
        lambda content: {**content, "encoder": {"id": "builtin"}},
        lambda content: [content],
        lambda content: None,
    ],
)
def test_a_manifest_that_says_too_little_is_damage(tmp_path: Path, manifest: Manifest, change: Any) -> None:
    manifest.write(tmp_path)
    content = change(json.loads((tmp_path / MANIFEST).read_text()))
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(GalleryDamaged, match=r"manifest\.json: not a readable manifest") as raised:
        Manifest.read(tmp_path)
    assert f"delete {tmp_path} and index again" in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"\x00" * 512])
def test_a_garbled_manifest_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(GalleryDamaged):
        Manifest.read(tmp_path)


def test_a_missing_manifest_is_damage(tmp_path: Path) -> None:
    with pytest.raises(GalleryDamaged):
        Manifest.read(tmp_path)


def test_keys_it_does_not_know_are_ignored(tmp_path: Path, manifest: Manifest) -> None:
    """Fields that a later patchwise adds without changing the format do not lock this one out."""
    manifest.write(tmp_path)
    content = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**content, "note": "mine"}))
    assert Manifest.read(tmp_path) == manifest
