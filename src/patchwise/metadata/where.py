"""Reading a condition such as `brand = 'Acme' and year >= 2019`: parsed, and never evaluated as Python."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from patchwise.errors import UsageError
from patchwise.metadata import conditions
from patchwise.metadata.conditions import Comparison, IsNull, Like, Negation, Node, Within, conditioned
from patchwise.metadata.values import is_kept
from patchwise.store import Condition, MetadataValue

if TYPE_CHECKING:
    from lark import Lark, UnexpectedInput

__all__ = ["MOST_CHARACTERS", "MOST_PATTERN_BYTES", "MOST_TESTS", "check_where", "fitting"]

MOST_CHARACTERS = 20_000
MOST_TESTS = 500
MOST_PATTERN_BYTES = 50_000  # of SQLite
_DEEPEST = 16  # `and` within `or` within `and`; what SQLite's parser has room for
_SHOWN = 20

_GRAMMAR = r"""
?start: either
?either: both (OR both)*
?both: one (AND one)*
?one: NOT one -> negation
    | "(" either ")"
    | column COMPARISON value -> comparison
    | column IN "(" value ("," value)* ")" -> within
    | column NOT IN "(" value ("," value)* ")" -> not_within
    | column LIKE TEXT -> like
    | column NOT LIKE TEXT -> not_like
    | column IS NULL -> is_null
    | column IS NOT NULL -> is_not_null
column: NAME | QUOTED
value: TEXT | NUMBER | TRUE | FALSE

