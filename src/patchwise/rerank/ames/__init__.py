"""AMES: local descriptors of two images matched by a transformer; needs torch, and h5py for files of descriptors."""

from patchwise.rerank.ames.descriptors import Attention, DescriptorSet, extract, load_attention
from patchwise.rerank.ames.files import read_descriptors, write_descriptors
from patchwise.rerank.ames.network import Matcher, MatcherShape, load_matcher
from patchwise.rerank.ames.reranker import BINARY, FULL, Ames, Mixture

__all__ = [
    "BINARY",
    "FULL",
    "Ames",
    "Attention",
    "DescriptorSet",
    "Matcher",
    "MatcherShape",
    "Mixture",
    "extract",
    "load_attention",
    "load_matcher",
    "read_descriptors",
    "write_descriptors",
]
