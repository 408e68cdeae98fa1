"""What is taken for the vectors once these are gone."""

from __future__ import annotations

import numpy as np
import pytest

from patchwise.codecs import train_codec


@pytest.mark.parametrize("name", ["fastscan:4", "pq:4", "opq:4", "ivf:4:2", "SQ4", "Flat"])
def test_decoded_vectors_of_unit_length(name: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codec = train_codec(name, vectors)
    codes = codec.encode(vectors)
    decoded = codec.decode(codes).astype(np.float64)
    expected = decoded / np.sqrt((decoded**2).sum(axis=1))[:, None]
    found = codec.vectors(codes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert codec.vectors(codes[:0]).shape == (0, 16)


def test_a_code_that_decodes_to_nothing() -> None:
    vectors = np.zeros((4, 16), dtype=np.float32)
    codec = train_codec("Flat", vectors)
    np.testing.assert_array_equal(codec.vectors(codec.encode(vectors)), vectors)
