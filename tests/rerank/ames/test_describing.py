"""Descriptors of hits: in their order, a few pictures at a time, and with networks that fit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

pytest.importorskip("torch")

from patchwise.errors import EncoderError, ImageUnreadable
from patchwise.images import Picture
from patchwise.rerank import Setting
from patchwise.rerank.ames import Attention, Describer, HitDescriptors
from patchwise.rerank.ames.describing import _READERS
from patchwise.search import Hit


class Patches:
    """A network whose tokens are the mean colours of patches of 4 x 4 pixels."""

    id, input_size, weights_sha256 = "patches", 8, "1" * 64

    def patch_tokens(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        height, width = picture.shape[:2]
        return picture.reshape(height // 4, 4, width // 4, 4, 3).mean(axis=(1, 3), dtype=np.float32)


class Crooked(Patches):
    def patch_tokens(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return super().patch_tokens(picture)[:, :-1]


class Square(Patches):
    def patch_tokens(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if picture.shape[0] != picture.shape[1]:
            raise EncoderError("only square ones")
        return super().patch_tokens(picture)


def hits(count: int) -> list[Hit]:
    return [Hit(place, f"/{place}.png", 0.5, (0, 0, 9, 9), 0, (0, 0), (9, 9), ()) for place in range(count)]


def setting(read: Callable[[Hit], Picture]) -> Setting:
    def remembered(hit: Hit, _: str, compute: Callable[[Picture], Any]) -> Any:
        return compute(read(hit))

    return Setting(None, read, None, remembered)  # type: ignore[arg-type]


def grey(hit: Hit) -> Picture:
    return Picture(Image.new("RGB", (16, 8), (int(hit.path[1:-4]),) * 3), (16, 8))


def test_descriptors_are_those_of_the_picture_at_its_size() -> None:
    picture = Image.fromarray(np.repeat(np.repeat(np.arange(8, dtype="u1").reshape(2, 4, 1), 4, 0), 4, 1).repeat(3, 2))
    found = Describer(Patches(), None, longer_side=16).describe(picture, 3)
    assert found.features.tolist() == [[7] * 3, [6] * 3, [5] * 3]
    assert found.places.tolist() == [[0.875, 0.75], [0.625, 0.75], [0.375, 0.75]]


def test_they_come_in_the_order_of_hits_however_long_each_takes() -> None:
    def read(hit: Hit) -> Picture:
        time.sleep(0.003 * (hit.rank % 3))
        if hit.rank == 4:
            raise ImageUnreadable(hit.path, "gone")
        return grey(hit)

    describer = Describer(Patches(), None, longer_side=16)
    found = list(HitDescriptors(setting(read), describer, 2)(hits(9)))
    assert found[4] is None
    assert [each and each.features.tolist() for each in found[:4]] == [[[place] * 3] * 2 for place in range(4)]
    assert all(each is None or each.features.dtype == np.float32 for each in found)


def test_few_pictures_are_in_memory_and_few_results_wait() -> None:
    lock, now, most, begun = threading.Lock(), [0], [0], [0]

    def read(hit: Hit) -> Picture:
        with lock:
            begun[0] += 1
        return grey(hit)

    class Slow(Patches):
        def patch_tokens(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.001)
            with lock:
                now[0] -= 1
            return super().patch_tokens(picture)

    found = HitDescriptors(setting(read), Describer(Slow(), None, longer_side=16), 2)(hits(200))
    assert len(list(islice(found, 3))) == 3
    assert 1 < most[0] <= _READERS
    assert begun[0] < 100, "no more is read ahead than may wait"
    found.close()  # type: ignore[attr-defined]
    after = begun[0]
    time.sleep(0.05)
    assert begun[0] == after, "nothing is read any more for a search that has ended"


@pytest.mark.parametrize(
    ("backbone", "told"),
    [
        (Square(), "does not take pictures that are not square .only square ones.*hf:FOLDER"),
        (Crooked(), "no token for"),
    ],
)
def test_networks_that_do_not_look_so_are_told(backbone: Patches, told: str) -> None:
    with pytest.raises(EncoderError, match=told):
        Describer(backbone, None)


def test_an_attention_for_other_tokens_is_told() -> None:
    with pytest.raises(EncoderError, match="detector is for descriptors of 5 numbers, and the network patches gives 3"):
        Describer(Patches(), Attention(5))


def test_names_say_all_that_decides_descriptors() -> None:
    class Others(Patches):
        weights_sha256 = "2" * 64

    attentions = [None, Attention(3).eval(), Attention(3).eval()]
    describers = [
        *(Describer(Patches(), attention, longer_side=side) for attention in attentions for side in (16, 32)),
        Describer(Others(), None, longer_side=16),
    ]
    assert len({each.name(count) for each in describers for count in (5, 6)}) == 2 * len(describers)
    assert describers[0].name(5) == Describer(Patches(), None, longer_side=16).name(5)
