"""Which images, and where: searchers behind one protocol, hits, and explanations."""

from patchwise.search.base import (
    MATCH_BELOW,
    Candidates,
    Explanation,
    Geometry,
    Hit,
    PictureSource,
    RegionScore,
    Searcher,
)
from patchwise.search.code_index import CodeIndex
from patchwise.search.collapse import collapsed, in_place, unrelated_likeness
from patchwise.search.compressed import CompressedSearcher
from patchwise.search.exact import ExactSearcher
from patchwise.search.expansion import best_regions, expanded, expanding, merged
from patchwise.search.fusion import FUSIONS, fused_search, hit_of
from patchwise.search.margins import Margins
from patchwise.search.ranking import explain, rank
from patchwise.search.significance import Background

__all__ = [
    "FUSIONS",
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
    "PictureSource",
    "RegionScore",
    "Searcher",
    "best_regions",
    "collapsed",
    "expanded",
    "expanding",
    "explain",
    "fused_search",
    "hit_of",
    "in_place",
    "merged",
    "rank",
    "unrelated_likeness",
]
