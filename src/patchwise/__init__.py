"""Find every image in a collection that shows the same object, and show where."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from patchwise._version import __version__

if TYPE_CHECKING:
    from patchwise.client import Client
    from patchwise.errors import PatchwiseError
    from patchwise.gallery import Gallery, GalleryInfo, QueryResult
    from patchwise.hits import Hits
    from patchwise.indexing import QueryPart
    from patchwise.search import Explanation, Hit, RegionScore

__all__ = [
    "Client",
    "Explanation",
    "Gallery",
    "GalleryInfo",
    "Hit",
    "Hits",
    "PatchwiseError",
    "QueryPart",
    "QueryResult",
    "RegionScore",
    "__version__",
]

_HOMES = {
    "Client": "patchwise.client",
    "Explanation": "patchwise.search",
    "Gallery": "patchwise.gallery",
    "GalleryInfo": "patchwise.gallery",
    "Hit": "patchwise.search",
    "Hits": "patchwise.hits",
    "PatchwiseError": "patchwise.errors",
    "QueryPart": "patchwise.indexing",
    "QueryResult": "patchwise.gallery",
    "RegionScore": "patchwise.search",
}


def __getattr__(name: str) -> object:
    # Loaded on first use, so that `import patchwise` and `patchwise --help` stay instant.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'patchwise' has no attribute {name!r}")
