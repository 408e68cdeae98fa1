"""Decoding: every orientation, mode and format to upright RGB, limits, and no failure but an ImageError."""

from __future__ import annotations

import http.server
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from patchwise.errors import ImageError, ImageTooLarge, ImageUnreadable
from patchwise.images import DEFAULT_MAX_PIXELS, decode, fetch_url, image_suffixes, read_picture

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
ORIENTATION = 0x0112

# How the pixels of an upright array lie in the file, after the table of the EXIF standard (tag 274).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}
AVIF = pytest.param("AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF"))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def quarters(width: int, height: int) -> np.ndarray:
    """Red, green; blue, yellow: no turn or mirror image of it looks the same."""
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, YELLOW
    return pixels


def oriented(kind: str, orientation: int, size: tuple[int, int], **options: object) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](quarters(*size)))
    return encoded(Image.fromarray(stored), kind, exif=exif, **options)


def assert_quarters(image: Image.Image) -> None:
    width, height = image.size
    for (x, y), colour in zip(((1, 1), (3, 1), (1, 3), (3, 3)), (RED, GREEN, BLUE, YELLOW), strict=True):
        seen = image.getpixel((width * x // 4, height * y // 4))
        assert np.abs(np.subtract(seen, colour)).max() <= 8, f"{seen} is not {colour}"


def row_of_pixels(data: bytes) -> list[tuple[int, int, int]]:
    picture = read_picture(data)
    assert picture.pixels.mode == "RGB"
    return [picture.pixels.getpixel((x, 0)) for x in range(picture.pixels.width)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        pytest.param("AVIF", {"quality": 95}, marks=AVIF.marks),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_every_orientation_comes_out_upright(kind: str, options: dict[str, object], orientation: int) -> None:
    picture = read_picture(oriented(kind, orientation, (96, 64), **options))
    assert picture.size == picture.pixels.size == (96, 64)
    assert_quarters(picture.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("factor", "decoded"), [(1, (256, 128)), (2, (128, 64)), (7.9, (64, 32)), (8, (32, 16))])
def test_a_jpeg_is_decoded_small_and_upright(orientation: int, factor: float, decoded: tuple[int, int]) -> None:
    asked = []

    def shrink(size: tuple[int, int]) -> float:
        asked.append(size)
        return factor

    data = oriented("JPEG", orientation, (256, 128), quality=95, subsampling=0)
    picture = read_picture(data, shrink=shrink)
    assert asked == [(256, 128)]
    assert picture.size == (256, 128)
    assert picture.pixels.size == decoded
    assert_quarters(picture.pixels)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_means_nothing_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(Image.fromarray(quarters(96, 64)), "JPEG", quality=95, subsampling=0, exif=exif)
    for picture in (read_picture(data), read_picture(data, shrink=lambda _: 2.0)):
        assert picture.size == (96, 64)
        assert_quarters(picture.pixels)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (100, 33), (257, 129), (640, 480)])
@pytest.mark.parametrize("factor", [0.1, 1.0, 1.99, 2.0, 3.7, 5.0, 8.0, 100.0])
def test_a_shrunk_jpeg_keeps_what_is_needed(size: tuple[int, int], factor: float) -> None:
    picture = read_picture(encoded(Image.new("RGB", size), "JPEG"), shrink=lambda _: factor)
    assert picture.size == size
    for side, decoded in zip(size, picture.pixels.size, strict=True):
        assert int(side / max(factor, 1)) <= decoded <= side


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_other_formats_are_not_shrunk(kind: str) -> None:
    picture = read_picture(encoded(Image.new("RGB", (64, 48)), kind), shrink=lambda _: 4.0)
    assert picture.size == picture.pixels.size == (64, 48)


def test_a_shrunk_jpeg_looks_like_the_whole_one(picture: Callable[..., Image.Image]) -> None:
    data = encoded(picture(3, (640, 480)), "JPEG", quality=95)
    whole, small = read_picture(data).pixels, read_picture(data, shrink=lambda _: 4.0).pixels
    assert small.size == (160, 120)
    difference = np.abs(np.asarray(whole.reduce(4), dtype=int) - np.asarray(small, dtype=int))
    assert difference.mean() < 1


@pytest.mark.parametrize(
    ("alpha", "expected"),
    # (200 a + 255 (255 - a)) / 255 and so on.
    [(0, (255, 255, 255)), (255, (200, 100, 0)), (128, (227, 177, 127))],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_put_on_white(kind: str, alpha: int, expected: tuple[int, int, int]) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encoded(Image.new("RGBA", (2, 1), (200, 100, 0, alpha)), kind, **options)
    assert np.abs(np.subtract(row_of_pixels(data), expected)).max() <= 1


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 100), (128, 177)])
def test_grey_with_transparency_is_put_on_white(alpha: int, expected: int) -> None:
    seen = row_of_pixels(encoded(Image.new("LA", (1, 1), (100, alpha)), "PNG"))
    assert np.abs(np.subtract(seen, expected)).max() <= 1


