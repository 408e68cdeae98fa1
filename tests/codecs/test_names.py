"""Names of codecs: read, printed back, refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.codecs import CodecName, parse_codec
from patchwise.codecs.names import FAMILIES
from patchwise.errors import UsageError

SIZES = st.integers(1, 10**6)


@st.composite
def sized_names(draw: st.DrawFn) -> CodecName:
    family = draw(st.sampled_from(sorted(FAMILIES)))
    lists = draw(st.integers(0, 10**6)) if family == "ivf" else 0
    return CodecName(family, draw(SIZES), lists)


@given(sized_names())
def test_what_is_printed_is_read_back(name: CodecName) -> None:
    assert parse_codec(str(name)) == name


@given(sized_names(), st.sampled_from(["", " ", "\t", "  \n"]))
def test_spaces_around_a_name_and_zeros_before_a_number_change_nothing(name: CodecName, space: str) -> None:
    padded = f"{name.family}:0{name.bytes}" + (f":00{name.lists}" if name.lists else "")
    assert parse_codec(space + padded + space) == name


@given(st.text("ABCDEFPQRSVIX0123456789_,x", min_size=1))
def test_a_factory_string_stays_as_it_is(text: str) -> None:
    name = parse_codec(text)
    assert (name.family, name.factory, name.bytes, name.lists) == ("factory", text, 0, 0)
    assert str(name) == text and parse_codec(str(name)) == name


@given(st.text())
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = parse_codec(text)
    except UsageError as error:
        assert repr(text) in str(error)
    else:
        assert parse_codec(str(name)) == name


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("fastscan:64", ("fastscan", 64, 0)),
        ("pq:32", ("pq", 32, 0)),
        ("opq:64", ("opq", 64, 0)),
        ("ivf:64", ("ivf", 64, 0)),
        ("ivf:64:1024", ("ivf", 64, 1024)),
        ("ivf:64:0", ("ivf", 64, 0)),  # as many lists as training finds right
    ],
)
def test_families(name: str, parts: tuple[str, int, int]) -> None:
    found = parse_codec(name)
    assert (found.family, found.bytes, found.lists, found.factory) == (*parts, "")


NO_NAMES = ["", " ", *FAMILIES, "fastscan:", "fastscan:-1", "pq:8.5", "pq:8:2", "fastscan:8:4", "zip:8", "ivf:8:2:1"]


@pytest.mark.parametrize("name", [*NO_NAMES, "ivf:8:1000000000", "pq:" + 5000 * "1"])
def test_what_is_no_name_is_told_what_is(name: str) -> None:
    with pytest.raises(UsageError, match=r"expected auto, fastscan:BYTES, .* or a factory string of FAISS such as SQ8"):
        parse_codec(name)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_code_of_no_bytes_is_none(family: str) -> None:
    with pytest.raises(UsageError, match="at least 1 byte"):
        parse_codec(f"{family}:0")
