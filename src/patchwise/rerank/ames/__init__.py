"""AMES: local descriptors of two images matched by a transformer; needs torch, and h5py for files of descriptors."""

from patchwise.rerank.ames.describing import Describer, HitDescriptors, TokenEncoder
from patchwise.rerank.ames.descriptors import Attention, DescriptorSet, extract, load_attention
from patchwise.rerank.ames.files import DescriptorFile, read_descriptors, write_descriptors
from patchwise.rerank.ames.network import Matcher, MatcherShape, load_matcher
from patchwise.rerank.ames.reranker import BINARY, FULL, Ames, Mixture
from patchwise.rerank.ames.settings import AmesSettings, read_settings
from patchwise.rerank.ames.setup import ames_in

__all__ = [
    "BINARY",
    "FULL",
    "Ames",
    "AmesSettings",
    "Attention",
    "Describer",
    "DescriptorFile",
    "DescriptorSet",
    "HitDescriptors",
    "Matcher",
    "MatcherShape",
    "Mixture",
    "TokenEncoder",
    "ames_in",
    "extract",
    "load_attention",
    "load_matcher",
    "read_descriptors",
    "read_settings",
    "write_descriptors",
]
