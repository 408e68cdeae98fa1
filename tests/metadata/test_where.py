"""Conditions: what they mean, by an evaluation of their own; what is refused, and with which words."""

from __future__ import annotations

import operator
import re
import sqlite3
import string
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchwise.errors import UsageError
from patchwise.metadata import check_where, fitting
from patchwise.metadata.where import MOST_CHARACTERS, MOST_TESTS
from patchwise.store import MetadataValue, Selection
from patchwise.store.catalogue import Catalogue, ContentRow

Row = Mapping[str, MetadataValue | None]


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(tmp_path, create=True)
    with made.transaction():
        made.put_shard(1, 1_000)
    yield made
    made.close()


def fill(catalogue: Catalogue, rows: Mapping[str, Row]) -> None:
    """Files with these metadata and no others; None for a row that is not there at all."""
    with catalogue.transaction():
        for path in catalogue.known():
            catalogue.forget(path)
        for path, row in rows.items():
            digest = path.encode()
            known = catalogue.content_by_hash(digest)
            content = known.id if known else catalogue.put_content(digest, ContentRow(0, 4, 3, 1, 0, 1, 0))
            catalogue.put_file(path, 1, 1, content)
            if row:
                catalogue.put_metadata(list(row), [(path, list(row.values()))])


def found(catalogue: Catalogue, where: str) -> list[str]:
    selection = Selection(None, fitting(where, catalogue.metadata_columns()))
    paths = [image.path for image in catalogue.images_selected(selection)]
    assert catalogue.count_selected(selection) == len(paths) == len(catalogue.contents_selected(selection))
    everything = [row.id for row in catalogue.contents(live_only=False)]
    assert sorted(path for path, _ in catalogue.paths_of(everything, selection)) == sorted(paths)
    return paths


SHELF: dict[str, Row] = {
    "/s/acme.jpg": {"brand": "Acme", "year": 2019, "code": "007", "sold": "true"},
    "/s/other.png": {"brand": "other", "year": 2020, "code": 7, "sold": "false"},
    "/s/smith.jpg": {"brand": "Smith's", "year": 2019.5, "code": "x_y", "sold": None},
    "/s/nothing.jpg": {},
    "/s/ümlaut.jpg": {"brand": "Ümlaut 日本", "year": None, "code": "50%", "sold": "true"},
}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("brand = 'Acme'", "acme"),
        ("brand = 'acme'", ""),
        ("brand='Smith''s'", "smith"),
        ("brand = 'Ümlaut 日本'", "ümlaut"),
        ("brand != 'Acme'", "other smith ümlaut"),
        ("brand <> 'Acme'", "other smith ümlaut"),
        ("brand < 'a'", "acme smith"),
        ("year >= 2019", "acme other smith"),
        ("year > 2019", "other smith"),
        ("year > 2019.25 and year < 2020", "smith"),
        ("year = 2019.0", "acme"),
        ("year = '2019'", ""),
        ("year != '2019'", ""),
        ("not year = '2019'", ""),
        ("code = 7", "other"),
        ("code = '007'", "acme"),
        ("code <= '1'", "acme"),
        ("code > -1", "other"),
        ("brand in ('Acme', 'other')", "acme other"),
        ("brand not in ('Acme', 'other')", "smith ümlaut"),
        ("code in (7, '007')", "acme other"),
        ("code not in (8, '007')", "other smith ümlaut"),
        ("code not in ('007')", "smith ümlaut"),
        ("brand like 'a%'", "acme"),
        ("brand like '%日_'", "ümlaut"),
        ("brand not like '%e%'", "smith ümlaut"),
        ("code like 'x_y' and code like 'x%'", "smith"),
        ("year like '2%'", ""),
        ("year not like '2%'", ""),
        ("sold = true", "acme ümlaut"),
        ("sold in (TRUE, false)", "acme other ümlaut"),
        ("sold is null", "nothing smith"),
        ("sold is not null", "acme other ümlaut"),
        ("not sold is null", "acme other ümlaut"),
        ("brand = 'Acme' or year = 2020", "acme other"),
        ("brand = 'Acme' or sold is null and year is null", "acme nothing"),
        ("(brand = 'Acme' or sold is null) and year is not null", "acme smith"),
        ("not (brand = 'Acme' or year = 2020)", "smith"),
        ("NOT brand = 'Acme' AND NOT year = 2020", "smith"),
        ("not not brand = 'Acme'", "acme"),
        ("year = 2020 or not year = 2020", "acme other smith"),
        ("brand = 'x' or brand is null", "nothing"),
        ("path like '/s/%.png'", "other"),
        ("path = '/s/acme.jpg'", "acme"),
        ("name = 'acme.jpg'", "acme"),
        ("name like '%.JPG' and brand is null", "nothing"),
        ("name in ('ümlaut.jpg', 'x')", "ümlaut"),
        ("name is null or path is null", ""),
        ("name = 7 or not name = 7", ""),
        ('"year"=2019', "acme"),
        ("year=+2019 and year>-1e3 and year<1E9", "acme"),
        ("\n year\t>= 2020 ", "other"),
        ("year < 99999999999999999999 and year > -99999999999999999999", "acme other smith"),
    ],
)
def test_what_a_condition_finds(catalogue: Catalogue, where: str, expected: str) -> None:
    fill(catalogue, SHELF)
    assert {path.rsplit("/")[-1].rsplit(".")[0] for path in found(catalogue, where)} == set(expected.split())


