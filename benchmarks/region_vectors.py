"""Synthetic region vectors: as many as a benchmark needs, and about as hard to compress as those of photographs.

Synthetic clustered unit vectors. An image has a theme and shows a few objects; themes and objects are shared between
images, some popular and most rare; a region is its image's theme, one of its objects, more or less of it, and
something of its own. Run as a script, this measures what decides how many images a compressed search has to score
again, on these vectors and, with `--gallery`, on the real ones of a gallery of photographs with 30 regions each.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common import SEED, report

REGIONS = 30
BLOCK_IMAGES = 250
_MEANINGS, _IMAGES, _QUERIES = range(3)  # streams of random numbers that must not depend on each other


@dataclass(frozen=True)
class Recipe:
    """What was chosen so that short-lists grow as on real region vectors; the table of this script shows the match.

    `themes` and `objects` are how many there are, the n-th of each drawn in proportion to n ** -`popularity`. Their
    directions have variance i ** -`spectrum` along the i-th of axes turned at random. `theme_share` of a vector's
    variance is the theme of its image, the same for its `objects_per_image` objects and for the region's own part
    together being the rest, of which the object takes the square root of a uniform number.
    """

    themes: int = 100
    objects: int = 4000
    popularity: float = 0.7
    spectrum: float = 0.75
    theme_share: float = 0.22
    objects_per_image: int = 8


class RegionVectors:
    """The vectors of `images` images with 30 regions each; image i is the same however many there are.

    Args:
        images: how many.
        dimension: of the vectors.
        seed: everything follows from it.
        recipe: how the vectors lie.
    """

    def __init__(self, images: int, dimension: int, *, seed: int = SEED, recipe: Recipe | None = None) -> None:
        self.images, self.dimension, self.seed, self.recipe = images, dimension, seed, recipe or Recipe()
        generator = np.random.default_rng([seed, _MEANINGS, dimension])
        axes = np.linalg.qr(generator.standard_normal((dimension, dimension)))[0]
        variance = np.arange(1, dimension + 1) ** -self.recipe.spectrum
        axes *= np.sqrt(variance / variance.sum())[:, None]

        def directions(count: int) -> npt.NDArray[np.float32]:
            return (generator.standard_normal((count, dimension)) @ axes).astype(np.float32)

        self._themes, self._objects = directions(self.recipe.themes), directions(self.recipe.objects)
        self._theme_limits, self._object_limits = (
            np.cumsum(weights / weights.sum())
            for weights in (
                np.arange(1, count + 1) ** -self.recipe.popularity
                for count in (self.recipe.themes, self.recipe.objects)
            )
        )

    def blocks(self, threads: int = 2, first: int = 0) -> Iterator[npt.NDArray[np.float32]]:
        """All vectors in order, 250 images at a time: (images, 30, dimension) float32, unit length.

        No more than twice as many blocks as `threads` are in memory. `first` images are left out, a multiple of 250.
        """
        starts = range(first, self.images, BLOCK_IMAGES)
        with ThreadPoolExecutor(threads) as pool:
            ahead: deque[Future[npt.NDArray[np.float32]]] = deque()
            for start in starts:
                ahead.append(pool.submit(self._block, _IMAGES, start // BLOCK_IMAGES))
                if len(ahead) == 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                last = ahead.popleft().result()
                yield last if ahead else last[: self.images - starts[-1]]

    def queries(self, count: int, cosine: float) -> npt.NDArray[np.float32]:
        """(count, dimension) float32: stored regions of random images, turned away from them to this cosine.

        They turn towards regions of images that are not stored, as another photograph of the same object would.
        """
        generator = np.random.default_rng([self.seed, _QUERIES])
        images = generator.integers(self.images, size=count)
        stored = np.empty((count, self.dimension), dtype=np.float32)
        for number, image in enumerate(images.tolist()):
            block = self._block(_IMAGES, image // BLOCK_IMAGES)
            stored[number] = block[image % BLOCK_IMAGES, generator.integers(REGIONS)]
        blocks = range(-(-count // BLOCK_IMAGES))
        others = np.concatenate([self._block(_QUERIES, number)[:, 0] for number in blocks])[:count]
        across = others - (others * stored).sum(axis=1, keepdims=True) * stored
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        turned = cosine * stored + np.sqrt(1 - cosine**2) * across
        return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True), dtype=np.float32)

    def _block(self, stream: int, number: int) -> npt.NDArray[np.float32]:
        recipe, generator = self.recipe, np.random.default_rng([self.seed, stream, number])
        themes = self._themes[np.searchsorted(self._theme_limits[:-1], generator.random(BLOCK_IMAGES))]
        shown = np.searchsorted(self._object_limits[:-1], generator.random((BLOCK_IMAGES, recipe.objects_per_image)))
        choice = generator.integers(recipe.objects_per_image, size=(BLOCK_IMAGES, REGIONS))
        objects = np.take_along_axis(shown, choice, axis=1)
        share = np.sqrt(generator.random((BLOCK_IMAGES, REGIONS, 1), dtype=np.float32))
        rest = np.float32(1 - recipe.theme_share)
        weights = np.sqrt(rest * share), np.sqrt(rest * (1 - share) / np.float32(self.dimension))
        block = np.empty((BLOCK_IMAGES, REGIONS, self.dimension), dtype=np.float32)
        for image, own in enumerate(block):  # an image at a time stays in the cache
            generator.standard_normal(out=own, dtype=np.float32)
            own *= weights[1][image]
            own += weights[0][image] * self._objects[objects[image]]
            own += np.float32(recipe.theme_share**0.5) * themes[image]
            own /= np.sqrt(np.einsum("ij,ij->i", own, own))[:, None]
        return block


def hardness(vectors: npt.NDArray[np.float32], queries: int, seed: int = SEED) -> dict[str, float]:
    """What decides how hard compressed search is: (images * 30, dimension) unit vectors, searched by some of them.

    For codes of a 4-bit product quantiser of dimension / 8 and / 4 bytes: the standard deviation of the error of a
    region's score, and how many images, best code score first, hold 99 % of the exact top k of all queries, for k = 1
    and 10 % of the images. A query's own image is left out. Beside them, exact scores that show how vectors lie.
    """
    import faiss

    images, dimension = len(vectors) // REGIONS, vectors.shape[1]
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(vectors), min(queries, len(vectors)), replace=False)
    training = vectors[generator.choice(len(vectors), min(20_000, len(vectors)), replace=False)]
    columns = np.arange(len(rows))

    def of_images(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        best = scores.reshape(images, REGIONS, -1).max(axis=1)
        best[rows // REGIONS, columns] = -np.inf
        return best

    exact_regions = vectors @ vectors[rows].T
    exact = of_images(exact_regions)
    falling = -np.sort(-exact, axis=0)
    found: dict[str, float] = {}
    for share in (8, 4):
        codec = faiss.IndexPQ(dimension, 2 * dimension // share, 4, faiss.METRIC_INNER_PRODUCT)
        codec.train(training)
        coded_regions = codec.sa_decode(codec.sa_encode(vectors)) @ vectors[rows].T
        elsewhere = np.ones((images, len(rows)), dtype=bool)
        elsewhere[rows // REGIONS, columns] = False
        errors = (coded_regions - exact_regions).reshape(images, REGIONS, -1)
        found[f"error d/{share}"] = float(errors.transpose(0, 2, 1)[elsewhere].std())
        places = np.argsort(np.argsort(-of_images(coded_regions), axis=0), axis=0)
        for percent in (1, 10):
            k = max(round(images * percent / 100), 1)
            top = np.argpartition(-exact, k - 1, axis=0)[:k]
            needed = np.quantile(np.take_along_axis(places, top, axis=0), 0.99)
            found[f"short-list d/{share} {percent} %"] = int(needed) + 1
    for percent in (1, 10):
        found[f"score at {percent} %"] = float(falling[max(round(images * percent / 100), 1) - 1].mean())
    sample = vectors.reshape(images, REGIONS, dimension)[generator.permutation(images)[:300]]
    within = sample @ sample.transpose(0, 2, 1)
    found["cosine within"] = float((within.sum(axis=(1, 2)) - REGIONS).mean() / (REGIONS * (REGIONS - 1)))
    return found


def of_gallery(folder: Path) -> npt.NDArray[np.float32]:
    """All vectors of a gallery: (images * 30, dimension) float32."""
    from patchwise import Gallery

    gallery = Gallery.open(folder)
    snapshot, _ = gallery.current()
    if not np.all(np.diff(snapshot.starts) == REGIONS):
        raise SystemExit(f"{folder}: this script compares images of {REGIONS} regions each")
    vectors = np.concatenate([vectors.astype(np.float32) for _, _, vectors in snapshot.runs(65_536)])
    gallery.close()
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--gallery", type=Path, help="of photographs; without it there is nothing to compare with")
    parser.add_argument("--images", type=int, default=1038, help="synthetic ones, where no gallery is given")
    parser.add_argument("--dimension", type=int, default=256, help="of the vectors, where no gallery is given")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3, help="synthetic galleries to measure")
    parser.add_argument("--timed-images", type=int, default=10_000)
    parser.add_argument("--timed-dimension", type=int, default=384)
    options = parser.parse_args()
    found = {}
    images, dimension = options.images, options.dimension
    if options.gallery:
        real = of_gallery(options.gallery)
        images, dimension = len(real) // REGIONS, real.shape[1]
        found["regions of photographs"] = hardness(real, options.queries)
    for seed in range(options.seeds):
        blocks = RegionVectors(images, dimension, seed=seed).blocks()
        vectors = np.concatenate([block.reshape(-1, dimension) for block in blocks])
        found[f"synthetic, seed {seed}"] = hardness(vectors, options.queries)
    began = time.perf_counter()
    for _ in RegionVectors(options.timed_images, options.timed_dimension).blocks():
        pass
    rate = REGIONS * options.timed_images / (time.perf_counter() - began)
    names = list(next(iter(found.values())))
    rows = [
        [label, *(f"{row[name]:.0f}" if name.startswith("short") else f"{row[name]:.3f}" for name in names)]
        for label, row in found.items()
    ]
    report(
        "region_vectors",
        "Are the synthetic region vectors of the search benchmarks as hard to compress as real ones? Images of which "
        "a code short-list must consist to hold 99 % of the exact top k (k = 1 % and 10 % of the images, 4-bit "
        "product quantiser of d/8 and d/4 bytes), and the standard deviation of the code score's error: "
        f"{images:,} images x {REGIONS} regions x {dimension}-d, {options.queries:,} regions as queries, own image "
        f"left out. Two threads make {rate:,.0f} vectors of {options.timed_dimension}-d a second.",
        ["vectors", *names],
        rows,
        recipe=asdict(Recipe()),
        hardness=found,
        vectors_per_second=rate,
    )


if __name__ == "__main__":
    main()
