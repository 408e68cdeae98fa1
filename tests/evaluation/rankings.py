"""Outcomes and runs made by hand or from a seed, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from patchwise.evaluation.outcomes import Found, Missed, QueryOutcome, Run

# The poster's worked example: positives at ranks 1, 3, 4 and 7.
POSTER_RANKS = (1, 3, 4, 7)
POSTER_IOU = (0.174, 0.391, 0.533, 0.461)


def found(
    rank: int,
    iou: float | None = 0.5,
    *,
    image: str | None = None,
    last_rank: int | None = None,
    share: float | None = 0.1,
    distance: float | None = 0.2,
) -> Found:
    known = iou is not None
    return Found(
        image=image or f"{rank}.jpg",
        rank=rank,
        last_rank=rank if last_rank is None else last_rank,
        score=1 / rank,
        box=(0.0, 0.0, 10.0, 10.0) if known else None,
        iou=iou,
        object_share=share if known else None,
        centre_distance=distance if known else None,
    )


def outcome(
    hits: Sequence[Found],
    missed: Sequence[Missed] = (),
    query: str = "q",
    group: str = "",
    positives: int | None = None,
) -> QueryOutcome:
    return QueryOutcome(query, group, len(hits) + len(missed) if positives is None else positives, hits, missed)


def run(
    *outcomes: QueryOutcome,
    strategy: str = "pyramid:3",
    benchmark: str = "tiny",
    depth: int | None = None,
    rule: str = "rectangle",
    costs: dict[str, float] | None = None,
) -> Run:
    return Run(benchmark, strategy, {"id": "builtin"}, depth, rule, outcomes, costs or {})


POSTER = run(outcome([found(rank, iou) for rank, iou in zip(POSTER_RANKS, POSTER_IOU, strict=True)]))


def random_run(seed: int, queries: int = 30, quality: float = 0.5, **options: object) -> Run:
    """Plausible outcomes; those of one `seed // 100` have the same positives, whatever their seed and quality."""
    truth, luck = np.random.default_rng(seed // 100), np.random.default_rng(seed)
    outcomes = []
    for number in range(queries):
        count = int(truth.integers(2, 9))
        shares, distances = truth.uniform(0.002, 0.6, count), truth.uniform(0, 0.9, count)
        ranks = np.sort(luck.choice(np.arange(1, 60), count, replace=False))
        order = luck.permutation(count)
        cut = int(luck.integers(1, count + 1))
        hits = [
            found(
                int(rank),
                float(np.clip(luck.beta(2, 2) * 2 * quality, 0, 1)),
                image=f"{number}-{place}.jpg",
                share=float(shares[place]),
                distance=float(distances[place]),
            )
            for rank, place in zip(ranks[:cut], order, strict=False)
        ]
        missed = [
            Missed(f"{number}-{place}.jpg", float(shares[place]), float(distances[place])) for place in order[cut:]
        ]
        outcomes.append(outcome(hits, missed, f"q{number}", f"g{number // 3}"))
    return run(*outcomes, **options)  # type: ignore[arg-type]
