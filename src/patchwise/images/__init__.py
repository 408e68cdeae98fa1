"""How pixels come in: decoding files, and cutting regions to the size an encoder takes."""

from patchwise.images.archive import read_bytes, split_tar_path, stat_image, tar_index
from patchwise.images.cut import RESAMPLING, SQUARE, Fit, cut_regions
from patchwise.images.decode import DEFAULT_MAX_PIXELS, Picture, fetch_url, read_picture
from patchwise.images.digest import DIGEST_BYTES, digest_of, with_digest
from patchwise.images.formats import image_suffixes, readable_formats

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "DIGEST_BYTES",
    "RESAMPLING",
    "SQUARE",
    "Fit",
    "Picture",
    "cut_regions",
    "digest_of",
    "fetch_url",
    "image_suffixes",
    "read_bytes",
    "read_picture",
    "readable_formats",
    "split_tar_path",
    "stat_image",
    "tar_index",
    "with_digest",
]
