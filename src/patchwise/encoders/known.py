"""Backbones that people know by a short name."""

ALIASES: dict[str, str] = {"dinov2-s": "hf:facebook/dinov2-small"}
