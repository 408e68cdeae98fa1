"""Files of metadata: what values become, which column names the image, and what is refused with which words."""

from __future__ import annotations

import csv
import datetime as dt
import io
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchwise.errors import UsageError
from patchwise.metadata import open_metadata

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def written(folder: Path, content: str | bytes, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Rows as a dictionary, the image's name under `path`."""
    file = open_metadata(path)
    return [{"path": name, **dict(zip(file.columns, values, strict=True))} for name, values in file.rows()]


def column(folder: Path, *texts: str) -> list[Any]:
    """What a column of a CSV file becomes."""
    out = io.StringIO()
    csv.writer(out).writerows([("path", "x"), *((f"{number}.jpg", text) for number, text in enumerate(texts))])
    return [row["x"] for row in read(written(folder, out.getvalue()))]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv(tmp_path: Path, mark: str, delimiter: str, end: str) -> None:
    lines = ["path|brand|year", 'a b.jpg|"Smith| ""Sons"""|2019', "ü/日本.jpg|  Acme |", "", "c.jpg||2020"]
    path = written(tmp_path, mark + end.join(lines).replace("|", delimiter) + end)
    assert open_metadata(path).columns == ("brand", "year")
    assert read(path) == [
        {"path": "a b.jpg", "brand": f'Smith{delimiter} "Sons"', "year": 2019},
        {"path": "ü/日本.jpg", "brand": "Acme", "year": None},
        {"path": "c.jpg", "brand": None, "year": 2020},
    ]


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["2019", "-3", "0", ""], [2019, -3, 0, None]),
        (["1.0", "0.25", "1e-05", "1e+16", "7"], [1.0, 0.25, 1e-05, 1e16, 7]),
        (["12.50", "9.90", "-0.00"], [12.5, 9.9, 0.0]),
        (["9223372036854775807", "-9223372036854775807"], [2**63 - 1, 1 - 2**63]),
        (["007", "12"], ["007", "12"]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["1.9", "1.10"], ["1.9", "1.10"]),
        (["12", "12.50"], ["12", "12.50"]),
        (["1e5", "12"], ["1e5", "12"]),
        (["1,5", "2"], ["1,5", "2"]),
        (["nan", "1"], ["nan", "1"]),
        (["inf", "1"], ["inf", "1"]),
        (["-0"], ["-0"]),
        (["+1"], ["+1"]),
        (["1_000"], ["1_000"]),
        (["٣"], ["٣"]),
        (["0.1234567890123456789"], ["0.1234567890123456789"]),
        (["2024-05-31", "2024"], ["2024-05-31", "2024"]),
        (["true", "False", "", "TRUE"], ["true", "false", None, "true"]),
        (["true", "yes"], ["true", "yes"]),
        (["True", "1"], ["True", "1"]),
        (["", " "], [None, None]),
        (["9" * 30], ["9" * 30]),
        (["9" * 5_000], ["9" * 5_000]),
    ],
)
def test_what_a_column_of_texts_becomes(tmp_path: Path, texts: list[str], values: list[Any]) -> None:
    found = column(tmp_path, *texts)
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


PRINTABLE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(str.strip)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_as_python_writes_them_come_back(tmp_path: Path, values: list[float]) -> None:
    values = [0.0 if value == 0 and isinstance(value, float) else value for value in values]
    found = column(tmp_path, *map(repr, values))
    assert found == values and list(map(type, found)) == list(map(type, values))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(PRINTABLE | st.from_regex(r"-?[0-9]{1,3}(\.[0-9]{1,3})?", fullmatch=True), min_size=1))
def test_what_becomes_a_number_says_the_same(tmp_path: Path, texts: list[str]) -> None:
    found = column(tmp_path, *texts)
    for text, value in zip(texts, found, strict=True):
        if isinstance(value, str):
            assert value == text or (text.casefold() == value and value in ("true", "false"))
        elif value is None:
            assert text == ""
        else:
            assert value == float(text) and not text.lstrip("-").startswith(("00", "01"))
    kinds = {type(value) is str for value in found if value is not None}
    assert len(kinds) <= 1  # all texts, or all numbers


