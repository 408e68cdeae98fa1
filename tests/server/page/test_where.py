"""Conditions that the filters write, read by the parser that they are for."""

from __future__ import annotations

from typing import Any

import pytest

from patchwise.metadata import fitting

from .conftest import Call

ODD_NAMES = ["brand", "Größe", "a b", 'say "x"', "and", "NOT", "2nd", "_x", "a-b", "'", "is", "x.y", "true"]
ODD_VALUES = ["Acme", "O'Neil", "''", "a and b", "(x)", '"', "", "1999", "x' or 'y' = 'y"]


def written(evaluate: Call, columns: dict[str, dict[str, Any]], others: tuple[str, ...] = ()) -> str:
    where: str = evaluate(
        """async ([columns, others]) =>
            (await import("/page/where.js")).writeWhere({columns: new Map(columns), others})""",
        [list(map(list, columns.items())), list(others)],
    )
    return where


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_column_and_value_is_quoted_so_that_the_parser_reads_it(call: Call, name: str) -> None:
    column = call("where.js", "quoteColumn", name)
    for value in [*ODD_VALUES, 3, -1.5, 1e21]:
        where = f"{column} = {call('where.js', 'quoteValue', value)}"
        condition = fitting(where, {name: 4})
        assert condition.parameters[-1] == value
        assert "c4" in condition.sql
        assert call("where.js", "readWhere", where)["columns"] == {name: {"values": [value], "from": None, "to": None}}


def test_choices_become_one_condition_and_come_back(evaluate: Call, call: Call) -> None:
    columns = {
        "shop name": {"values": ["O'Neil", "b"], "from": None, "to": None},
        "year": {"values": [], "from": 1999, "to": 2010.5},
        "brand": {"values": ["Acme"], "from": None, "to": None},
    }
    where = written(evaluate, columns)
    assert where == """"shop name" in ('O''Neil', 'b') and year >= 1999 and year <= 2010.5 and brand = 'Acme'"""
    fitting(where, {name: number for number, name in enumerate(columns)})
    assert call("where.js", "readWhere", where) == {"columns": columns, "others": []}


@pytest.mark.parametrize(
    ("where", "columns", "others"),
    [
        ("", [], []),
        ("year>=1999 AND name like '%and%'", ["year"], ["name like '%and%'"]),
        ("brand = 'a' or brand = 'b'", [], ["brand = 'a' or brand = 'b'"]),
        ("(brand = 'a' or x = 1) and year <= 3", ["year"], ["(brand = 'a' or x = 1)"]),
        ("not brand = 'a' and brand in ('b')", ["brand"], ["not brand = 'a'"]),
        ("brand = 'a' and brand = 'b'", ["brand"], ["brand = 'b'"]),
        ("brand is null", [], ["brand is null"]),
        ("brand in ('a',)", [], ["brand in ('a',)"]),
        ("year > 3 and year != 4", [], ["year > 3", "year != 4"]),
    ],
)
def test_what_is_no_choice_is_kept_as_it_was_written(
    call: Call, where: str, columns: list[str], others: list[str]
) -> None:
    found = call("where.js", "readWhere", where)
    assert (list(found["columns"]), found["others"]) == (columns, others)


@pytest.mark.parametrize("where", ["brand = 'a", "and", "(a = 1", "a = 1) and (b = 2", "a = 1 and", "a ? 1"])
def test_what_cannot_be_split_is_left_alone(call: Call, where: str) -> None:
    assert call("where.js", "readWhere", where) is None


def test_what_was_written_by_hand_stays_one_condition_beside_choices(evaluate: Call, call: Call) -> None:
    by_hand = "a = 1 or b = 'x or y'"
    assert written(evaluate, {}, (by_hand,)) == by_hand
    where = written(evaluate, {"year": {"values": [], "from": 3, "to": None}}, (by_hand,))
    assert where == f"year >= 3 and ({by_hand})"
    assert call("where.js", "readWhere", where)["others"] == [f"({by_hand})"]
