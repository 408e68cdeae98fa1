"""Second looks one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from patchwise.rerank import Question, chain, renumbered
from patchwise.search import Hit

QUESTION = Question(np.zeros(4, dtype=np.float32))


def hit(number: int, score: float) -> Hit:
    return Hit(number, f"/{number}.jpg", score, (0, 0, 9, 9), 0, (0, 0), (9, 9), ())


class Plus:
    """Adds to the scores of even hits."""

    depth = 3

    def __init__(self, name: str, more: float) -> None:
        self.name, self.more, self.asked = name, more, [QUESTION][:0]

    def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        self.asked.append(question)
        even = [int(hit.path[1]) % 2 == 0 for hit in hits]
        changed = [replace(hit, score=hit.score + self.more * is_even) for hit, is_even in zip(hits, even, strict=True)]
        return sorted(changed, key=lambda hit: -hit.score)


def test_each_looks_at_what_the_one_before_left() -> None:
    hits = [hit(1, 0.9), hit(2, 0.8), hit(3, 0.7), hit(4, 0.6)]
    looks = [Plus("first", 0.2), Plus("second", 0.2)]
    found = chain(looks, QUESTION, hits)
    assert [(one.path, one.rank, round(one.score, 6)) for one in found] == [
        ("/2.jpg", 1, 1.2),
        ("/4.jpg", 2, 1.0),
        ("/1.jpg", 3, 0.9),
        ("/3.jpg", 4, 0.7),
    ]
    assert [look.asked for look in looks] == [[QUESTION]] * 2
    assert chain([], QUESTION, hits) == hits


def test_ranks_follow_the_order() -> None:
    assert [one.rank for one in renumbered([hit(9, 0.1), hit(3, 0.2)], first=5)] == [5, 6]
