"""The manifest: what a gallery was made with, so that vectors of two kinds never meet."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from patchwise.errors import GalleryDamaged, GalleryMismatch

__all__ = ["MANIFEST", "Manifest"]

MANIFEST = "manifest.json"
_FORMAT = "patchwise-gallery"
_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """`encoder` is the record of `patchwise.encoders.encoder_record`; `whitening` is "shipped" or "gallery".

    `compression` is what the gallery was asked to be compressed with, empty where it never was; and, where only codes
    are kept, what is known of their making.
    """

    encoder: Mapping[str, str | int]
    regions: str
    whitening: str
    created: str
    patchwise: str
    compression: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        return int(self.encoder["dimension"])

    def write(self, folder: Path) -> None:
        """Replace the manifest of a gallery in one step."""
        content = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        temporary = folder / (MANIFEST + ".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / MANIFEST)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a gallery.

        Raises:
            GalleryDamaged: not readable as a manifest.
            GalleryMismatch: written by a newer patchwise.
            PermissionError: it may not be read.
        """
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"format is {content['format']!r}")
            version = int(content["version"])
            if version > _VERSION:
                raise GalleryMismatch(
                    f"{folder}: written by patchwise {content.get('patchwise', '?')} (gallery format {version}); "
                    f"this version reads up to {_VERSION}. Upgrade: pip install -U patchwise"
                )
            encoder = {str(key): value for key, value in content["encoder"].items()}
            if not isinstance(encoder["dimension"], int) or encoder["dimension"] < 1:
                raise ValueError("encoder dimension is no positive number")
            return cls(
                encoder,
                str(content["regions"]),
                str(content["whitening"]),
                str(content["created"]),
                str(content["patchwise"]),
                dict(content.get("compression", {})),
            )
        except PermissionError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GalleryDamaged(
                f"{path}: not a readable manifest ({error}). Restore it from a backup, or delete {folder} and "
                "index again"
            ) from error
