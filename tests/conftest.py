"""Shared fixtures: a fast encoder that really looks at pixels, pictures made from a seed, the shared real data."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from patchwise import Gallery
from patchwise.encoders.whitening import normalised
from patchwise.images import SQUARE

# For these tests, and for the processes that they start.
_SHIM = Path(__file__).parent / "shim"
runpy.run_path(str(_SHIM / "sitecustomize.py"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_SHIM), os.environ.get("PYTHONPATH")]))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as behind `make test &`; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


class FakeEncoder:
    """A 4 x 4 x 3 colour layout of the region: quick, deterministic, and different for different pictures."""

    id = "fake"
    dimension = 48
    input_size = 16
    resampling = "bilinear"
    fit = SQUARE
    batch_size = 8
    weights_sha256 = "0" * 64

    def __init__(self) -> None:
        self.encoded_regions = 0

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        assert pixels.shape[1:] == (16, 16, 3)
        self.encoded_regions += len(pixels)
        layout = pixels.reshape(-1, 4, 4, 4, 4, 3).mean(axis=(2, 4), dtype=np.float64).reshape(len(pixels), -1)
        # The constant keeps a black region from becoming the zero vector.
        return normalised((layout - 127.5 + 1e-3).astype(np.float32))


@pytest.fixture
def fake_encoder() -> FakeEncoder:
    return FakeEncoder()


def make_picture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Smooth coloured blobs: pictures of different seeds differ everywhere, at every scale."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    return make_picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six small pictures, 00.png to 05.png."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(6):
        make_picture(seed, (32, 24)).save(folder / f"{seed:02d}.png")
    return folder


@pytest.fixture
def gallery(tmp_path: Path, pictures: Path) -> Iterator[Gallery]:
    """A gallery of them, with five regions each."""
    with Gallery.create(tmp_path / "g", encoder=FakeEncoder(), regions="pyramid:1") as made:
        made.add(pictures)
        yield made


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Six pictures, 00.png to 05.png, from seeds 0 to 5."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(6):
        make_picture(seed).save(folder / f"{seed:02d}.png")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures for tests; present in CI, perhaps not with a user."""
    folder = Path(os.environ.get("PATCHWISE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: the shared real pictures are needed for this test")
    return folder


# Started between the tests and a command: root passes every permission check, so these rights are given up first.
_WITHOUT_PRIVILEGES = """
import ctypes, os, sys
if os.getuid() == 0:
    for right in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if ctypes.CDLL(None, use_errno=True).prctl(24, right, 0, 0, 0):  # PR_CAPBSET_DROP
            sys.exit(f"cannot drop capability {right}")
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def unprivileged() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`subprocess.run` of Python with the given arguments, bound by file permissions even when root runs the tests."""
    if sys.platform == "win32" or (os.getuid() == 0 and sys.platform != "linux"):
        pytest.skip("needs POSIX permissions that apply to the user who runs the tests")

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _WITHOUT_PRIVILEGES, sys.executable, *map(str, arguments)]
        return subprocess.run(command, **{"capture_output": True, "text": True, "timeout": 60, **options})

    return run
