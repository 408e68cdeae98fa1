"""Which images, and where: searchers behind one protocol, hits, and explanations."""

from patchwise.search.base import MATCH_BELOW, Candidates, Explanation, Geometry, Hit, RegionScore, Searcher
from patchwise.search.code_index import CodeIndex
from patchwise.search.compressed import CompressedSearcher
from patchwise.search.exact import ExactSearcher
from patchwise.search.margins import Margins
from patchwise.search.ranking import explain, rank
from patchwise.search.significance import Background

__all__ = [
    "MATCH_BELOW",
    "Background",
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
