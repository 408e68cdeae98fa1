"""Queries: from whatever holds a picture to one vector."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from colours import ColourEncoder
from patchwise import QueryPart
from patchwise.encoders import Encoder, Whitening, projected
from patchwise.encoders.whitening import normalised
from patchwise.errors import BoxError, EncoderError, ImageTooLarge, ImageUnreadable, PatchwiseError, UsageError
from patchwise.indexing import EncodedQuery, encode_queries, encode_query, query_vector
from patchwise.indexing.query import compose, open_query

Picture = Callable[..., Image.Image]
ORIENTATION = 0x0112


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def served(picture: Picture) -> Iterator[str]:
    """The address of a picture on this machine; below it, /missing is not there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if self.path == "/missing" else 200)
            self.end_headers()
            self.wfile.write(b"<html>" if self.path == "/page" else png(picture(1)))

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_kind_of_source_gives_the_same_vector(fake_encoder: Encoder, picture: Picture, tmp_path: Path) -> None:
    image = picture(1)
    path = tmp_path / "a ü\n.png"
    image.save(path)
    expected = query_vector(fake_encoder, path)
    assert expected.shape == (48,) and expected.dtype == np.float32
    sources: list[Any] = [str(path), path.read_bytes(), image, np.asarray(image), np.asarray(image).copy()]
    for source in sources:
        np.testing.assert_array_equal(query_vector(fake_encoder, source), expected)


def test_a_web_address(fake_encoder: Encoder, picture: Picture, served: str) -> None:
    expected = query_vector(fake_encoder, picture(1))
    np.testing.assert_array_equal(query_vector(fake_encoder, f"{served}/a.png", fetch=True), expected)
    with pytest.raises(ImageUnreadable, match=r"/missing: could not be fetched .*404"):
        query_vector(fake_encoder, f"{served}/missing", fetch=True)
    with pytest.raises(ImageUnreadable, match="/page: not an image"):
        query_vector(fake_encoder, f"{served}/page", fetch=True)


@pytest.mark.parametrize("address", ["http://example.invalid/a.png", "HTTPS://example.invalid/a.png"])
def test_nothing_is_fetched_unless_asked_for(fake_encoder: Encoder, address: str) -> None:
    with pytest.raises(UsageError, match="--fetch"):
        query_vector(fake_encoder, address)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBa", "RGBX", "PA", "P", "CMYK", "YCbCr", "HSV"])
def test_pillow_images_of_every_colour_mode(fake_encoder: Encoder, picture: Picture, mode: str) -> None:
    image = picture(1).convert("RGBA") if mode in ("RGBa", "PA") else picture(1)
    expected = query_vector(fake_encoder, picture(1))
    np.testing.assert_allclose(query_vector(fake_encoder, image.convert(mode)), expected, atol=0.02)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "LAB"])
def test_pillow_images_of_every_other_mode(fake_encoder: Encoder, picture: Picture, mode: str) -> None:
    grey = picture(1).convert("L")
    image = (
        Image.frombytes("LAB", (8, 8), bytes(192)) if mode == "LAB" else grey.convert("LA" if mode == "La" else mode)
    )
    vector = query_vector(fake_encoder, image.convert("La") if mode == "La" else image)
    assert np.isfinite(vector).all()
    if mode in ("L", "LA", "La"):
        np.testing.assert_array_equal(vector, query_vector(fake_encoder, grey.convert("RGB")))


@pytest.mark.parametrize(
    ("mode", "kind", "full"), [("I;16", np.uint16, 257), ("I", np.int32, 257), ("F", np.float32, 1 / 255)]
)
def test_pillow_images_of_high_depth(
    fake_encoder: Encoder, picture: Picture, mode: str, kind: type[np.generic], full: float
) -> None:
    grey = np.asarray(picture(1).convert("L"))
    deep = Image.fromarray((grey * np.float64(full)).astype(kind))
    assert deep.mode == mode
    expected = query_vector(fake_encoder, picture(1).convert("L"))
    np.testing.assert_allclose(query_vector(fake_encoder, deep), expected, atol=0.02)


def test_transparency_is_white(fake_encoder: Encoder, picture: Picture) -> None:
    image = picture(1).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    white = query_vector(fake_encoder, Image.new("RGB", image.size, "white"))
    np.testing.assert_array_equal(query_vector(fake_encoder, image), white)