@pytest.mark.parametrize(
    ("head", "key"),
    [
        ("path,file,image", "path"),
        ("image,filename,file", "file"),
        ("Image,FileName", "FileName"),
        ("brand, PATH ", "PATH"),
        ("image,year", "image"),
    ],
)
def test_the_column_that_names_the_image(tmp_path: Path, head: str, key: str) -> None:
    names = [name.strip() for name in head.split(",")]
    file = open_metadata(written(tmp_path, head + "\n" + ",".join(names) + "\n"))
    assert [row.name.strip() for row in file.rows()] == [key]
    assert file.columns == tuple(name for name in names if name != key)


def test_a_separator_in_the_head_that_is_none(tmp_path: Path) -> None:
    """The head is read by the separator that makes most of it, among those that give a column for the image."""
    assert open_metadata(written(tmp_path, "path,a;b;c;d\nx.jpg,1\n")).columns == ("a;b;c;d",)
    assert open_metadata(written(tmp_path, "path;a,b\nx.jpg;1\n")).columns == ("a,b",)


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    assert read(written(tmp_path, ",path,brand,\n0,a.jpg,Acme,x\n")) == [{"path": "a.jpg", "brand": "Acme"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no column says which image"),
        ("path\na.jpg\n", "no column that says anything of them"),
        ("path,\na.jpg,0\n", "no column that says anything of them"),
        ("brand,year\nAcme,2019\n", "no column says which image a row is of; call one path, file, filename or image"),
        ("path|brand\na.jpg|x\n", "no column says"),
        ("path,brand,brand\na,b,c\n", "more than one column is called 'brand'"),
        ("path,brand\na.jpg,x,y\n", "3 values in line 2, but 2 in the first"),
        ("path,brand\n\n\na.jpg\n", "1 values in line 4"),
        ('path,brand\na.jpg,"x\n', "cannot be read as CSV"),
        ('path,brand\na.jpg,"x"y\n', "line 2 cannot be read as CSV"),
        ("path,brand\na.jpg,Größe\n".encode("latin-1"), "not UTF-8"),
        ("path,brand\n".encode("utf-16"), "not UTF-8"),
        ("path,brand\na.jpg," + "x" * 200_000 + "\n", "line 2 cannot be read as CSV"),
    ],
)
def test_what_is_no_csv_file_of_images_is_refused(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UsageError, match=r"m\.csv: ") as raised:
        read(path)
    assert said in str(raised.value)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_metadata(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="no such file"):
        open_metadata(tmp_path)
    with pytest.raises(UsageError, match=r"\.csv, \.tsv and \.parquet"):
        open_metadata(written(tmp_path, "{}", "m.json"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60)
    | st.text(st.sampled_from('path,;\t"\n\r x1.\ufeff\x00'), max_size=40).map(str.encode)
)
@pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
def test_garbage_is_refused_in_words_or_read(tmp_path: Path, name: str, content: bytes) -> None:
    path = written(tmp_path, content, name)
    try:
        read(path)
    except UsageError as error:
        assert str(error).startswith(f"{path}: ")


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "path,year\na.jpg,2019\n")
    file = open_metadata(path)
    written(tmp_path, "path,year\na.jpg,soon\n")
    with pytest.raises(UsageError, match="changed while it was read"):
        list(file.rows())


# Parquet


