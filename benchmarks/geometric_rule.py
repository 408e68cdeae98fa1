"""How much is a verified projection worth beside the score of a region?

The rule of `patchwise.rerank.geometric.evidence` ranks by -log(1 - score) + WEIGHT * evidence. WEIGHT is learned here
from the synthetic benchmark and the subjects, and on nothing else: a logistic model of which of two of the first hits
of a query shows its object, from the differences of both terms, without an intercept; every query counts the same.
Chance verifications are so rare that few are seen, so those that the test allows for are put in: each hit that shows
something else counts, with the probability that its evidence may be that high by chance, as one that has it. Some
subjects were photographed before the same walls, which the queries show too: geometry is right there and the label is
not about it, so pairs of these are left out. Each source is also judged by a rule that was learned from the other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from common import DATA, SEED, report
from patchwise import Gallery
from patchwise.errors import GalleryNotFound
from patchwise.evaluation import average_precision
from patchwise.evaluation.datasets import read_benchmark
from patchwise.images import read_picture
from patchwise.rerank.geometric import Sift, projections
from patchwise.rerank.geometric.evidence import MOST_EVIDENCE, VERIFIED, WEIGHT, evidence
from patchwise.store.remembered import RememberedArrays

SOURCES = {"synthetic": ("synthetic", None), "subjects": ("folders", "subjects")}
SAME_WALLS = {"colorful_sneaker", "fancy_boot", "grey_sloth_plushie", "poop_emoji"}  # behind these subjects
DEPTH = 50
CHANCE_STEPS = np.arange(-VERIFIED + 0.5, MOST_EVIDENCE, 1.0)
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Asked:
    """One query's first hits: (N,) scores, log10 of false alarms, whether each shows the object; and how many do."""

    scores: Values
    log_alarms: Values
    positive: npt.NDArray[np.bool_]
    positives: int

    @property
    def closeness(self) -> Values:
        return -np.log(1 - self.scores)

    @property
    def evidence(self) -> Values:
        return np.array([evidence(each) for each in self.log_alarms])

    def average_precision(self, weight: float) -> float:
        order = np.argsort(-(self.closeness + weight * self.evidence), kind="stable")
        return average_precision(self.positive[order], self.positives)


def ask(name: str, data: Path, cache: Path, queries: int) -> list[Asked]:
    """The first hits of some queries of a benchmark, and what geometry says of them."""
    reader, folder = SOURCES[name]
    benchmark = read_benchmark(reader, None if folder is None else data / folder, progress=print)
    try:
        gallery = Gallery.open(cache / f"{name}.pw")
    except GalleryNotFound:
        gallery = Gallery.create(cache / f"{name}.pw", encoder="builtin", regions="pyramid:3")
    sift, root = Sift(), os.path.join(os.path.abspath(benchmark.root), "")
    with gallery:
        gallery.add_listed(benchmark.root, benchmark.image_ids)
        remembered = RememberedArrays(gallery._store.folder, gallery._store.catalogue)

        def seen(path: str) -> object:
            return remembered(path, f"rule {sift.id}", lambda: sift.found(read_picture(Path(path)).pixels))

        usable = [query for query in benchmark.queries if query.positives]
        chosen = np.random.default_rng(SEED).permutation(len(usable))[:queries]
        asked = []
        for query in (usable[number] for number in chosen):
            own = read_picture(query.image).pixels
            own = own if query.box is None else own.crop(tuple(round(edge) for edge in query.box))
            keypoints = sift.keypoints(sift.found(own))
            rows = []
            for hit in gallery.search(query.image, box=query.box, k=DEPTH + len(query.ignored)):
                if (image := hit.path.removeprefix(root)) in query.ignored or same_walls(query.id, image):
                    continue
                found = projections(keypoints, sift.keypoints(seen(hit.path)), own.size, hit.size, significant=VERIFIED)
                rows.append((hit.score, found[0].log_alarms if found else np.inf, image in query.positives))
            scores, log_alarms, positive = (np.array(column) for column in zip(*rows, strict=True))
            asked.append(Asked(scores, log_alarms, positive, len(query.positives)))
    return asked


def same_walls(one: str, other: str) -> bool:
    subjects = {name.split("/")[0] for name in (one, other)}
    return len(subjects) == 2 and subjects <= SAME_WALLS


def learn(asked: list[Asked]) -> float:
    """The weight of evidence, where that of closeness is 1."""
    differences, weights = [], []
    for query in asked:
        closeness, strength = query.closeness, query.evidence
        allowed = 10.0 ** -(CHANCE_STEPS - 0.5) - 10.0 ** -(CHANCE_STEPS + 0.5)
        pairs, counts = [], []
        for wrong in np.flatnonzero(~query.positive):
            for right in np.flatnonzero(query.positive):
                nearer = closeness[right] - closeness[wrong]
                of_chance = np.concatenate([[strength[wrong]], CHANCE_STEPS])
                pairs.append(np.stack([np.full(len(of_chance), nearer), strength[right] - of_chance], axis=1))
                counts.append(np.concatenate([[1 - allowed.sum()], allowed]))
        if pairs:
            differences.append(np.concatenate(pairs))
            weights.append(np.concatenate(counts) / np.sum(counts))
    rows, counts = np.concatenate(differences), np.concatenate(weights)
    # Both orders of each pair, so that there are two classes.
    model = LogisticRegression(C=1e6, fit_intercept=False, max_iter=1000)
    model.fit(
        np.concatenate([rows, -rows]), np.repeat([1, 0], len(rows)), sample_weight=np.concatenate([counts, counts])
    )
    of_closeness, of_evidence = model.coef_[0]
    if of_closeness <= 0:
        raise SystemExit("the score of a region does not tell hits apart: nothing can be learned")
    return float(of_evidence / of_closeness)


def mean_average_precision(asked: list[Asked], weight: float) -> float:
    return 100 * float(np.mean([query.average_precision(weight) for query in asked]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cache", type=Path, help="folder for galleries (default: a temporary one)")
    parser.add_argument("--queries", type=int, default=48, help="of each source")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        asked = {name: ask(name, options.data, cache, options.queries) for name in SOURCES}
    every = [query for queries in asked.values() for query in queries]
    weights = {name: learn(queries) for name, queries in asked.items()} | {"both": learn(every)}
    first, second = SOURCES
    rows, maps = [], {}
    for name, other in ((first, second), (second, first)):
        found = {
            "score": mean_average_precision(asked[name], 0),
            "learned from the other": mean_average_precision(asked[name], weights[other]),
            "learned from both": mean_average_precision(asked[name], weights["both"]),
            "in use": mean_average_precision(asked[name], WEIGHT),
        }
        maps[name] = found
        rows.append([name, len(asked[name]), f"{weights[name]:.3f}", *(f"{each:.1f}" for each in found.values())])
    report(
        "geometric_rule",
        f"Learned from both: WEIGHT = {weights['both']:.3f}; in use: {WEIGHT}. mAP of the first {DEPTH} hits.",
        ["source", "queries", "weight from it", "score alone", "weight from the other", "from both", "in use"],
        rows,
        weights=weights,
        mean_average_precision=maps,
    )


if __name__ == "__main__":
    main()
