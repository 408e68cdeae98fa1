"""How small can it be? Codebooks learned from a gallery, its codes written, and what they find measured."""

from patchwise.compression.calibrate import DEFAULT_RECALL
from patchwise.compression.keep import CodesDamaged, codes_searcher, keep_up
from patchwise.compression.report import CompressionInfo, CompressionReport, compression_info
from patchwise.compression.run import compress, compress_again
from patchwise.compression.training_sets import TRAINING_SETS

__all__ = [
    "DEFAULT_RECALL",
    "TRAINING_SETS",
    "CodesDamaged",
    "CompressionInfo",
    "CompressionReport",
    "codes_searcher",
    "compress",
    "compress_again",
    "compression_info",
    "keep_up",
]
