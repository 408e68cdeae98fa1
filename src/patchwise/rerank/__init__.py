"""Is a second look worth it? Re-rankers of the best hits behind one protocol."""

from patchwise.rerank.base import Question, Reranker, chain, renumbered
from patchwise.rerank.refine import Refine

__all__ = ["Question", "Refine", "Reranker", "chain", "renumbered"]
