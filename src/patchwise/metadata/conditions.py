"""What a condition consists of, and what SQLite reads instead.

The logic is that of SQL: a comparison with a value that is missing, or that is text where a number is asked for or the
other way round, is unknown; so is its negation, and only what is true fits.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Protocol

from patchwise.errors import UsageError
from patchwise.store import Condition, MetadataValue

__all__ = ["All", "Any", "Comparison", "IsNull", "Like", "Negation", "Node", "Within", "conditioned"]

# What a file is called is known of every file; a column of the user's own with the name `name` takes precedence.
_OF_FILES = {"path": "CAST(path AS TEXT)", "name": "file_name(path)"}
_NEGATED = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_NAMED = 20

Truth = bool | None


class Node(Protocol):
    """A condition: either a test of one column or made of others."""

    @property
    def depth(self) -> int:
        """How many conditions lie within each other."""
        ...

    @property
    def size(self) -> int:
        """How many tests there are."""
        ...

    def sql(self, negated: bool, columns: Columns) -> str:
        """The condition or its negation in SQL; its values are handed to `columns` in order."""
        ...

    def undescribed(self, columns: Columns) -> frozenset[Truth]:
        """What it may be for a file that nothing is known of but its path."""
        ...


class Columns:
    """Columns by name as SQL reads them, and the parameters that were bound so far."""

    def __init__(self, known: Mapping[str, int]) -> None:
        self._known = {unicodedata.normalize("NFC", name): number for name, number in known.items()}
        self.parameters: list[MetadataValue] = []
        self.reads_metadata = False

    def is_described(self, name: str) -> bool:
        """Whether a column is the user's own.

        Raises:
            UsageError: there is none with this name.
        """
        if name not in self._known and name not in _OF_FILES:
            raise UsageError(f"where: no column {name!r}; known are {self._names()}")
        return name in self._known

    def sql(self, name: str) -> str:
        """The column in SQL; raises the same."""
        if not self.is_described(name):
            return _OF_FILES[name]
        self.reads_metadata = True
        return f"c{self._known[name]}"

    def bind(self, *values: MetadataValue) -> str:
        """Question marks for values."""
        self.parameters += values
        return ", ".join("?" * len(values))

    def _names(self) -> str:
        names = sorted({*self._known, *_OF_FILES}, key=lambda name: (name in _OF_FILES, name))
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        return ", ".join(map(repr, names[:_NAMED])) + more


def conditioned(node: Node, known: Mapping[str, int]) -> Condition:
    """A condition as SQL over the columns of a gallery: number of each by name.

    Raises:
        UsageError: it names a column that is not known.
    """
    columns = Columns(known)
    sql = node.sql(False, columns)
    needed = columns.reads_metadata and True not in node.undescribed(columns)
    return Condition(sql, tuple(columns.parameters), columns.reads_metadata, needed)


@dataclass(frozen=True)
class _Test:
    """Something said of one column."""

    column: str
    depth = 0
    size = 1

    def undescribed(self, columns: Columns) -> frozenset[Truth]:
        return frozenset([None]) if columns.is_described(self.column) else frozenset([True, False, None])


@dataclass(frozen=True)
class Comparison(_Test):
    """`column operator value`; text is compared by code points, and so case-sensitively."""

    operator: str
    value: MetadataValue

    def sql(self, negated: bool, columns: Columns) -> str:
        column, operator = columns.sql(self.column), _NEGATED[self.operator] if negated else self.operator
        return f"CASE WHEN {_is_like(column, self.value)} THEN {column} {operator} {columns.bind(self.value)} END"


@dataclass(frozen=True)
class Within(_Test):
    """`column in (values)`: whether it equals one of those values that are text, or numbers, as it is itself."""

    values: tuple[MetadataValue, ...]

    def sql(self, negated: bool, columns: Columns) -> str:
        column, operator = columns.sql(self.column), "NOT IN" if negated else "IN"
        texts = [value for value in self.values if isinstance(value, str)]
        numbers = [value for value in self.values if not isinstance(value, str)]
        cases = (
            f"WHEN {_is_like(column, of_kind[0])} THEN {column} {operator} ({columns.bind(*of_kind)})"
            for of_kind in (texts, numbers)
            if of_kind
        )
        return f"CASE {' '.join(cases)} END"


@dataclass(frozen=True)
class Like(_Test):
    """`column like pattern`, of text only: `%` is anything, `_` one character, and A to Z are a to z."""

    pattern: str

    def sql(self, negated: bool, columns: Columns) -> str:
        column, operator = columns.sql(self.column), "NOT LIKE" if negated else "LIKE"
        return f"CASE WHEN {_is_like(column, '')} THEN {column} {operator} {columns.bind(self.pattern)} END"


@dataclass(frozen=True)
class IsNull(_Test):
    """Whether there is no value."""

    def sql(self, negated: bool, columns: Columns) -> str:
        return f"{columns.sql(self.column)} IS {'NOT ' if negated else ''}NULL"

    def undescribed(self, columns: Columns) -> frozenset[Truth]:
        return frozenset([columns.is_described(self.column)])


@dataclass(frozen=True)
class Negation:
    """`not inner`."""

    inner: Node

    @property
    def depth(self) -> int:
        return self.inner.depth

    @property
    def size(self) -> int:
        return self.inner.size

    def sql(self, negated: bool, columns: Columns) -> str:
        return self.inner.sql(not negated, columns)

    def undescribed(self, columns: Columns) -> frozenset[Truth]:
        return frozenset(None if truth is None else not truth for truth in self.inner.undescribed(columns))


class _Joined:
    """Conditions joined by `and` or by `or`: `decisive` is the truth of one that settles them all."""

    decisive: bool

    def __init__(self, parts: Iterable[Node]) -> None:
        joined = [part.parts if isinstance(part, type(self)) else (part,) for part in parts]
        self.parts: Sequence[Node] = tuple(chain.from_iterable(joined))
        self.depth = 1 + max(part.depth for part in self.parts)
        self.size = sum(part.size for part in self.parts)

    def sql(self, negated: bool, columns: Columns) -> str:
        # A chain without brackets: SQLite's parser has room for few of them within each other.
        word = "OR" if self.decisive != negated else "AND"
        return f" {word} ".join(self._bracketed(negated, columns))

    def _bracketed(self, negated: bool, columns: Columns) -> Iterator[str]:
        for part in self.parts:
            sql = part.sql(negated, columns)
            yield f"({sql})" if part.depth else sql

    def undescribed(self, columns: Columns) -> frozenset[Truth]:
        found: frozenset[Truth] = frozenset([not self.decisive])
        for part in self.parts:
            pairs = product(found, part.undescribed(columns))
            found = frozenset(self._joined(pair) for pair in pairs)
        return found

    def _joined(self, truths: tuple[Truth, Truth]) -> Truth:
        if self.decisive in truths:
            return self.decisive
        return None if None in truths else not self.decisive


class All(_Joined):
    """`part and part and ...`."""

    decisive = False


class Any(_Joined):
    """`part or part or ...`."""

    decisive = True


def _is_like(column: str, value: MetadataValue) -> str:
    """Whether a column holds text, or a number, as a value is one."""
    if column in _OF_FILES.values():  # always text, and not for nothing
        return "TRUE" if isinstance(value, str) else "FALSE"
    return f"typeof({column}) {'=' if isinstance(value, str) else '<>'} 'text'"
