"""Which images, and where: searchers behind one protocol, hits, and explanations."""

from patchwise.search.base import Candidates, Explanation, Hit, RegionScore, Searcher
from patchwise.search.exact import ExactSearcher
from patchwise.search.ranking import explain, rank

__all__ = ["Candidates", "ExactSearcher", "Explanation", "Hit", "RegionScore", "Searcher", "explain", "rank"]
