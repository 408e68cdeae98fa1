"""Margins by hand-worked values: what is missed falls by equal factors between the recalls that were measured."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.search import Margins

MEASURED = Margins(
    margins=((0.9, 0.1), (0.99, 0.3), (0.999, 0.7)),
    regions=((10, 100), (1000, 10_000)),
    slope=1.1,
    offset=-0.02,
    lists=5,
    factors=((10, 1.0), (1000, 0.5)),
    effort=((0.9, 0.5), (0.99, 1.0), (0.999, 3.0)),
)


@pytest.mark.parametrize(
    ("recall", "margin"),
    [
        (0.9, 0.1),
        (0.99, 0.3),
        (0.999, 0.7),
        (1 - 10**-1.5, 0.2),  # 3.2 % missed lies half-way between 10 % and 1 %
        (1 - 10**-2.25, 0.4),
        (0.5, 0.1),  # less than was measured: as narrow as was measured
        (0.9999, 0.7),
        (1.0, 0.7),
    ],
)
def test_between_recalls(recall: float, margin: float) -> None:
    assert MEASURED.margin(recall, 10) == pytest.approx(margin)
    assert Margins(MEASURED.margins, MEASURED.regions).margin(recall, 77) == pytest.approx(margin)


@pytest.mark.parametrize(("k", "factor"), [(1, 1.0), (10, 1.0), (100, 0.75), (1000, 0.5), (10**6, 0.5)])
def test_between_numbers_of_hits(k: int, factor: float) -> None:
    """100 lies half-way between 10 and 1,000."""
    assert MEASURED.margin(0.99, k) == pytest.approx(0.3 * factor)


@pytest.mark.parametrize(
    ("k", "regions"), [(1, 100), (10, 100), (100, 1000), (1000, 10_000), (2000, 20_000), (5000, 50_000)]
)
def test_regions_to_expect(k: int, regions: int) -> None:
    """Beyond what was measured, in proportion; below it, as many as for the fewest hits."""
    assert MEASURED.expected_regions(0.99, k) == pytest.approx(regions, abs=1)
    assert MEASURED.expected_regions(0.9, k) == pytest.approx(regions / 2, abs=1)
    assert MEASURED.expected_regions(1 - 10**-2.5, k) == pytest.approx(2 * regions, abs=1)
    assert Margins(MEASURED.margins, MEASURED.regions).expected_regions(0.9, k) == pytest.approx(regions, abs=1)


FRACTIONS = st.floats(0.001, 2.0)


@st.composite
def some_margins(draw: st.DrawFn) -> Margins:
    """As calibration makes them: recalls and ks rise, and so do margins, effort and regions."""
    recalls = sorted(draw(st.sets(st.floats(0.05, 0.9995), min_size=1, max_size=5)))
    ks = sorted(draw(st.sets(st.integers(1, 10_000), min_size=1, max_size=4)))
    return Margins(
        margins=tuple(zip(recalls, sorted(draw(FRACTIONS) for _ in recalls), strict=True)),
        regions=tuple(zip(ks, sorted(draw(st.integers(1, 10**7)) for _ in ks), strict=True)),
        slope=draw(FRACTIONS),
        offset=draw(st.floats(-1, 1)),
        lists=draw(st.integers(0, 4096)),
        factors=tuple((k, draw(FRACTIONS)) for k in ks) if draw(st.booleans()) else (),
        effort=tuple(zip(recalls, sorted(draw(FRACTIONS) for _ in recalls), strict=True))
        if draw(st.booleans())
        else (),
    )


@given(some_margins(), st.floats(0.001, 1), st.floats(0.001, 1), st.integers(1, 10**5))
def test_more_recall_never_means_less_margin_or_work(margins: Margins, one: float, other: float, k: int) -> None:
    low, high = sorted((one, other))
    slack = 1 + 1e-9
    assert margins.margin(low, k) <= margins.margin(high, k) * slack
    assert margins.expected_regions(low, k) <= margins.expected_regions(high, k) * slack
    measured = [margin for _, margin in margins.margins]
    factors = [factor for _, factor in margins.factors] or [1.0]
    assert min(measured) * min(factors) / slack <= margins.margin(one, k) <= max(measured) * max(factors) * slack


@given(some_margins(), st.integers(1, 10**5), st.integers(1, 10**5))
def test_more_hits_never_mean_less_work(margins: Margins, one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert margins.expected_regions(0.99, few) <= margins.expected_regions(0.99, many) + 1


@given(some_margins())
def test_json_there_and_back(margins: Margins) -> None:
    assert Margins.from_json(json.loads(json.dumps(margins.as_json()))) == margins


def altered(**values: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(MEASURED.as_json())), **values}


@pytest.mark.parametrize("missing", MEASURED.as_json())
def test_every_part_is_needed(missing: str) -> None:
    content = altered()
    del content[missing]
    with pytest.raises(KeyError):
        Margins.from_json(content)


@pytest.mark.parametrize(
    "content",
    [
        None,
        7,
        "margins",
        [],
        altered(margins=[]),
        altered(regions=[]),
        altered(margins=[[0.9]]),
        altered(margins=[[0.9, 0.1, 2]]),
        altered(margins=[0.9, 0.1]),
        altered(margins={"0.9": 0.1}),
        altered(margins=[["much", "wide"]]),
        altered(margins=None),
        altered(regions=[[10, None]]),
        altered(factors=[[10, "x"]]),
        altered(effort=3),
        altered(slope=[1.0]),
        altered(offset=None),
        altered(lists="all"),
    ],
)
def test_garbage_is_refused(content: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Margins.from_json(content)


def test_the_line_from_code_scores_is_kept() -> None:
    assert math.isclose(Margins.from_json(altered()).slope, 1.1) and Margins.from_json(altered()).offset == -0.02
