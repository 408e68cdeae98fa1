"""References: folders of this machine and names on a hub, told apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from patchwise.encoders.references import local_folder, split_revision


@pytest.mark.parametrize(
    ("reference", "name", "revision"),
    [
        ("facebook/dinov2-small", "facebook/dinov2-small", None),
        ("facebook/dinov2-small@4a0f3e1", "facebook/dinov2-small", "4a0f3e1"),
        ("facebook/dinov2-small@refs/pr/3", "facebook/dinov2-small", "refs/pr/3"),
        ("facebook/dinov2-small@", "facebook/dinov2-small@", None),
        ("", "", None),
    ],
)
def test_revisions(reference: str, name: str, revision: str | None) -> None:
    assert split_revision(reference) == (name, revision)


@pytest.mark.parametrize("reference", ["facebook/dinov2-small", "facebook/dinov2-small@main", "vit_tiny", ""])
def test_names_of_something_elsewhere(reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_folder(reference) is None


def test_what_is_there_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facebook" / "dinov2-small").mkdir(parents=True)
    assert local_folder("facebook/dinov2-small") == tmp_path / "facebook" / "dinov2-small"


@pytest.mark.parametrize("reference", ["./none", "../none", "~/none", "/none/at/all"])
def test_what_looks_like_a_path_is_one(reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = local_folder(reference)
    assert found is not None
    assert found == Path(os.path.abspath(os.path.expanduser(reference)))
    assert found.is_absolute()


def test_a_file_is_there_only_for_those_who_take_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet50").touch()
    assert local_folder("resnet50") is None
    assert local_folder("resnet50", Path.exists) == tmp_path / "resnet50"
