"""Strategy strings: every name reads back as its strategy, everything else is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchwise.errors import RegionsError
from patchwise.regions import Pyramid, RegionStrategy, SelectiveSearch, Sliding, Whole, parse_regions


@pytest.mark.parametrize(
    "strategy",
    [
        Whole(),
        *map(Pyramid, range(8)),
        Sliding(3, 0.5),
        Sliding(3, 0.25),
        Sliding(7, 1),
        Sliding(0, 1 / 3),
        SelectiveSearch(100),
    ],
    ids=lambda strategy: strategy.name,
)
def test_a_name_reads_back_as_its_strategy(strategy: RegionStrategy) -> None:
    assert parse_regions(strategy.name) == strategy
    assert parse_regions(f"  {strategy.name}\n") == strategy


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("whole", "whole"),
        ("pyramid:0", "pyramid:0"),
        ("pyramid:03", "pyramid:3"),
        ("sliding:03:.50", "sliding:3:0.5"),
        ("sliding:3:1", "sliding:3:1"),
        ("sliding:3:1.000", "sliding:3:1"),
    ],
)
def test_names_are_canonical(text: str, name: str) -> None:
    assert parse_regions(text).name == name


@pytest.mark.parametrize("text", ["", " ", "pyramids:3", "Pyramid:3", "3", ":3", "whole image", "slide:1", "pyramid 3"])
def test_an_unknown_strategy_lists_those_that_are_known(text: str) -> None:
    with pytest.raises(RegionsError) as raised:
        parse_regions(text)
    assert repr(text) in str(raised.value)
    assert "known are" in str(raised.value)
    assert "pyramid" in str(raised.value) and "whole" in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "pyramid",
        *("pyramid:" + level for level in ("", "x", "-1", "1.5", "+2", " 3", "1:2", "8", "99", "²", "1e0", "9" * 5000)),
    ],
    ids=lambda text: text[:12],
)
def test_a_bad_level_says_which_are_good(text: str) -> None:
    with pytest.raises(RegionsError) as raised:
        parse_regions(text)
    message = str(raised.value)
    assert message.startswith("regions ")
    assert text[:12] in message
    assert "0 and 7" in message or len(text) > 4300


@pytest.mark.parametrize(
    "text",
    [
        "sliding",
        *(
            "sliding:" + parameters
            for parameters in ("", "3", "3:", ":0.5", "3:x", "x:0.5", "3:-1", "3:1e-1", "3:0.5:1", "3: 0.5", "²:0.5")
        ),
    ],
)
def test_bad_windows_say_which_are_good(text: str) -> None:
    with pytest.raises(RegionsError, match=r"expected a level between 0 and 7 .* as in sliding:3:0\.5") as raised:
        parse_regions(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    "text", ["proposals", *("proposals:" + rest for rest in ("", "100", "selective", "selective:x", "edges:100"))]
)
def test_bad_proposals_say_which_are_good(text: str) -> None:
    with pytest.raises(RegionsError, match="1 to 1,000, as in proposals:selective:100"):
        parse_regions(text)


def test_a_folder_without_a_detector_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        RegionsError, match=r"config\.json and preprocessor_config\.json and \*\.safetensors missing.*hf d"
    ):
        parse_regions(f"detector:{tmp_path}:100")
    with pytest.raises(RegionsError, match="not a folder with a detector"):
        parse_regions("detector:PekingU/rtdetr_r50vd:100")


@pytest.mark.parametrize("text", ["detector", "detector:", "detector:/d", "detector:/d:x", "detector:/d:"])
def test_a_bad_detector_says_which_is_good(text: str) -> None:
    with pytest.raises(RegionsError, match="as in detector:rtdetr:100"):
        parse_regions(text)


@pytest.mark.parametrize("count", [0, 1001])
def test_a_detector_s_count_out_of_range_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(RegionsError, match="the count must be between 1 and 1,000"):
        parse_regions(f"detector:{tmp_path}:{count}")


def test_whole_takes_no_parameter() -> None:
    with pytest.raises(RegionsError, match="'whole:3': takes no parameter"):
        parse_regions("whole:3")