def palette_image() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    return image


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(kind: str) -> None:
    assert row_of_pixels(encoded(palette_image(), kind, transparency=1)) == [
        (10, 20, 30),
        (255, 255, 255),
        (70, 80, 90),
    ]


def test_palette_entries_may_be_partly_transparent() -> None:
    first, second, third = row_of_pixels(encoded(palette_image(), "PNG", transparency=bytes([255, 0, 128])))
    assert (first, second) == ((10, 20, 30), (255, 255, 255))
    assert np.abs(np.subtract(third, (162, 167, 172))).max() <= 1


def test_a_palette_without_transparency() -> None:
    assert row_of_pixels(encoded(palette_image(), "PNG")) == [(10, 20, 30), (40, 50, 60), (70, 80, 90)]


def test_a_colour_declared_transparent_is_white() -> None:
    grey = Image.new("L", (2, 1))
    grey.putdata([100, 101])
    assert row_of_pixels(encoded(grey, "PNG", transparency=100)) == [(255,) * 3, (101,) * 3]
    colour = Image.new("RGB", (2, 1))
    colour.putdata([(1, 2, 3), (4, 5, 6)])
    assert row_of_pixels(encoded(colour, "PNG", transparency=(1, 2, 3))) == [(255,) * 3, (4, 5, 6)]