AND.2: /and(?!\w)/i
OR.2: /or(?!\w)/i
NOT.2: /not(?!\w)/i
IN.2: /in(?!\w)/i
LIKE.2: /like(?!\w)/i
IS.2: /is(?!\w)/i
NULL.2: /null(?!\w)/i
TRUE.2: /true(?!\w)/i
FALSE.2: /false(?!\w)/i
COMPARISON: "<=" | ">=" | "<>" | "!=" | "=" | "<" | ">"
NAME: /[^\W\d][\w\u0300-\u036f\u3099\u309a]*/
QUOTED: /"([^"]|"")+"/
TEXT: /'([^']|'')*'/
NUMBER: /[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?(?!\w)/i
%ignore /\s+/
"""
_WORDS = {
    "NAME": "a column",
    "QUOTED": "a column",
    "TEXT": "a text in single quotes",
    "NUMBER": "a number",
    "TRUE": "true",
    "FALSE": "false",
    "COMPARISON": "one of = != < <= > >=",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": ",",
    "$END": "the end",
}
_SAID_FIRST = ("a column", "one of = != < <= > >=", "a text in single quotes", "a number")


def fitting(where: str, columns: Mapping[str, int]) -> Condition:
    """The condition that says which files fit, for a gallery with these columns: number of each by name.

    Raises:
        UsageError: it cannot be read, or names a column that is not known.
    """
    return conditioned(_parsed(where), columns)


def check_where(where: str) -> None:
    """Read a condition, whatever the columns are.

    Raises:
        UsageError: it cannot be read.
    """
    _parsed(where)


@lru_cache(maxsize=64)
def _parsed(where: str) -> Node:
    if len(where) > MOST_CHARACTERS:
        raise UsageError(f"where: {len(where):,} characters are more than {MOST_CHARACTERS:,}")
    try:
        where.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"where: what stands at character {error.start + 1} is no text") from error
    if not where.strip():
        raise UsageError("where: the condition is empty; write one such as brand = 'Acme' and year >= 2019")
    from lark import UnexpectedInput

    try:
        node: Node = _parser().parse(where)  # type: ignore[assignment]
    except UnexpectedInput as error:
        raise UsageError(_complaint(where, error)) from error
    if node.size > MOST_TESTS:
        raise UsageError(f"where: {node.size:,} comparisons are more than {MOST_TESTS:,}; write `in (...)` for many")
    if node.depth > _DEEPEST:
        raise UsageError(f"where: more than {_DEEPEST} conditions lie within each other; write it with fewer brackets")
    return node


@cache
def _parser() -> Lark:
    from lark import Lark, Token, Transformer

    class Nodes(Transformer[Token, Node]):
        def column(self, found: list[Token]) -> str:
            token = found[0]
            name = str(token)[1:-1].replace('""', '"') if token.type == "QUOTED" else str(token)
            return unicodedata.normalize("NFC", name)

        def value(self, found: list[Token]) -> MetadataValue:
            token = found[0]
            if token.type == "TEXT":
                return str(token)[1:-1].replace("''", "'")
            return _number(token) if token.type == "NUMBER" else token.lower()

        def comparison(self, found: list[Any]) -> Node:
            column, operator, value = found
            return Comparison(column, "<>" if operator == "!=" else str(operator), value)

        def within(self, found: list[Any]) -> Node:
            column, _, *values = found
            return Within(column, tuple(values))

        def not_within(self, found: list[Any]) -> Node:
            column, _, _, *values = found
            return Negation(Within(column, tuple(values)))

        def like(self, found: list[Any]) -> Node:
            pattern = str(self.value(found[-1:]))
            if (size := len(pattern.encode())) > MOST_PATTERN_BYTES:
                raise UsageError(f"where: a pattern of {size:,} bytes is longer than {MOST_PATTERN_BYTES:,}")
            return Like(found[0], pattern)

        def not_like(self, found: list[Any]) -> Node:
            return Negation(self.like(found))

        def is_null(self, found: list[Any]) -> Node:
            return IsNull(found[0])

        def is_not_null(self, found: list[Any]) -> Node:
            return Negation(self.is_null(found))

        def negation(self, found: list[Any]) -> Node:
            inner = found[-1]
            return inner.inner if isinstance(inner, Negation) else Negation(inner)

        def both(self, found: list[Any]) -> Node:
            return conditions.All(found[::2])

        def either(self, found: list[Any]) -> Node:
            return conditions.Any(found[::2])

    # With the transformer inside, no tree is walked: brackets may be as deep as they like.
    return Lark(_GRAMMAR, parser="lalr", transformer=Nodes())


def _number(text: str) -> int | float:
    if len(text) <= 20 and text.lstrip("+-").isdecimal() and is_kept(int(text)):
        return int(text)
    return float(text)


def _complaint(where: str, error: UnexpectedInput) -> str:
    """What is wrong, at which character, and what was expected there."""
    from lark import UnexpectedCharacters, UnexpectedToken

    expected: Iterable[str] = ()
    at = len(where)
    if isinstance(error, UnexpectedToken):
        expected = error.accepts or error.expected
        at = len(where) if error.token.type == "$END" else error.token.start_pos or 0
    elif isinstance(error, UnexpectedCharacters):
        expected, at = error.allowed or (), error.pos_in_stream or 0
    words = {_WORDS.get(name, name.lower()) for name in expected}
    listed = ", ".join(sorted(words, key=lambda word: (word not in _SAID_FIRST, word)))
    found = where[at : at + _SHOWN].split()
    what = f"{found[0]!r} is not understood" if found else "something is missing"
    return f"where: at character {at + 1}, {what}: expected {listed}{_hint(where, at, words)}"


def _hint(where: str, at: int, expected: set[str]) -> str:
    left = where[at:]
    if left.startswith("'") and "'" not in left[1:]:
        return ". The text that begins there has no closing quote; a quote within it is written twice"
    if "a column" in expected and where[:at].rstrip()[-3:].lower() == "not" and left[:1] not in ("(", ""):
        return '. A column that is called not stands in double quotes: "not" = 1'
    if "a text in single quotes" not in expected or not left:
        return ""
    if left[:4].lower() == "null":
        return ". What is missing is found by: is null"
    return ". Texts stand in single quotes: 'Acme'" if left[0] == '"' or left[0].isalpha() else ""