def test_exif_turns_a_pillow_image_upright(fake_encoder: Encoder, picture: Picture, tmp_path: Path) -> None:
    """As an image that was just opened, whose pixels still lie on their side."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    upright = picture(1)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.size == upright.size[::-1]
        assert open_query(opened).size == upright.size
        vector = query_vector(fake_encoder, opened)
    np.testing.assert_array_equal(vector, query_vector(fake_encoder, upright))
    np.testing.assert_array_equal(vector, query_vector(fake_encoder, tmp_path / "a.png"))


def test_the_given_image_is_not_changed(fake_encoder: Encoder, picture: Picture) -> None:
    image = picture(1).convert("RGBA")
    before, mode = image.tobytes(), image.mode
    query_vector(fake_encoder, image)
    array = np.asarray(picture(1)).copy()
    kept = array.copy()
    query_vector(fake_encoder, array)
    assert (image.tobytes(), image.mode) == (before, mode)
    np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_arrays_must_be_rgb(fake_encoder: Encoder, array: Any) -> None:
    with pytest.raises(ImageUnreadable, match=r"an array must be \(height, width, 3\) uint8 RGB"):
        query_vector(fake_encoder, array)


def test_an_array_seen_through_strides(fake_encoder: Encoder, picture: Picture) -> None:
    array = np.asarray(picture(1))
    expected = query_vector(fake_encoder, np.ascontiguousarray(array[::-1, ::2]))
    np.testing.assert_array_equal(query_vector(fake_encoder, array[::-1, ::2]), expected)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_bytes_that_are_no_image(fake_encoder: Encoder, content: bytes) -> None:
    with pytest.raises(ImageUnreadable, match=r"^query: "):
        query_vector(fake_encoder, content)


def test_paths_that_are_no_image(fake_encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    for path, reason in (
        (tmp_path / "gone.png", "no such file"),
        (tmp_path, "a directory"),
        (tmp_path / "text.png", "not an image"),
    ):
        with pytest.raises(ImageUnreadable, match=reason) as raised:
            query_vector(fake_encoder, path)
        assert str(raised.value).startswith(f"{path}: ")


def test_too_many_pixels(fake_encoder: Encoder, picture: Picture) -> None:
    for source in (png(picture(1)), picture(1)):
        with pytest.raises(ImageTooLarge, match="--max-pixels"):
            query_vector(fake_encoder, source, max_pixels=96 * 64 - 1)
        query_vector(fake_encoder, source, max_pixels=96 * 64)


# Boxes


def test_a_box_is_the_same_as_the_part_cut_out(fake_encoder: Encoder, picture: Picture) -> None:
    image = picture(1)
    for box in ((8, 8, 40, 40), (0, 0, 96, 64), (95, 63, 96, 64)):
        expected = query_vector(fake_encoder, image.crop(box))
        np.testing.assert_allclose(query_vector(fake_encoder, image, box), expected, atol=1e-6)
    whole = query_vector(fake_encoder, image)
    np.testing.assert_array_equal(query_vector(fake_encoder, image, (-5, -5.5, 1e6, 64)), whole)
    np.testing.assert_array_equal(query_vector(fake_encoder, image, np.array([0, 0, 96, 64])), whole)


def test_a_box_is_in_upright_pixels(fake_encoder: Encoder, picture: Picture) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    upright = picture(2, (40, 80))
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_270).save(buffer, "PNG", exif=exif)
    expected = query_vector(fake_encoder, upright, (0, 60, 40, 80))
    np.testing.assert_array_equal(query_vector(fake_encoder, buffer.getvalue(), (0, 60, 40, 80)), expected)
    with pytest.raises(BoxError, match="40 x 80"):
        query_vector(fake_encoder, buffer.getvalue(), (60, 0, 80, 40))


@pytest.mark.parametrize(
    ("box", "complaint"),
    [
        ((50, 10, 40, 20), "inside out"),
        ((10, 10, 10, 20), "empty"),
        ((96, 0, 120, 10), "outside the image, which is 96 x 64"),
        ((-9, 0, 0, 10), "outside"),
        ((10, 10, 10.4, 20), "less than one pixel"),
        ((0, 0, float("nan"), 10), "finite"),
        ((0, 0, float("inf"), 10), "finite"),
        ((0, 0, 10), "four"),
        ((0, 0, 10, 10, 10), "four"),
    ],
)
def test_a_box_that_makes_no_sense(
    fake_encoder: Encoder, picture: Picture, box: tuple[float, ...], complaint: str
) -> None:
    with pytest.raises(BoxError, match=complaint):
        query_vector(fake_encoder, picture(1), box)


# Texts, and several parts


def test_a_text_lies_where_its_pictures_lie() -> None:
    encoder = ColourEncoder()
    red = encode_query(encoder, [QueryPart(text="a red thing")])
    np.testing.assert_array_equal(red.vector, query_vector(encoder, Image.new("RGB", (30, 20), "red")))
    np.testing.assert_array_equal(red.part_vectors, red.vector[None])


def test_an_encoder_without_texts_says_so(fake_encoder: Encoder) -> None:
    with pytest.raises(EncoderError, match=r"'fake' reads no texts: its vectors lie in no space shared .*siglip2-b"):
        encode_query(fake_encoder, [QueryPart(text="red")])
    seen = np.eye(48, dtype=np.float32)
    whitened = projected(ColourEncoder(), Whitening(seen[0], seen))
    with pytest.raises(EncoderError, match=r"'colours' reads no texts: its vectors are whitened or adapted"):
        encode_query(whitened, [QueryPart(text="red")])


@pytest.mark.parametrize("found", [np.zeros((1, 47)), np.zeros((2, 48)), np.full((1, 48), np.nan)])
def test_text_vectors_that_nobody_can_use(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ColourEncoder, "encode_texts", lambda self, texts: found)
    with pytest.raises(EncoderError, match="no usable vectors for 1 texts"):
        encode_query(ColourEncoder(), [QueryPart(text="red")])


def test_texts_that_cannot_be_read_leave_the_pictures_of_other_queries_alone(
    picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_tokenizer(self: ColourEncoder, texts: Any) -> Any:
        raise EncoderError("no tokenizer there")

    monkeypatch.setattr(ColourEncoder, "encode_texts", no_tokenizer)
    shown, written = encode_queries(ColourEncoder(), [[QueryPart(picture(1))], [QueryPart(text="red")]])
    assert not isinstance(shown, EncoderError) and isinstance(written, EncoderError)


def test_each_of_many_queries_keeps_its_parts(picture: Picture) -> None:
    encoder = ColourEncoder()
    a, b = QueryPart(picture(1), box=(0, 0, 40, 40)), QueryPart(picture(2), weight=-0.25)
    red, blue, gone = QueryPart(text="red"), QueryPart(text="blue"), QueryPart("gone.png")
    queries = [[red], [a, blue], [gone, red], [a], [a, replace(a, weight=-1)], [b], [blue, b, a]]
    answers = encode_queries(encoder, queries)
    for parts, found in zip(queries, answers, strict=True):
        try:
            alone = encode_query(encoder, parts)
        except PatchwiseError as error:
            assert type(found) is type(error) and str(found) == str(error)
        else:
            assert isinstance(found, EncodedQuery) and found.parts == tuple(parts)
            np.testing.assert_array_equal(found.vector, alone.vector)
            np.testing.assert_array_equal(found.part_vectors, alone.part_vectors)
    assert [isinstance(found, PatchwiseError) for found in answers] == [False, False, True, False, True, True, False]


def test_sums_worked_by_hand() -> None:
    x, y = np.eye(2, dtype=np.float32)
    np.testing.assert_allclose(compose(np.stack([x, y]), [3, 4]), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(compose(np.stack([x, y]), [4, -3]), [0.8, -0.6], rtol=1e-6)
    np.testing.assert_allclose(compose(np.stack([x, y, y]), [1, 1, -0.5]), np.array([2, 1]) / 5**0.5, rtol=1e-6)
    assert compose(np.stack([x, y]), [1, 1]).dtype == np.float32


def units(count: int, seed: int) -> np.ndarray:
    return normalised(np.random.default_rng(seed).normal(size=(count, 32)).astype(np.float32))


weights = st.floats(-10, 10).filter(lambda weight: weight == 0 or abs(weight) > 0.01)


@given(st.lists(weights, min_size=1, max_size=5), st.integers(0, 99), st.randoms(use_true_random=False))
def test_the_sum_ranks_as_the_weighted_scores_do(given_weights: list[float], seed: int, random: Any) -> None:
    """And neither the order of the parts nor a common factor changes anything."""
    assume(any(weight > 0 for weight in given_weights))
    parts, regions = units(len(given_weights), seed), units(50, seed + 100)
    vector = compose(parts, given_weights)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    wanted = (regions @ parts.T).astype(np.float64) @ np.array(given_weights)
    scores = regions @ vector
    factor = wanted[0] / scores[0]
    assert factor > 0
    np.testing.assert_allclose(wanted, scores * factor, atol=1e-3 * max(map(abs, given_weights)))

    order = list(range(len(given_weights)))
    random.shuffle(order)
    np.testing.assert_array_equal(compose(parts[order], [given_weights[place] for place in order]), vector)
    for scale in (1e-300, 3.0, 1e300):
        np.testing.assert_allclose(compose(parts, [scale * weight for weight in given_weights]), vector, atol=1e-6)


def test_a_part_that_counts_nothing_changes_nothing() -> None:
    parts = units(2, 0)
    for alone in ([1, 0], [0.5, 0], [7, -0.0]):
        np.testing.assert_array_equal(compose(parts, alone), parts[0])


def test_what_cannot_be_one_query() -> None:
    parts = units(2, 0)
    for nothing in ([0, 0], [-1, 0], [-1, -2]):
        with pytest.raises(UsageError, match="nothing is wanted"):
            compose(parts, nothing)
    for same, against in ((parts[[0, 0]], [2, -2]), (np.stack([parts[0], -parts[0]]), [1, 1])):
        with pytest.raises(UsageError, match="cancel each other"):
            compose(same, against)
    almost = normalised((parts[0] + np.float32(1e-5) * parts[1])[None])[0]
    with pytest.raises(UsageError, match="cancel each other"):
        compose(np.stack([parts[0], almost]), [1, -1])