def test_names_of_columns_may_be_anything(catalogue: Catalogue) -> None:
    names = [
        "list price",
        'say "hi"',
        "and",
        "größe",
        "_1",
        "c1",
        "content",
        "Year",
        "x'); DROP TABLE file; --",
        "\x00",
    ]
    fill(catalogue, {"/a": dict.fromkeys(names, 1), "/b": dict.fromkeys(names, 2)})
    for name in names:
        assert found(catalogue, '"{}" = 2'.format(name.replace('"', '""'))) == ["/b"]
    assert found(catalogue, "größe = 1 and _1 = 1 and c1 = 1 and Year = 1") == ["/a"]
    with pytest.raises(UsageError, match="no column 'year'"):
        found(catalogue, "year = 1")


def test_a_column_of_the_users_own_is_not_the_file_s_name(catalogue: Catalogue) -> None:
    fill(catalogue, {"/a.jpg": {"name": "mug"}, "/b.jpg": {"name": "b.jpg"}})
    assert found(catalogue, "name = 'mug'") == ["/a.jpg"]
    assert found(catalogue, "name = 'a.jpg'") == []


def test_paths_that_are_no_text(catalogue: Catalogue) -> None:
    paths = ["/a\udcff/b\udcfe.jpg", "/\udcc3/\udc80", "/plain"]
    with catalogue.transaction():
        content = catalogue.put_content(b"x", ContentRow(0, 4, 3, 1, 0, 1, 0))
        for path in paths:
            catalogue.put_file(path, 1, 1, content)
    assert found(catalogue, "name like 'b_.jpg'") == paths[:1]
    assert found(catalogue, "name = 'plain'") == ["/plain"]
    assert sorted(found(catalogue, "path like '/%' and name != 'plain'")) == sorted(paths[:2])


# Against an evaluation of its own


@dataclass(frozen=True)
class Said:
    """A condition as text, and what it is of a row: True, False or None."""

    text: str
    truth: Callable[[Row], bool | None]


COLUMNS = ["a", "b", "größe"]
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, -1.5, 2.0, 2**53 + 1, 2**63 - 1, -(2**63), 1e300])
TEXTS = st.text(st.sampled_from("aAbBéÉ%_'\" 1"), max_size=3) | st.sampled_from(["true", "1", "日本"])
VALUES = NUMBERS | TEXTS
OPERATORS = {"=": operator.eq, "!=": operator.ne, "<>": operator.ne, "<": operator.lt, "<=": operator.le}
OPERATORS |= {">": operator.gt, ">=": operator.ge}


