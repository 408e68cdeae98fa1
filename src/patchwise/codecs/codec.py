"""A codec: vectors to codes and back, and codes made ready to be scanned."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from patchwise.errors import GalleryDamaged, StorageFull
from patchwise.threads import in_threads
from patchwise.whole_files import whole_file

__all__ = ["Codec", "load_codec"]

_TENSOR = "index"
_ROWS_AT_ONCE = 4_096  # written or read by one call


@dataclass(frozen=True, eq=False)
class Codec:
    """A trained FAISS index without rows: `content` is its file, `name` what it was asked for by."""

    name: str
    content: bytes

    @classmethod
    def of(cls, name: str, index: Any) -> Codec:
        """The codec of a trained FAISS index."""
        import faiss
        from safetensors.numpy import save

        tensor = {_TENSOR: faiss.serialize_index(index)}
        # One entry, because several have no order of their own, and the same codec shall have the same digest.
        return cls(name, save(tensor, {"codec": name}))

    @cached_property
    def _index(self) -> Any:
        import faiss
        from safetensors.numpy import load

        return faiss.deserialize_index(load(self.content)[_TENSOR])

    @cached_property
    def _transform_and_inner(self) -> tuple[Any | None, Any]:
        """What is done to a vector first, and the quantiser proper."""
        import faiss

        index = self._index
        if isinstance(index, faiss.IndexPreTransform):
            return index, faiss.downcast_index(index.index)
        return None, index

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, as hex."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    @cached_property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return int(self._index.sa_code_size())

    @property
    def lists(self) -> int:
        """How many inverted lists codes are kept in; 0 where every code is looked at."""
        return int(getattr(self._transform_and_inner[1], "nlist", 0))

    def encode(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """(N, dimension) float32 to (N, code_bytes) uint8."""
        if not len(vectors):
            return np.empty((0, self.code_bytes), dtype=np.uint8)
        vectors, index = np.ascontiguousarray(vectors, dtype=np.float32), self._index
        return np.concatenate(list(in_threads(lambda part: index.sa_encode(vectors[part]), _parts(len(vectors)))))

    def decode(self, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, code_bytes) uint8 to (N, dimension) float32: the codebook's vectors, somewhat shorter than 1.

        Products with these are what a search of a `segment` gives. For a shortlist that vectors decide it makes no
        difference whether they are stretched to unit length; to rank by codes alone, `vectors` keep more of the exact
        ranking (measured by benchmarks/compression_quality.py).
        """
        if not len(codes):
            return np.empty((0, self.dimension), dtype=np.float32)
        codes, index = np.ascontiguousarray(codes), self._index
        return np.concatenate(list(in_threads(lambda part: index.sa_decode(codes[part]), _parts(len(codes)))))

    def vectors(self, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, code_bytes) uint8 to (N, dimension) float32 of unit length, which stand for vectors that are gone.

        A code that decodes to nothing stays zero.
        """
        decoded = self.decode(codes)
        lengths = np.linalg.norm(decoded, axis=1, keepdims=True)
        decoded /= np.where(lengths > 0, lengths, 1)
        return decoded

    def transformed(self, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(Q, dimension) queries as the segments take them."""
        transform, _ = self._transform_and_inner
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if transform is None or not len(queries):
            return queries
        import faiss

        for number in range(transform.chain.size()):
            queries = faiss.downcast_VectorTransform(transform.chain.at(number)).apply(queries)
        return queries

    def segment(self, codes: npt.NDArray[np.uint8]) -> Any:
        """A FAISS index over (N, code_bytes) codes that `transformed` queries search by inner product.

        Row i of the codes is number i of the index.
        """
        import faiss

        index = faiss.clone_index(self._transform_and_inner[1])
        if len(codes):
            index.add_sa_codes(np.ascontiguousarray(codes))
        if isinstance(index, faiss.IndexPQ) and index.pq.nbits == 4:
            return faiss.IndexPQFastScan(index)
        if isinstance(index, faiss.IndexIVFPQ) and index.pq.nbits == 4:
            fast = faiss.IndexIVFPQFastScan(index)
            # It goes on using the quantiser of the other, which thus stays, but without codes of its own.
            nothing = faiss.ArrayInvertedLists(index.nlist, index.code_size)
            index.replace_invlists(nothing, True)
            nothing.this.disown()
            return fast
        return index

    def save(self, path: Path) -> None:
        """Write the codec to a file, whole or not at all.

        Raises:
            StorageFull: the disk refused.
        """
        try:
            with whole_file(path) as place:
                place.write_bytes(self.content)
        except OSError as error:
            raise StorageFull(f"{path}: cannot be written ({error.strerror or error})") from error


def _parts(rows: int) -> list[slice]:
    return [slice(first, first + _ROWS_AT_ONCE) for first in range(0, rows, _ROWS_AT_ONCE)]


def load_codec(path: Path, digest: str | None = None) -> Codec:
    """Read a codec, which has this digest if one is given.

    Raises:
        GalleryDamaged: the file is missing, altered, or no codec.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = path.read_bytes()
        if digest is not None and hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("altered")  # before FAISS reads it, which trusts what it reads
        load(content)
        length = int.from_bytes(content[:8], "little")
        name = json.loads(content[8 : 8 + length])["__metadata__"]["codec"]
        codec = Codec(str(name), content)
        _ = codec.code_bytes
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise GalleryDamaged(f"{path}: not a readable codec ({reason}). Make it again: patchwise compress") from error
    return codec
