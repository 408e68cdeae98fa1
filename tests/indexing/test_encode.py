"""Batching: full batches across pictures, the same vectors as one by one, and nothing unusable let through."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchwise.errors import EncoderError
from patchwise.images import SQUARE
from patchwise.indexing.encode import BatchEncoder, encode_checked, encode_picture
from patchwise.indexing.passes import Inputs
from patchwise.indexing.prepare import Prepared
from patchwise.regions import Regions
from patchwise.regions.base import REGION_DTYPE

Pixels = npt.NDArray[np.uint8]


class Spy:
    """An encoder that notes the size of every batch."""

    id = "spy"
    dimension = 3
    input_size = 2
    resampling = "bilinear"
    fit = SQUARE
    weights_sha256 = "0"

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.batches: list[int] = []

    def encode(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        self.batches.append(len(pixels))
        return pixels.reshape(len(pixels), -1)[:, :3].astype(np.float32)


def prepared(count: int, seed: int) -> Prepared:
    crops = np.random.default_rng(seed).integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
    whole = np.array([[0, 0, 1, 1]], dtype=np.float32)
    return Prepared((2, 2), Regions(np.zeros(count, dtype=REGION_DTYPE)), Inputs(crops, [whole] * count))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(counts=st.lists(st.integers(1, 12), max_size=20), batch_size=st.integers(1, 9))
def test_batches_are_full_and_vectors_the_same_as_one_by_one(counts: list[int], batch_size: int) -> None:
    spy = Spy(batch_size)
    batches: BatchEncoder[int] = BatchEncoder(spy)
    pictures = [prepared(count, seed) for seed, count in enumerate(counts)]
    done = []
    for number, picture in enumerate(pictures):
        done += list(batches.push(number, picture))
        # A picture is handed back as soon as its last region is encoded; fewer regions wait than make a batch.
        assert sum(counts[: number + 1]) - sum(spy.batches) < batch_size
        assert len(done) == sum(end <= sum(spy.batches) for end in np.cumsum(counts[: number + 1]))
    done += list(batches.finish())

    assert [item for item, _, _ in done] == list(range(len(counts)))
    assert sum(spy.batches) == sum(counts)
    assert set(spy.batches[:-1]) <= {batch_size}
    for number, same, vectors in done:
        assert same is pictures[number]
        np.testing.assert_array_equal(vectors, encode_picture(Spy(4), pictures[number].inputs.pixels))
    assert list(batches.finish()) == []


def test_a_picture_larger_than_a_batch() -> None:
    spy = Spy(4)
    batches: BatchEncoder[str] = BatchEncoder(spy)
    assert list(batches.push("large", prepared(10, 0))) == []
    assert spy.batches == [4, 4]
    ((name, _, vectors),) = batches.finish()
    assert (name, len(vectors), spy.batches) == ("large", 10, [4, 4, 2])


def test_an_encoder_without_a_batch_size_worth_the_name() -> None:
    spy = Spy(0)
    batches: BatchEncoder[str] = BatchEncoder(spy)
    assert [name for name, _, _ in batches.push("a", prepared(3, 0))] == ["a"]
    assert spy.batches == [1, 1, 1]


@pytest.mark.parametrize("count", [1, 7, 8, 9])
def test_one_picture_at_a_time(count: int, fake_encoder: object) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    vectors = encode_picture(fake_encoder, crops)  # type: ignore[arg-type]
    assert vectors.shape == (count, 48) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


Broken = Callable[[Pixels], npt.NDArray[np.float32]]


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (lambda pixels: np.zeros((len(pixels), 2), np.float32), r"returned shape \(4, 2\) for 4 regions instead of"),
        (lambda pixels: np.zeros((len(pixels) - 1, 3), np.float32), "returned shape"),
        (lambda pixels: np.zeros(3, np.float32), "returned shape"),
        (lambda pixels: np.full((len(pixels), 3), np.nan, np.float32), "not finite"),
        (lambda pixels: np.full((len(pixels), 3), np.inf, np.float32), "not finite"),
    ],
)
def test_nonsense_is_refused(broken: Broken, complaint: str) -> None:
    spy = Spy(4)
    spy.encode = broken  # type: ignore[method-assign]
    for attempt in (
        lambda: encode_checked(spy, prepared(4, 0).inputs.pixels),
        lambda: encode_picture(spy, prepared(4, 0).inputs.pixels),
        lambda: list(BatchEncoder[str](spy).push("a", prepared(4, 0))),
    ):
        with pytest.raises(EncoderError, match=complaint) as raised:
            attempt()
        assert "'spy'" in str(raised.value)
