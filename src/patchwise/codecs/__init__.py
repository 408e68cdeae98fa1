"""How is a vector written in few bytes? Codecs learned from vectors, and the names they go by."""

from patchwise.codecs.choice import choose_codec
from patchwise.codecs.codec import Codec, load_codec
from patchwise.codecs.names import CodecName, parse_codec
from patchwise.codecs.training import TRAINING_VECTORS, train_codec

__all__ = ["TRAINING_VECTORS", "Codec", "CodecName", "choose_codec", "load_codec", "parse_codec", "train_codec"]
