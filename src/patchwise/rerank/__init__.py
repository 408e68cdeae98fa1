"""Is a second look worth it? Re-rankers of the best hits behind one protocol."""

from patchwise.rerank.base import Question, Reranker, Setting, chain, renumbered
from patchwise.rerank.refine import Refine
from patchwise.rerank.registry import RERANKERS, parse_rerankers, rerankers

__all__ = [
    "RERANKERS",
    "Question",
    "Refine",
    "Reranker",
    "Setting",
    "chain",
    "parse_rerankers",
    "renumbered",
    "rerankers",
]
