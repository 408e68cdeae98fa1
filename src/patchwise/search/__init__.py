"""Which images, and where: searchers behind one protocol, hits, and explanations."""

from patchwise.search.base import Candidates, Explanation, Geometry, Hit, RegionScore, Searcher
from patchwise.search.code_index import CodeIndex
from patchwise.search.compressed import CompressedSearcher
from patchwise.search.exact import ExactSearcher
from patchwise.search.margins import Margins
from patchwise.search.ranking import explain, rank

__all__ = [
    "Candidates",
    "CodeIndex",
    "CompressedSearcher",
    "ExactSearcher",
    "Explanation",
    "Geometry",
    "Hit",
    "Margins",
    "RegionScore",
    "Searcher",
    "explain",
    "rank",
]
