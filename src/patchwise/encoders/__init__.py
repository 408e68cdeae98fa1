"""What a region looks like: frozen backbones behind one protocol, and linear maps of their vectors."""

from patchwise.encoders.base import ActivationEncoder, DenseEncoder, Encoder, TextEncoder, encoder_record
from patchwise.encoders.known import KnownEncoder
from patchwise.encoders.linear import LinearAdaptation
from patchwise.encoders.overview import FamilyState, KnownState, list_families, list_known
from patchwise.encoders.projection import Projected, Projection, activation_source, projected
from patchwise.encoders.registry import (
    canonical_id,
    encoder_families,
    load_backbone,
    load_encoder,
    same_encoder,
)
from patchwise.encoders.spec import EncoderOptions, EncoderSpec
from patchwise.encoders.whitening import Whitening
from patchwise.encoders.whitening_prior import WhiteningPrior

__all__ = [
    "ActivationEncoder",
    "DenseEncoder",
    "Encoder",
    "EncoderOptions",
    "EncoderSpec",
    "FamilyState",
    "KnownEncoder",
    "KnownState",
    "LinearAdaptation",
    "Projected",
    "Projection",
    "TextEncoder",
    "Whitening",
    "WhiteningPrior",
    "activation_source",
    "canonical_id",
    "encoder_families",
    "encoder_record",
    "list_families",
    "list_known",
    "load_backbone",
    "load_encoder",
    "projected",
    "same_encoder",
]