@pytest.mark.parametrize(
    ("mode", "kind", "colour", "expected"),
    [
        ("RGB", "PNG", (1, 2, 3), (1, 2, 3)),
        ("L", "PNG", 77, (77, 77, 77)),
        ("1", "PNG", 0, (0, 0, 0)),
        ("1", "TIFF", 1, (255, 255, 255)),
        ("1", "BMP", 1, (255, 255, 255)),
        ("CMYK", "TIFF", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", "TIFF", (255, 0, 0, 0), (0, 255, 255)),
        ("CMYK", "TIFF", (0, 0, 0, 255), (0, 0, 0)),
        ("CMYK", "JPEG", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", "JPEG", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", "JPEG", (0, 0, 0, 255), (0, 0, 0)),
        ("YCbCr", "TIFF", (76, 85, 255), (254, 0, 0)),
        ("YCbCr", "JPEG", (150, 44, 21), (0, 255, 1)),
        ("L", "JPEG", 200, (200, 200, 200)),
        ("LAB", "TIFF", (255, 128, 128), (255, 255, 255)),
    ],
)
def test_modes(mode: str, kind: str, colour: object, expected: tuple[int, int, int]) -> None:
    data = encoded(Image.new(mode, (8, 8), colour), kind)  # type: ignore[arg-type]
    assert np.abs(np.subtract(row_of_pixels(data), expected)).max() <= 3


@pytest.mark.parametrize(
    ("kind", "values", "dtype", "expected"),
    [
        ("PNG", [0, 257 * 77, 32768, 65535], "<u2", [0, 77, 128, 255]),
        ("TIFF", [0, 257 * 77, 32768, 65535], "<u2", [0, 77, 128, 255]),
        ("TIFF", [0, 257 * 77, 32768, 65535], ">u2", [0, 77, 128, 255]),
        ("PNG", [0, 514], "<u2", [0, 2]),
        ("TIFF", [0, 65535], "<i4", [0, 255]),
        ("TIFF", [-5, 65535, 131070], "<i4", [0, 128, 255]),
        ("TIFF", [0.0, 0.2, 1.0], "<f4", [0, 51, 255]),
        ("TIFF", [0.0, 77.0, 255.0], "<f4", [0, 77, 255]),
        ("TIFF", [0.0, 257.0 * 77, 65535.0], "<f4", [0, 77, 255]),
        ("TIFF", [0.0, 50000.0, 100000.0], "<f4", [0, 128, 255]),
        ("TIFF", [float("nan"), float("inf"), -float("inf"), -3.0, 0.6], "<f4", [0, 0, 0, 0, 153]),
        ("TIFF", [0.0, 0.0], "<f4", [0, 0]),
    ],
)
def test_deep_grey_is_scaled_to_eight_bits(kind: str, values: list[float], dtype: str, expected: list[int]) -> None:
    array = np.array([values], dtype=dtype)
    image = Image.frombytes("I;16B", (len(values), 1), array.tobytes()) if dtype == ">u2" else Image.fromarray(array)
    assert [pixel[0] for pixel in row_of_pixels(encoded(image, kind))] == expected


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_sixteen_bits_per_colour() -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">6H", 0xFFFF, 0x8080, 0, 0x0102, 0x4D4D, 0xFEFE)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(row))
    data += png_chunk(b"IEND", b"")
    assert np.abs(np.subtract(row_of_pixels(data), [(255, 128, 0), (1, 77, 254)])).max() <= 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [("GIF", {}), ("PNG", {}), ("PNG", {"default_image": True}), ("WEBP", {"lossless": True}), ("TIFF", {})],
    ids=["GIF", "APNG", "APNG with a default image", "WebP", "multi-page TIFF"],
)
def test_the_first_frame_is_the_picture(kind: str, options: dict[str, object]) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in (RED, BLUE, GREEN)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    picture = read_picture(data)
    assert picture.size == (20, 10)
    assert picture.pixels.getcolors() == [(200, RED)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", AVIF, "JPEG2000", "PPM"])
def test_formats_from_bytes_and_from_a_path(kind: str, tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (32, 24), (200, 100, 50)), kind)
    path = tmp_path / "a picture"
    path.write_bytes(data)
    for source in (data, path):
        picture = read_picture(source)
        assert picture.size == (32, 24)
        assert picture.pixels.mode == "RGB"
        assert np.abs(np.subtract(picture.pixels.getpixel((16, 12)), (200, 100, 50))).max() <= 4


def test_the_pixels_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(quarters(8, 8)).save(path)
    picture = read_picture(path)
    path.unlink()
    assert_quarters(picture.pixels.resize((16, 16), Image.Resampling.NEAREST))


@pytest.mark.parametrize("kind", ["ICO", "TGA", "EPS", "PDF"])
def test_other_formats_stay_closed(kind: str) -> None:
    with pytest.raises(ImageUnreadable, match=r"not an image in a format that is read here.*JPEG.*PNG"):
        read_picture(encoded(Image.new("RGB", (16, 16)), kind))


def test_suffixes() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"} <= image_suffixes()
    assert not {".eps", ".pdf", ".txt", ".ico", ""} & image_suffixes()
    assert all(suffix == suffix.lower() for suffix in image_suffixes())


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_extreme_shapes(size: tuple[int, int], kind: str) -> None:
    for picture in (
        read_picture(encoded(Image.new("RGB", size, RED), kind)),
        read_picture(encoded(Image.new("RGB", size, RED), kind), shrink=lambda _: 8.0),
    ):
        assert picture.size == size
        assert min(picture.pixels.size) >= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_the_pixel_limit_is_inclusive(kind: str) -> None:
    data = encoded(Image.new("RGB", (100, 50)), kind)
    assert read_picture(data, max_pixels=5000).size == (100, 50)
    with pytest.raises(ImageTooLarge) as raised:
        read_picture(data, name="big", max_pixels=4999)
    assert str(raised.value).startswith("big: 100 x 50 pixels")
    assert "4,999" in raised.value.reason
    assert "--max-pixels" in raised.value.reason


