"""Is a second look worth it? Re-rankers of the best hits behind one protocol."""

from patchwise.rerank.base import Question, Reranker, chain, renumbered

__all__ = ["Question", "Reranker", "chain", "renumbered"]
