"""What an answer says on the whole, on whichever page."""

from __future__ import annotations

import pytest

from patchwise.search import Hit
from patchwise.server.verdicts import Verdicts, verdict_of


def _hits(*expected: float | None) -> list[Hit]:
    return [
        Hit(rank, f"/{rank}", 0.5, (0, 0, 1, 1), 0, (0, 0), (1, 1), (), expected_false_matches=false)
        for rank, false in enumerate(expected, 1)
    ]


@pytest.mark.parametrize(
    ("expected", "verdict"),
    [((), "no match"), ((None, None), "unknown"), ((9.0, 8.0), "no match"), ((9.0, 0.01), "match")],
)
def test_the_first_hits_decide(expected: tuple[float | None, ...], verdict: str) -> None:
    assert verdict_of(_hits(*expected)) == verdict


def test_a_later_page_says_what_the_first_did_and_does_not_search_again() -> None:
    verdicts = Verdicts()
    assert verdicts.first("a", _hits(0.01)) == "match"
    assert verdicts.first("b", _hits(None)) == "unknown"
    unasked = pytest.fail
    assert verdicts.later("a", _hits(7.0), lambda: unasked("asked again")) == "match"
    assert verdicts.later("b", [], lambda: unasked("asked again")) == "unknown"
    assert verdicts.later("c", _hits(0.01), lambda: unasked("asked again")) == "match"


def test_the_first_page_of_a_link_to_a_later_one_is_looked_at_once() -> None:
    verdicts, asked = Verdicts(), []

    def first_page() -> list[Hit]:
        asked.append(1)
        return _hits(0.01)

    assert [verdicts.later("a", _hits(7.0), first_page) for _ in range(2)] == ["match", "match"]
    assert asked == [1]


def test_few_hits_do_not_unsay_a_match() -> None:
    verdicts = Verdicts()
    verdicts.first("a", _hits(9.0, 0.01))
    assert verdicts.first("a", _hits(9.0)) == "no match"
    assert verdicts.later("a", _hits(9.0), list) == "match"


def test_only_the_last_searches_are_remembered() -> None:
    verdicts = Verdicts()
    for number in range(300):
        verdicts.first(number, _hits(0.01))
    assert verdicts.later(299, [], list) == "match"
    assert verdicts.later(0, [], list) == "no match"