def test_parquet(tmp_path: Path) -> None:
    day, moment = dt.date(2024, 5, 31), dt.datetime(2024, 5, 31, 12, 30)
    table = pa.table(
        {
            "__index_level_0__": [0, 1, 2],
            "image": ["a.jpg", None, "c.jpg"],
            "int": pa.array([1, None, -3], pa.int8()),
            "big": pa.array([1, 2, 2**63 - 1], pa.uint64()),
            "float": pa.array([0.5, float("nan"), None], pa.float32()),
            "decimal": pa.array([Decimal("12.50"), None, Decimal(-1)], pa.decimal128(5, 2)),
            "text": ["007", "", None],
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "truth": [True, False, None],
            "day": [day, None, day],
            "moment": pa.array([moment, None, moment], pa.timestamp("ns")),
            "nothing": pa.nulls(3),
        }
    )
    parquet.write_table(table, tmp_path / "m.parquet")
    first, second, third = read(tmp_path / "m.parquet")
    assert first == {
        "path": "a.jpg",
        "int": 1,
        "big": 1,
        "float": 0.5,
        "decimal": 12.5,
        "text": "007",
        "kind": "x",
        "truth": "true",
        "day": "2024-05-31",
        "moment": "2024-05-31T12:30:00",
        "nothing": None,
    }
    assert (second["path"], second["float"], second["text"], second["truth"]) == ("", None, None, "false")
    assert (third["big"], third["decimal"], third["int"]) == (2**63 - 1, -1.0, -3)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([[1], [2]]), "list"),
        (pa.array([{"a": 1}, None]), "struct"),
        (pa.array([b"x", b"y"]), "binary"),
        (pa.array([1, 2], pa.duration("s")), "duration"),
        (pa.array([1, 2**63], pa.uint64()), "too large"),
        (pa.array([Decimal(2**63), None], pa.decimal128(38, 0)), "too large"),
        (pa.array([Decimal("12345678901234567.89"), None]), "more digits than a number keeps"),
        (pa.array([2**60, 1], pa.timestamp("ms")), "cannot be read as Parquet"),
    ],
)
def test_other_values_are_refused_by_the_name_of_their_column(tmp_path: Path, values: Any, said: str) -> None:
    parquet.write_table(pa.table({"path": ["a", "b"], "odd one": values}), tmp_path / "m.parquet")
    with pytest.raises(UsageError, match=r"m\.parquet: ") as raised:
        read(tmp_path / "m.parquet")
    assert said in str(raised.value)
    assert "'odd one'" in str(raised.value) or said == "cannot be read as Parquet"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"brand": ["x"]}), "no column says"),
        (pa.table({"path": [7]}), "must hold text"),
        (pa.table([["a"], ["b"], ["c"]], names=["path", "x", "x"]), "more than one column is called 'x'"),
    ],
)
def test_parquet_without_names_of_images(tmp_path: Path, table: Any, said: str) -> None:
    parquet.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(UsageError, match=said):
        open_metadata(tmp_path / "m.parquet")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            PRINTABLE,
            st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
            st.none() | PRINTABLE,
        )
    )
)
def test_parquet_comes_back(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    kinds = [("path", pa.string()), ("i", pa.int64()), ("f", pa.float64()), ("t", pa.string())]
    columns = zip(*rows, strict=True) if rows else [[]] * 4
    arrays = [pa.array(list(values), kind) for values, (_, kind) in zip(columns, kinds, strict=True)]
    parquet.write_table(pa.table(arrays, names=[name for name, _ in kinds]), tmp_path / "m.parquet")
    found = [tuple(row.values()) for row in read(tmp_path / "m.parquet")]
    assert found == [(name, i, f, t or None) for name, i, f, t in rows]


def test_without_pyarrow_the_install_command_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, b"", "m.parquet")
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path\n"
        "from patchwise.errors import MissingExtra\n"
        "from patchwise.metadata import open_metadata\n"
        "try: open_metadata(Path(sys.argv[1]))\n"
        "except MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert "pip install 'patchwise[parquet]'" in done.stdout


