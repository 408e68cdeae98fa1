"""The answer to a query: a list of hits that knows what was asked, and shows itself as pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, SupportsIndex, overload

from patchwise.search import Hit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from patchwise.indexing import QueryPart

__all__ = ["Hits"]


class Hits(list[Hit]):
    """Hits, best first, and the `parts` of the query that found them; a slice of hits is hits.

    In a notebook they show as pictures with their boxes.
    """

    parts: tuple[QueryPart, ...] = ()

    def __init__(self, hits: Iterable[Hit] = (), parts: Iterable[QueryPart] = ()) -> None:
        super().__init__(hits)
        self.parts = tuple(parts)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Hit: ...

    @overload
    def __getitem__(self, place: slice) -> Hits: ...

    def __getitem__(self, place: SupportsIndex | slice) -> Hit | Hits:
        if isinstance(place, slice):
            return Hits(super().__getitem__(place), self.parts)
        return super().__getitem__(place)

    def copy(self) -> Hits:
        """The same hits of the same query in another list."""
        return Hits(self, self.parts)

    def plot(self, *, columns: int = 5, most: int = 20, width: float = 12.0) -> Figure:
        """Draw the query and at most `most` hits with their boxes, `columns` in a row, `width` inches wide.

        The figure shows itself in a notebook, and `savefig` writes it to a file.

        Raises:
            UsageError: fewer than one column or hit, or no width.
            MissingExtra: matplotlib is not installed.
        """
        from patchwise.report.figures import plot_hits

        return plot_hits(self, self.parts, columns=columns, most=most, width=width)

    def _repr_html_(self) -> str:
        from patchwise.report.notebook import hits_html

        return hits_html(self, self.parts)
