"""Which files beside an ONNX file hold its larger tensors."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

__all__ = ["external_files"]

# The messages of onnx.proto on the way to TensorProto.external_data: field number -> message. Read here by hand, since
# the package that knows them all is many times the size of this one, and is needed for nothing else.
_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def external_files(model: Path) -> list[Path]:
    """The files that a model which onnxruntime has loaded keeps tensors in, sorted; none when it is in one piece.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no ONNX file.
    """
    locations: set[str] = set()
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _collect(data, 0, len(data), "Model", locations)
    return [model.parent / location for location in sorted(locations)]


def _collect(data: mmap.mmap, start: int, end: int, message: str, locations: set[str]) -> None:
    """Add the locations named in the message between two positions."""
    entry: dict[int, bytes] = {}
    while start < end:
        key, start = _varint(data, start)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, start = _varint(data, start)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            start += 8 if kind == _EIGHT_BYTES else 4
        elif kind == _LENGTH:
            length, start = _varint(data, start)
            inner = _MESSAGES.get(message, {}).get(field)
            if message == "Entry":
                entry[field] = data[start : start + length]
            elif inner is not None:
                _collect(data, start, start + length, inner, locations)
            start += length
        else:
            raise ValueError(f"no ONNX file: wire type {kind}")
    if entry.get(_KEY) == b"location":
        locations.add(entry.get(_VALUE, b"").decode())


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = data[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value, start