def test_what_excel_and_others_write_before_the_names(tmp_path: Path) -> None:
    for before in ("sep=;\n", '"sep=;"\r\n', "\ufeffsep=;\n\n", "\n\n", " \n"):
        assert read(written(tmp_path, before + "path;a,b\n1.jpg;2\n")) == [{"path": "1.jpg", "a,b": 2}]
    with pytest.raises(UsageError, match="line 4 cannot be read as CSV"):
        open_metadata(written(tmp_path, 'sep=;\npath;a\n1.jpg;2\n2.jpg;"x"y\n'))


def test_names_of_columns_over_several_lines(tmp_path: Path) -> None:
    path = written(tmp_path, 'path,"list\nprice","b"\n1.jpg,2,3\n')
    assert open_metadata(path).columns == ("list\nprice", "b")
    assert read(path) == [{"path": "1.jpg", "list\nprice": 2, "b": 3}]


def test_quotes_between_tabs(tmp_path: Path) -> None:
    bare = written(tmp_path, 'path\tsize\n1.jpg\t"x\n2.jpg\t12"\n3.jpg\t"a" b\n', "m.tsv")
    assert [row["size"] for row in read(bare)] == ['"x', '12"', '"a" b']
    quoted = written(tmp_path, 'path\tsize\n1.jpg\t"a\tb"\n2.jpg\t"c\nd"\n', "m.tsv")
    assert [row["size"] for row in read(quoted)] == ["a\tb", "c\nd"]
    with pytest.raises(UsageError, match="3 values in line 2, but 2 in the first"):
        open_metadata(written(tmp_path, "path\ta\n1.jpg\t2\t3\n", "m.tsv"))


def test_names_of_columns_have_one_form_of_unicode(tmp_path: Path) -> None:
    decomposed, composed = "pre\u0301nom", "pr\u00e9nom"
    path = written(tmp_path, f"path,{decomposed}\n1.jpg,x\n")
    assert open_metadata(path).columns == (composed,)
    parquet.write_table(pa.table({"path": ["a"], decomposed: ["x"]}), tmp_path / "m.parquet")
    assert read(tmp_path / "m.parquet") == [{"path": "a", composed: "x"}]
    with pytest.raises(UsageError, match="more than one column is called"):
        open_metadata(written(tmp_path, f"path,{decomposed},{composed}\n1.jpg,x,y\n"))


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (pa.array([9.99, 0.1], pa.float32()), [9.99, 0.1]),
        (pa.array([9.99, 0.1], pa.float64()), [9.99, 0.1]),
        (pa.array([1.5, 0.1]).cast(pa.float16(), safe=False), [1.5, 0.1]),
        (pa.array([float("inf"), float("nan")]), [None, None]),
        (pa.array([-float("inf"), 2.0], pa.float32()), [None, 2.0]),
        (pa.array([-(2**63), 2**63 - 1]), [-(2**63), 2**63 - 1]),
        (pa.array([Decimal(2**60 + 1), Decimal(-(2**63))], pa.decimal128(38, 0)), [2**60 + 1, -(2**63)]),
        (pa.array([Decimal("9.99"), Decimal("-0.10")]), [9.99, -0.1]),
        (
            pa.array([0, 3_600_000_000], pa.timestamp("us", "Europe/Berlin")),
            ["1970-01-01T00:00:00+00:00", "1970-01-01T01:00:00+00:00"],
        ),
    ],
)
def test_numbers_and_times_of_parquet(tmp_path: Path, values: Any, kept: list[Any]) -> None:
    parquet.write_table(pa.table({"path": ["a", "b"], "x": values}), tmp_path / "m.parquet")
    found = [row["x"] for row in read(tmp_path / "m.parquet")]
    assert found == kept and [type(value) for value in found] == [type(value) for value in kept]


def test_the_smallest_whole_number(tmp_path: Path) -> None:
    assert column(tmp_path, "-9223372036854775808") == [-(2**63)]
    assert column(tmp_path, "-9223372036854775809") == ["-9223372036854775809"]