@pytest.mark.parametrize("pillow", [1000, 4000], ids=["over twice Pillow's limit", "over Pillow's limit"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "JPEG"])
def test_a_higher_limit_overrides_that_of_pillow(kind: str, pillow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow)
    data = encoded(Image.new("RGB", (100, 50)), kind)
    assert read_picture(data, max_pixels=5000).size == (100, 50)


def test_far_over_the_default_limit() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(100)))
    with pytest.raises(ImageTooLarge) as raised:
        read_picture(data, name="bomb.png")
    assert f"{DEFAULT_MAX_PIXELS:,}" in raised.value.reason
    assert "3,600,000,000 pixels" in raised.value.reason
    assert "--max-pixels" in raised.value.reason


def test_large_pictures_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_LARGE_PIXELS", 10)
    data = encoded(Image.fromarray(quarters(64, 64)), "PNG")
    seen: list[Image.Image] = []
    workers = [threading.Thread(target=lambda: seen.append(read_picture(data).pixels)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert len(seen) == 4
    for image in seen:
        assert_quarters(image)
    with pytest.raises(ImageUnreadable):
        read_picture(data[:-40])
    assert not decode._large_picture.locked()


def test_a_wrong_ending_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really a PNG.jpg"
    Image.fromarray(quarters(16, 16)).save(path, "PNG")
    assert_quarters(read_picture(path).pixels)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, I am a text\n" * 20, "not an image in a format that is read here"),
        (b"\xff\xd8\xff", "corrupt or truncated|not an image"),
        (b"\x89PNG\r\n\x1a\n", "corrupt or truncated|not an image"),
    ],
)
def test_what_is_no_image_says_why(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageUnreadable, match=reason) as raised:
        read_picture(path)
    assert str(raised.value).startswith(f"{path}: ")
    with pytest.raises(ImageUnreadable, match=reason) as raised:
        read_picture(content, name="stdin")
    assert raised.value.name == "stdin"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_truncated_file_is_refused(kind: str, picture: Callable[..., Image.Image]) -> None:
    data = encoded(picture(1, (200, 150)), kind)
    with pytest.raises(ImageUnreadable, match=r"corrupt or truncated|not an image"):
        read_picture(data[: len(data) * 2 // 3])


def test_missing_directory_and_file_as_directory(tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match="no such file"):
        read_picture(tmp_path / "nothing.jpg")
    with pytest.raises(ImageUnreadable, match="is a directory, not an image"):
        read_picture(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ImageUnreadable, match=r"a.jpg/b.jpg: (?!.*corrupt).*[Nn]ot a directory"):
        read_picture(tmp_path / "a.jpg" / "b.jpg")


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permission_denied(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    Image.new("RGB", (4, 4)).save(path)
    path.chmod(0)
    script = """
import os, sys
from pathlib import Path
from PIL import Image
from patchwise.errors import ImageUnreadable
from patchwise.images import read_picture
from patchwise.images.formats import readable_formats
readable_formats()
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    read_picture(Path(sys.argv[1]))
except ImageUnreadable as error:
    print(error.reason)
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("permission denied", "")


def damaged(data: bytes, generator: np.random.Generator) -> bytes:
    """Bits flipped, a piece cut out, overwritten or cut off."""
    broken = bytearray(data)
    kind = generator.integers(4)
    at = int(generator.integers(len(broken)))
    if kind == 0:
        for place in generator.integers(len(broken), size=int(generator.integers(1, 9))):
            broken[place] ^= 1 << int(generator.integers(8))
    elif kind == 1:
        del broken[at:]
    elif kind == 2:
        del broken[at : at + int(generator.integers(1, 40))]
    else:
        noise = generator.bytes(int(generator.integers(1, 40)))
        broken[at : at + len(noise)] = noise
    return bytes(broken)


def read_or_image_error(data: bytes, seed: int) -> None:
    for shrink in (None, lambda _: 2.0):
        try:
            picture = read_picture(data, name="fuzz", max_pixels=1_000_000, shrink=shrink)
        except ImageError as error:
            assert error.name == "fuzz" and error.reason, seed
        else:
            assert picture.pixels.mode == "RGB", seed
            np.asarray(picture.pixels)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 80}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("JPEG2000", {}),
        ("PPM", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)
def test_damaged_files_raise_nothing_but_image_errors(
    kind: str, options: dict[str, object], picture: Callable[..., Image.Image]
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    if kind not in ("GIF", "BMP", "JPEG2000", "PPM"):
        options = {**options, "exif": exif}
    data = encoded(picture(5, (48, 32)), kind, **options)
    for seed in range(80):
        read_or_image_error(damaged(data, np.random.default_rng(seed)), seed)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "magic",
    [
        b"",
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\x40\0\0\0WEBPVP8 ",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"BM",
        b"P6\n",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"\0\0\0\x18ftypavif",
    ],
    ids=repr,
)
def test_random_bytes_raise_nothing_but_image_errors(magic: bytes) -> None:
    for seed in range(30):
        generator = np.random.default_rng(seed)
        read_or_image_error(magic + generator.bytes(int(generator.integers(0, 300))), seed)


class Handler(http.server.BaseHTTPRequestHandler):
    content = b""

    def do_GET(self) -> None:
        places = {"/elsewhere": "/picture.png", "/ftp": "ftp://127.0.0.1:1/picture.png"}
        if self.path in places:
            self.send_response(302)
            self.send_header("Location", places[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/picture.png":
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.content)))
            self.end_headers()
            self.wfile.write(self.content)
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.content = encoded(Image.fromarray(quarters(40, 20)), "PNG")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/picture.png", "/elsewhere"])
def test_fetching(server: str, path: str) -> None:
    data = fetch_url(server + path)
    assert data == Handler.content
    assert_quarters(read_picture(data).pixels)


def test_a_redirection_leads_to_web_addresses_only(server: str) -> None:
    with pytest.raises(ImageUnreadable, match=r"could not be fetched .*unknown url type: ftp"):
        fetch_url(server + "/ftp")


def test_fetching_what_is_not_there(server: str) -> None:
    with pytest.raises(ImageUnreadable, match=r"could not be fetched.*404") as raised:
        fetch_url(server + "/nothing.png")
    assert raised.value.name == server + "/nothing.png"


def test_fetching_too_much(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_URL_BYTES", 2**20)
    Handler.content = bytes(2**20)
    assert len(fetch_url(server + "/picture.png")) == 2**20
    Handler.content = bytes(2**20 + 1)
    with pytest.raises(ImageUnreadable, match="larger than 1 MiB"):
        fetch_url(server + "/picture.png")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a.png", "a.png", "data:image/png;base64,AA"])
def test_only_web_addresses_are_fetched(url: str) -> None:
    with pytest.raises(ImageUnreadable, match="only http and https addresses are fetched"):
        fetch_url(url)


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:1/a.png", "http://[::1/", "http://127.0.0.1/a b\n.png"])
def test_an_unusable_address_is_explained(url: str) -> None:
    with pytest.raises(ImageUnreadable, match="could not be fetched"):
        fetch_url(url, timeout=5)


def test_a_server_that_does_not_speak_http_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ImageUnreadable, match="could not be fetched"):
            fetch_url(f"http://127.0.0.1:{listener.getsockname()[1]}/a.png", timeout=5)
        thread.join()
