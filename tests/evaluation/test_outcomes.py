"""Outcomes: impossible ones are refused, and where an object lies is measured from the ground truth alone."""

from __future__ import annotations

import pytest

from patchwise.errors import UsageError
from patchwise.evaluation.outcomes import Found, Missed, QueryOutcome, placement


def found(rank: int, last_rank: int | None = None) -> Found:
    return Found(f"{rank}.jpg", rank, rank if last_rank is None else last_rank, 0.5, None, None, None, None)


@pytest.mark.parametrize(
    ("positives", "hits", "missed", "said"),
    [
        (0, [], [], "0 positives"),
        (1, [found(1), found(2)], [], "2 of them are listed"),
        (1, [found(1)], [Missed("m", None, None)], "2 of them are listed"),
        (3, [found(1)], [Missed("m", None, None)], "only 2 are found or missed"),
        (2, [found(2), found(1)], [], "ranks must rise"),
        (2, [found(1), found(1)], [], "ranks must rise"),
        (1, [found(0)], [], "ranks must rise"),
        (1, [found(2, last_rank=1)], [], "last_rank be no smaller"),
    ],
)
def test_impossible_outcomes_are_refused(positives: int, hits: list[Found], missed: list[Missed], said: str) -> None:
    with pytest.raises(UsageError, match=f"query q: .*{said}"):
        QueryOutcome("q", "", positives, hits, missed)


def test_missed_positives_may_be_left_unlisted() -> None:
    assert QueryOutcome("q", "", 5, [found(1), found(3, last_rank=9)]).missed == ()


def test_placement_is_share_and_distance_in_half_diagonals() -> None:
    assert placement([(0, 0, 200, 100)], (200, 100)) == (1.0, 0.0)
    share, distance = placement([(0, 0, 20, 10)], (200, 100))
    assert share == pytest.approx(0.01)
    assert distance == pytest.approx(0.9)  # from the centre nine tenths of the way to the corner
    # 3-4-5: the centre lies (30, 40) off (50, 50), and half the diagonal of 100 x 100 is 70.71.
    assert placement([(79, 89, 81, 91)], (100, 100))[1] == pytest.approx(50 / 70.7107, abs=1e-5)


def test_placement_is_of_the_largest_box() -> None:
    assert placement([(0, 0, 5, 5), (0, 0, 100, 50)], (100, 100)) == (0.5, pytest.approx(25 / 70.7107, abs=1e-5))
    assert placement([], (100, 100)) == (None, None)