def written(value: MetadataValue) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def comparable(row: Row, column: str, value: MetadataValue) -> Any:
    held = row.get(column)
    return held if held is not None and isinstance(held, str) == isinstance(value, str) else None


def matches(pattern: str, text: str) -> bool:
    translated = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)
    folded = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
    return re.fullmatch(translated.translate(folded), text.translate(folded), re.DOTALL) is not None


def compared(column: str, word: str, value: MetadataValue) -> Said:
    def truth(row: Row) -> bool | None:
        held = comparable(row, column, value)
        return None if held is None else bool(OPERATORS[word](held, value))

    return Said(f"{column} {word} {written(value)}", truth)


def among(column: str, values: Sequence[MetadataValue], negated: bool) -> Said:
    def truth(row: Row) -> bool | None:
        same_kind = [value for value in values if comparable(row, column, value) is not None]
        return (row[column] in same_kind) != negated if same_kind else None

    listed = ",".join(map(written, values))
    return Said(f"{column} {'not ' if negated else ''}in ({listed})", truth)


def resembling(column: str, pattern: str, negated: bool) -> Said:
    def truth(row: Row) -> bool | None:
        held = comparable(row, column, "")
        return None if held is None else matches(pattern, held) != negated

    return Said(f"{column} {'not ' if negated else ''}like {written(pattern)}", truth)


def missing(column: str, negated: bool) -> Said:
    return Said(f"{column} is {'not ' if negated else ''}null", lambda row: (row.get(column) is None) != negated)


def negation(inner: Said) -> Said:
    def truth(row: Row) -> bool | None:
        known = inner.truth(row)
        return None if known is None else not known

    return Said(f"not ({inner.text})", truth)


def joined(parts: Sequence[Said], word: str) -> Said:
    decisive = word == "or"

    def truth(row: Row) -> bool | None:
        truths = [part.truth(row) for part in parts]
        if decisive in truths:
            return decisive
        return None if None in truths else not decisive

    return Said(f" {word} ".join(f"({part.text})" for part in parts), truth)


column = st.sampled_from(COLUMNS)
TESTS = st.one_of(
    st.builds(compared, column, st.sampled_from(list(OPERATORS)), VALUES),
    st.builds(among, column, st.lists(VALUES, min_size=1, max_size=3), st.booleans()),
    st.builds(resembling, column, TEXTS, st.booleans()),
    st.builds(missing, column, st.booleans()),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        st.builds(negation, inner),
        st.builds(joined, st.lists(inner, min_size=2, max_size=3), st.sampled_from(["and", "or"])),
    ),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(column, st.none() | VALUES), min_size=1, max_size=6)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(said=CONDITIONS, rows=ROWS)
def test_conditions_agree_with_their_definition(catalogue: Catalogue, said: Said, rows: list[Row]) -> None:
    with catalogue.transaction():
        catalogue.put_metadata(COLUMNS, [])
    shelf = {f"/{number}": row for number, row in enumerate(rows)}
    fill(catalogue, shelf)
    assert found(catalogue, said.text) == [path for path, row in shelf.items() if said.truth(row) is True]


def test_brackets_and_words_bind_as_in_sql(catalogue: Catalogue) -> None:
    """SQLite itself is asked the same words, for rows in which every value is a number."""
    rows = {f"/{a}{b}{c}": {"a": a, "b": b, "c": c} for a in (0, 1) for b in (0, 1) for c in (0, 1)}
    fill(catalogue, rows)
    plain = sqlite3.connect(":memory:")
    plain.execute("CREATE TABLE t (path, a, b, c)")
    plain.executemany("INSERT INTO t VALUES (?,?,?,?)", [(path, *row.values()) for path, row in rows.items()])
    for where in (
        "a = 1 or b = 1 and c = 1",
        "not a = 1 or b = 1",
        "not (a = 1 or b = 1) and not c = 1",
        "a = 1 and b = 1 or not c = 1 and a = 0",
        "not not a = 1 and (b = 0 or c = 0) or a = 0 and c in (1)",
    ):
        expected = [path for (path,) in plain.execute(f"SELECT path FROM t WHERE {where} ORDER BY path")]
        assert found(catalogue, where) == expected
    plain.close()


