"""The codecs of the shards that hold codes: one file each, beside the shards, named by its digest."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

from patchwise.codecs import Codec, load_codec
from patchwise.errors import GalleryDamaged
from patchwise.store.files import HOW_TO_MEND, force_folder, total_size, writing

__all__ = ["CodecFiles"]

_DIGITS = 16
_PATTERN = "codec-*.safetensors"


class CodecFiles:
    """Codecs by digest, read from `codec-<first 16 digits>.safetensors` when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[str, Codec] = {}

    def path(self, digest: str) -> Path:
        """A codec's file."""
        return self._folder / f"codec-{digest[:_DIGITS]}.safetensors"

    def load(self, digest: str) -> Codec:
        """The codec with this digest.

        Raises:
            GalleryDamaged: its file is missing or altered.
        """
        codec = self._loaded.get(digest)
        if codec is None:
            if (complaint := self.complaint(digest)) is not None:
                raise GalleryDamaged(f"{self.path(digest)}: {complaint}. {HOW_TO_MEND}")
            codec = self._loaded[digest] = load_codec(self.path(digest))
        return codec

    def complaint(self, digest: str, *, afresh: bool = False) -> str | None:
        """What is wrong with a codec's file; `afresh` reads it again even where it was loaded before."""
        if digest in self._loaded and not afresh and self.path(digest).exists():
            return None
        self._loaded.pop(digest, None)
        try:
            content = self.path(digest).read_bytes()
        except FileNotFoundError:
            return "the codec is missing, without which its codes cannot be read"
        except OSError as error:
            return f"the codec cannot be read ({error.strerror or error})"
        if hashlib.sha256(content).hexdigest() != digest:
            return "the codec is not as it was written; its codes cannot be read with it"
        return None

    def keep(self, codec: Codec) -> None:
        """Write a codec, unless it is there, and force it to disk.

        Raises:
            StorageFull: the disk refused.
        """
        path = self.path(codec.digest)
        if self.complaint(codec.digest, afresh=True) is not None:
            codec.save(path)
        with writing(path):
            force_folder(self._folder)

    def bytes_on_disk(self) -> int:
        """Size of all codecs' files."""
        return total_size(self._folder.glob(_PATTERN))

    def remove_except(self, digests: Iterable[str]) -> None:
        """Delete the codecs that no shard needs; one in use elsewhere (Windows) is left for the next time."""
        needed = {self.path(digest) for digest in digests}
        for path in (*self._folder.glob(_PATTERN), *self._folder.glob(f".{_PATTERN}-*.new")):
            if path not in needed:
                with contextlib.suppress(PermissionError):
                    path.unlink(missing_ok=True)
