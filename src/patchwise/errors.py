"""The error tree: every failure a caller can act on.

PatchwiseError                  anything below; the message says what, which file, what to do
├── UsageError                  the call itself makes no sense (also a ValueError)
│   ├── BoxError                a box that is inside out, empty or outside its image
│   └── RegionsError            a region strategy string that cannot be read
├── ImageError                  one image cannot be used
│   ├── ImageUnreadable         missing, not an image, corrupt or truncated
│   └── ImageTooLarge           more pixels than the limit allows
├── EncoderError                an encoder is unknown or cannot be loaded or returned nonsense
├── GalleryError                a gallery cannot be used
│   ├── GalleryNotFound         nothing there
│   ├── GalleryExists           create() where a gallery already stands
│   ├── GalleryMismatch         made with another encoder, other regions or a newer patchwise
│   ├── GalleryDamaged          files missing, cut short or altered
│   ├── GalleryBusy             another process is writing
│   └── StorageFull             the disk refused a write; what was committed is safe
├── ResultsError                a saved run or file of results cannot be read or does not fit
├── BenchmarkError              files of a benchmark are missing or contradict each other
├── ServerError                 a patchwise server cannot be reached, or turns a request away
└── MissingExtra                an optional package is needed
"""

from __future__ import annotations

__all__ = [
    "BenchmarkError",
    "BoxError",
    "EncoderError",
    "GalleryBusy",
    "GalleryDamaged",
    "GalleryError",
    "GalleryExists",
    "GalleryMismatch",
    "GalleryNotFound",
    "ImageError",
    "ImageTooLarge",
    "ImageUnreadable",
    "MissingExtra",
    "PatchwiseError",
    "RegionsError",
    "ResultsError",
    "ServerError",
    "StorageFull",
    "UsageError",
]


class PatchwiseError(Exception):
    """Base of every error that patchwise raises on purpose."""


class UsageError(PatchwiseError, ValueError):
    """The arguments of a call make no sense together or on their own."""


class BoxError(UsageError):
    """A box is inside out, empty, not finite or lies outside its image."""


class RegionsError(UsageError):
    """A region strategy string names no strategy or has a bad parameter."""


class ImageError(PatchwiseError):
    """One image cannot be used; `reason` is the part after the file's name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class ImageUnreadable(ImageError):
    """The file is missing, is no image, or is corrupt or truncated."""


class ImageTooLarge(ImageError):
    """The image has more pixels than the limit against decompression bombs."""


class EncoderError(PatchwiseError):
    """An encoder is unknown, cannot be loaded, or returned unusable vectors."""


class GalleryError(PatchwiseError):
    """A gallery cannot be used."""


class GalleryNotFound(GalleryError):
    """There is no gallery at the given place."""


class GalleryExists(GalleryError):
    """A gallery, or something else, already stands where one should be created."""


class GalleryMismatch(GalleryError):
    """The gallery was made with another encoder, other regions or a newer patchwise."""


class GalleryDamaged(GalleryError):
    """Files of the gallery are missing, cut short or altered."""


class GalleryBusy(GalleryError):
    """Another process is writing to the gallery."""


class StorageFull(GalleryError):
    """The disk refused a write; everything committed before is safe."""


class ResultsError(PatchwiseError):
    """A saved run or a file of results cannot be read, or does not fit its benchmark."""


class BenchmarkError(PatchwiseError):
    """The files of a benchmark are missing, cannot be read, or contradict each other."""


class ServerError(PatchwiseError):
    """A patchwise server cannot be reached, turns a request away, or does not answer as one."""


class MissingExtra(PatchwiseError):
    """An optional package is needed; the message holds the install command."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'patchwise[{extra}]'")
        self.extra = extra