# What is refused


@pytest.mark.parametrize(
    ("where", "at", "said"),
    [
        ("brand == 'x'", 8, "a number"),
        ("brand = Acme", 9, "single quotes: 'Acme'"),
        ('brand = "Acme"', 9, "single quotes: 'Acme'"),
        ("brand = null", 9, "is null"),
        ("brand = 'x", 9, "no closing quote"),
        ("(brand = 'x'", 13, "expected"),
        ("brand", 6, "one of = != < <= > >="),
        ("brand in ()", 11, "a text in single quotes"),
        ("a = 1 b = 2", 7, "and, or, the end"),
        ("year > 2019a", 8, "a number"),
        ("year = 1 and", 13, "a column"),
        ("'x' = brand", 1, "a column"),
        ("brand is 3", 10, "not, null"),
        ("brand = 'a'; DROP TABLE file", 12, "';'"),
        ("brand = 'a' -- ", 13, "'--'"),
        ("brand = ?", 9, "'?'"),
        ("__import__('os').system('true')", 11, "is not understood"),
        ("brand like 7", 12, "a text in single quotes"),
        ("brand = 'a' UNION SELECT 1", 13, "'UNION'"),
        ("1 = 1", 1, "a column"),
        ("not = 'n'", 5, 'double quotes: "not" = 1'),
        ("a = 1 or not >= 1", 14, 'double quotes: "not" = 1'),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(where: str, at: int, said: str) -> None:
    with pytest.raises(UsageError, match=f"^where: at character {at}, ") as raised:
        check_where(where)
    assert said in str(raised.value)


@pytest.mark.parametrize("where", ["", "  \n"])
def test_an_empty_condition_is_none(where: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        check_where(where)


def test_an_unknown_column_is_told_with_those_there_are(catalogue: Catalogue) -> None:
    fill(catalogue, SHELF)
    with pytest.raises(UsageError, match="no column 'brnd'; known are 'brand', 'code', 'sold', 'year', 'name', 'path'"):
        found(catalogue, "year = 1 and brnd = 'x'")
    fill(catalogue, {"/a": {f"column{number:02d}": 1 for number in range(30)}})
    with pytest.raises(UsageError, match="and 16 more"):
        found(catalogue, "brnd = 'x'")


@pytest.mark.parametrize(
    "attack",
    [
        "' OR '1'='1",
        "'; DROP TABLE file; --",
        "a' OR 1=1 --",
        "\\'",
        "''",
        "%",
        "x') OR (1=1",
        "\x00' OR 'a'='a",
        "?1",
        ":a",
    ],
)
def test_a_text_is_never_more_than_a_text(catalogue: Catalogue, attack: str) -> None:
    fill(catalogue, {"/plain": {"brand": "Acme"}, "/attack": {"brand": attack}})
    assert found(catalogue, f"brand = {written(attack)}") == ["/attack"]
    assert found(catalogue, f"brand in ({written(attack)}, 'zz')") == ["/attack"]
    assert len(catalogue.known()) == 2


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.text(max_size=40)
    | st.lists(
        st.sampled_from(
            [
                "a",
                '"b"',
                "=",
                "<",
                "!=",
                "'x'",
                "'",
                '"',
                "1",
                "-.5e3",
                "(",
                ")",
                ",",
                "and",
                "OR",
                "not",
                "in",
                "like",
                "is",
            ]
        )
        | st.sampled_from(["null", "true", ";", "--", "/*", "\\", "\udcff", "\x00", "é", "²", "٣", "1" * 40, "e"])
    ).map(" ".join)
)
def test_garbage_is_refused_in_words_or_read(catalogue: Catalogue, where: str) -> None:
    with catalogue.transaction():
        catalogue.put_metadata(["a", "b"], [])
    try:
        condition = fitting(where, catalogue.metadata_columns())
    except UsageError as error:
        assert str(error).startswith("where: ")
    else:
        catalogue.count_selected(Selection(None, condition))


def test_what_is_too_long_or_too_deep_is_refused(catalogue: Catalogue) -> None:
    fill(catalogue, {"/a": {"a": 1}, "/b": {"a": 2}})
    with pytest.raises(UsageError, match="20,001 characters"):
        check_where("a = '" + "x" * (MOST_CHARACTERS - 5) + "'")
    assert found(catalogue, " or ".join(["a = 1"] * MOST_TESTS)) == ["/a"]
    assert found(catalogue, " and ".join(["not (a = 1)"] * MOST_TESTS)) == ["/b"]
    with pytest.raises(UsageError, match="501 comparisons"):
        check_where(" or ".join(["a = 1"] * (MOST_TESTS + 1)))
    values = ",".join(map(str, range(2, 4_000)))
    assert found(catalogue, f"a in ({values})") == ["/b"]

    def nested(depth: int) -> str:
        words = ["and", "or"] * depth
        return "".join(f"(a = 1 {word} " for word in words[:depth]) + "a = 1" + ")" * depth

    assert found(catalogue, nested(16)) == ["/a"]
    assert found(catalogue, "not " + nested(16)) == ["/b"]
    with pytest.raises(UsageError, match="within each other"):
        check_where(nested(17))


def test_a_pattern_that_is_too_long_is_refused(catalogue: Catalogue) -> None:
    fill(catalogue, {"/a": {"a": "\U0001f600" * 12_500}})
    assert found(catalogue, "a like '" + "\U0001f600" * 12_500 + "'") == ["/a"]
    for word in ("like", "not like"):
        with pytest.raises(UsageError, match="50,001 bytes is longer than 50,000"):
            check_where(f"a {word} '" + "\U0001f600" * 12_500 + "x'")


def test_names_of_columns_are_found_in_either_form_of_unicode(catalogue: Catalogue) -> None:
    decomposed, composed = "pre\u0301nom", "pr\u00e9nom"
    for stored in (decomposed, composed):
        fill(catalogue, {"/a": {stored: 1}, "/b": {stored: 2}})
        for asked in (decomposed, composed, f'"{decomposed}"', f'"{composed}"'):
            assert found(catalogue, f"{asked} = 1") == ["/a"]
    with pytest.raises(UsageError, match="no column"):
        found(catalogue, "prenom = 1")


def test_the_smallest_whole_number(catalogue: Catalogue) -> None:
    fill(catalogue, {"/a": {"a": -(2**63)}, "/b": {"a": -(2**63) + 1}})
    assert found(catalogue, "a = -9223372036854775808") == ["/a"]


def test_brackets_that_mean_nothing_may_be_as_deep_as_they_like(catalogue: Catalogue) -> None:
    fill(catalogue, {"/a": {"a": 1}, "/b": {"a": 2}})
    assert found(catalogue, "(" * 5_000 + "a = 1" + ")" * 5_000) == ["/a"]
    assert found(catalogue, "not " * 1_001 + "a = 1") == ["/b"]
    assert found(catalogue, "not (" * 1_000 + "a = 1" + ")" * 1_000) == ["/a"]


def test_a_pattern_cannot_keep_the_catalogue_busy(catalogue: Catalogue) -> None:
    fill(catalogue, {"/a": {"a": "a" * 20_000}})
    began = time.monotonic()
    assert found(catalogue, f"a like '{'%a' * 200}b'") == []
    assert time.monotonic() - began < 10
