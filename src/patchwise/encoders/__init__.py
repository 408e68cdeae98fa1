"""What a region looks like: frozen backbones behind one protocol, and the whitening of their vectors."""

from patchwise.encoders.base import Encoder, encoder_record
from patchwise.encoders.registry import encoder_ids, load_backbone, load_encoder
from patchwise.encoders.whitening import Whitened, Whitening
from patchwise.encoders.whitening_prior import WhiteningPrior

__all__ = [
    "Encoder",
    "Whitened",
    "Whitening",
    "WhiteningPrior",
    "encoder_ids",
    "encoder_record",
    "load_backbone",
    "load_encoder",
]
