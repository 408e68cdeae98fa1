"""What the page says of a hit."""

from __future__ import annotations

import pytest

from patchwise.report.text import by_chance

from .conftest import Call


@pytest.mark.parametrize("expected", [0.049, 3.2e-5, 0.5, 1.0, 9.4, 9.5, 123.4])
def test_chance_is_as_the_report_says(call: Call, expected: float) -> None:
    assert float(call("verdict.js", "byChance", expected)) == float(by_chance(expected))


@pytest.mark.parametrize(("expected", "said"), [(1e-9, "<1e-6"), (None, "?"), (3.2e-5, "0.00003")])
def test_chance_at_its_ends(call: Call, expected: float | None, said: str) -> None:
    assert call("verdict.js", "byChance", expected) == said


@pytest.mark.parametrize(
    ("hit", "kind", "detail"),
    [
        ({"matches": True, "expected_false_matches": 0.002}, "match", "0.002 as good expected by chance"),
        ({"matches": False, "expected_false_matches": 3.3}, "chance", "3 as good expected by chance"),
        (
            {"matches": True, "expected_false_matches": 5, "geometry": {"verdict": "verified", "inliers": 31}},
            "match",
            "verified by 31 points",
        ),
        (
            {"matches": None, "expected_false_matches": None},
            "unknown",
            "too few images here to tell a match from chance",
        ),
    ],
)
def test_verdicts(call: Call, hit: dict[str, object], kind: str, detail: str) -> None:
    found = call("verdict.js", "verdictOf", hit)
    assert (found["kind"], found["detail"]) == (kind, detail)
    assert "%" not in found["word"] + found["detail"]
