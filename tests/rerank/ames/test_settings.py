"""The folder of AMES: what is found by name, what ames.json says, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from patchwise.errors import EncoderError
from patchwise.rerank.ames import AmesSettings, Mixture, read_settings


def folder_of(tmp_path: Path, *names: str, **said: Any) -> Path:
    for name in names:
        (tmp_path / name).touch()
    if said:
        (tmp_path / "ames.json").write_text(json.dumps(said), encoding="utf-8")
    return tmp_path


def test_files_are_found_under_their_public_names(tmp_path: Path) -> None:
    place = folder_of(tmp_path, "dinov2_ames.pt", "dinov2_detector.pt", "itq_dinov2_D128.npz")
    assert read_settings(str(place)) == AmesSettings(place / "dinov2_ames.pt", place / "dinov2_detector.pt", root=place)
    usual = read_settings(str(place))
    assert (usual.query_descriptors, usual.image_descriptors, usual.longer_side) == (600, 50, 770)


def test_all_of_the_public_files_may_lie_there(tmp_path: Path) -> None:
    """A checkpoint is then named itself, and has the detector of its backbone."""
    names = [f"{backbone}_{part}.pt" for backbone in ("dinov2", "cvnet") for part in ("ames", "ames_dist", "detector")]
    place = folder_of(tmp_path, *names)
    with pytest.raises(EncoderError, match=r"holds cvnet_ames\.pt, .*dinov2_ames_dist\.pt; say which: ames:HITS:/"):
        read_settings(str(place))
    for name in ("dinov2_ames", "dinov2_ames_dist"):
        found = read_settings(str(place / f"{name}.pt"))
        assert (found.matcher, found.attention) == (place / f"{name}.pt", place / "dinov2_detector.pt")
    folder_of(tmp_path, matcher="dinov2_ames.pt")
    assert read_settings(str(place)).matcher == place / "dinov2_ames.pt"
    assert read_settings(str(place / "dinov2_ames_dist.pt")).matcher == place / "dinov2_ames_dist.pt"


def test_a_checkpoint_of_any_name_takes_the_only_detector(tmp_path: Path) -> None:
    place = folder_of(tmp_path, "mine.pt", "my_detector.pt")
    assert read_settings(str(place / "mine.pt")).attention == place / "my_detector.pt"


def test_a_place_may_begin_at_home_or_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder_of(tmp_path, "dinov2_ames.pt", "dinov2_detector.pt")
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("USERPROFILE", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path.parent)
    assert read_settings(f"~/{tmp_path.name}") == read_settings(tmp_path.name) == read_settings(str(place))


def test_what_the_settings_say_holds(tmp_path: Path) -> None:
    said = {
        "matcher": "m.pt",
        "attention": "a.pt",
        "backbone": "dinov2-b-reg,precision=fp32",
        "descriptors": "d.hdf5",
        "images": "list.txt",
        "root": "pictures",
        "query_descriptors": 100,
        "image_descriptors": 30,
        "longer_side": 518,
        "lambda": 0.5,
        "gamma": 0.2,
    }
    place = folder_of(tmp_path, "m.pt", "a.pt", "d.hdf5", "list.txt", **said)
    assert read_settings(str(place)) == AmesSettings(
        place / "m.pt",
        place / "a.pt",
        "dinov2-b-reg,precision=fp32",
        100,
        30,
        518,
        Mixture(0.5, 0.2),
        place / "d.hdf5",
        place / "list.txt",
        place / "pictures",
    )


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (None, "hf:{}/backbone"),
        ("hf:other", "hf:{}/other"),
        ("hf:other,precision=fp32", "hf:{}/other,precision=fp32"),
        ("hf:facebook/dinov2-with-registers-base", "hf:facebook/dinov2-with-registers-base"),
        ("dinov2-b-reg", "dinov2-b-reg"),
    ],
)
def test_the_network_that_looks(tmp_path: Path, said: str | None, found: str) -> None:
    (tmp_path / "backbone").mkdir()
    (tmp_path / "other").mkdir()
    folder_of(tmp_path, "dinov2_ames.pt", "dinov2_detector.pt", **({"backbone": said} if said else {}))
    assert read_settings(str(tmp_path)).backbone == found.format(tmp_path)


def test_without_the_attention_only_where_that_is_said(tmp_path: Path) -> None:
    place = folder_of(tmp_path, "dinov2_ames.pt")
    with pytest.raises(EncoderError, match=r'no detector \*detector\*\.pt; .*"attention" in ames\.json.*http'):
        read_settings(str(place))
    folder_of(tmp_path, attention=None)
    assert read_settings(str(place)).attention is None


def test_several_detectors_are_told(tmp_path: Path) -> None:
    place = folder_of(tmp_path, "mine.pt", "a_detector.pt", "b_detector.pt")
    with pytest.raises(EncoderError, match=r"holds a_detector\.pt, b_detector\.pt; the one for mine\.pt is named by"):
        read_settings(str(place / "mine.pt"))


def test_what_is_not_there_is_told_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"none: no such folder or checkpoint; put .* from http.*ames:"):
        read_settings(str(tmp_path / "none"))
    with pytest.raises(EncoderError, match=r"holds no checkpoint \*ames\*\.pt; put dinov2_ames\.pt"):
        read_settings(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", r"ames\.json: cannot be read as JSON"),
        ("\xff", r"ames\.json: cannot be read as JSON"),
        ("[]", r"ames\.json: expected an object with some of matcher, "),
        ('{"detector": "x"}', '"detector": unknown; known are matcher, .*attention'),
        ('{"matcher": 3}', '"matcher": expected a name in quotes, not 3'),
        ('{"matcher": ""}', '"matcher": expected a name in quotes'),
        ('{"backbone": null}', '"backbone": expected a name in quotes, not None'),
        ('{"longer_side": 0}', '"longer_side": expected a whole number above 0, not 0'),
        ('{"image_descriptors": true}', "expected a whole number above 0, not True"),
        ('{"query_descriptors": 2.5}', "expected a whole number above 0, not 2.5"),
        ('{"lambda": 1.5, "gamma": 1}', '"lambda": expected a number from 0 to 1, not 1.5'),
        ('{"lambda": 1, "gamma": -1}', '"gamma": expected a number of at least 0, not -1'),
        ('{"lambda": 0.5}', '"lambda" and "gamma" belong together'),
        ('{"matcher": "none.pt"}', r'"matcher" names .*none\.pt, which is no file'),
        ('{"attention": "none.pt"}', r'"attention" names .*none\.pt, which is no file'),
        ('{"descriptors": "none.hdf5"}', r'"descriptors" names .*none\.hdf5, which is no file'),
    ],
)
def test_settings_that_make_no_sense_are_told(tmp_path: Path, content: str, told: str) -> None:
    folder_of(tmp_path, "dinov2_ames.pt", "dinov2_detector.pt")
    (tmp_path / "ames.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(EncoderError, match=told) as raised:
        read_settings(str(tmp_path))
    assert str(tmp_path / "ames.json") in str(raised.value)
