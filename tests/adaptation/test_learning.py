"""Learning from vectors whose nuisance is known: the layer finds it, the whitening cannot, and nothing is leaked."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from conftest import FakeEncoder
from patchwise.adaptation.examples import Examples
from patchwise.adaptation.learning import ALONE, LAYER, WHITENING, Subject, learn
from patchwise.adaptation.starts import as_it_is, check_dimension
from patchwise.adaptation.training import require_torch, train_layer
from patchwise.encoders import Whitening
from patchwise.encoders.builtin import shipped_prior
from patchwise.encoders.whitening import normalised
from patchwise.errors import EncoderError, MissingExtra, UsageError


def disturbed(pictures: int = 80, nuisance: float = 1.5, seed: int = 0) -> Examples:
    """Eight numbers say which region it is; eight others are new for every vector, as light is."""
    generator = np.random.default_rng(seed)
    regions, crops = [], []
    for _ in range(pictures):
        things = generator.normal(size=(5, 8))
        shown = things[generator.integers(5, size=4)]
        for target, what in ((regions, things), (crops, shown)):
            other = nuisance * generator.normal(size=what.shape)
            target.append(normalised(np.concatenate([what, other], axis=1).astype(np.float32)))
    return Examples.joined(regions, crops)


def quiet(_what: str, _done: int, _total: int) -> None:
    """Told of progress, and says nothing."""


def subject() -> Subject:
    return Subject(FakeEncoder(), normalised, 16)


@pytest.fixture(autouse=True)
def _torch(request: pytest.FixtureRequest) -> None:
    if "whitening" not in request.node.name and "torch" not in request.node.name:
        pytest.importorskip("torch")


def test_the_layer_learns_what_the_whitening_cannot_know() -> None:
    found = learn(subject(), disturbed(160), "linear", None, 0, quiet)
    figures = {name: one.average_precision.mean() for name, one in found.measured.items()}
    assert list(figures) == [ALONE, WHITENING, LAYER]
    assert figures[LAYER] > figures[ALONE] + 0.05 and figures[LAYER] > figures[WHITENING] + 0.05
    strength = np.linalg.norm(found.layer.weight, axis=0)
    assert strength[:8].mean() > 1.2 * strength[8:].mean()
    assert (found.pictures, found.held_out, len(found.groups)) == (120, 40, 160)


def test_where_there_is_nothing_to_learn_it_stays_where_it_began() -> None:
    """Crops that are their region find it already."""
    examples = disturbed(40, nuisance=0.0)
    found = learn(subject(), examples, "linear", None, 0, quiet)
    assert found.epochs == 0
    assert found.measured[LAYER].average_precision.mean() == found.measured[ALONE].average_precision.mean() == 1.0


def test_the_same_seed_gives_the_same_layer() -> None:
    layers = [learn(subject(), disturbed(), "linear", 12, seed, quiet).layer for seed in (3, 3, 4)]
    assert layers[0].sha256 == layers[1].sha256 != layers[2].sha256
    assert layers[0].dimension == 12


@pytest.mark.parametrize("method", ["linear", "whitening"])
def test_held_out_pictures_change_nothing_that_is_learned_whitening(method: str) -> None:
    if method == "linear":
        pytest.importorskip("torch")
    examples = disturbed(40)
    first = learn(subject(), examples, method, None, 0, quiet)
    held_out = np.unique(first.groups)
    assert len(held_out) == first.held_out == 10
    generator = np.random.default_rng(9)
    rows, crops = examples.rows_of(held_out), np.isin(examples.crop_of, held_out)
    for vectors, which in ((examples.regions, rows), (examples.crops, crops)):
        vectors[which] = normalised(generator.normal(size=vectors[which].shape).astype(np.float32))
    again = learn(subject(), examples, method, None, 0, quiet)
    assert again.layer.sha256 == first.layer.sha256
    assert again.measured[WHITENING].ranks.tolist() != first.measured[WHITENING].ranks.tolist()


def test_the_folded_layer_is_the_start_where_no_epoch_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchwise.adaptation.training.EPOCHS", 0)
    examples = disturbed(30)
    start = Whitening.learn(examples.regions, 10)
    trained = train_layer(examples, start, np.arange(4), np.zeros((30, 30), bool), seed=0, advance=quiet)
    assert trained.epochs == 0 and len(trained.history) == 1
    np.testing.assert_allclose(trained.layer.apply(examples.crops), start.apply(examples.crops), atol=1e-5)


def test_pictures_that_look_the_same_are_not_told_apart() -> None:
    """With all others ignored there is nothing to tell apart, and nothing is learned."""
    examples = disturbed(30)
    everyone = ~np.eye(30, dtype=bool)
    start = Whitening.learn(examples.regions, 10)
    trained = train_layer(examples, start, np.arange(4), everyone, seed=0, advance=quiet)
    assert trained.epochs == 0 and trained.history[0] == 1.0


def test_as_it_is_keeps_cosines_and_whitening_does_not() -> None:
    vectors = disturbed().crops[:20]
    same = as_it_is(vectors, 16).apply(vectors)
    np.testing.assert_allclose(same @ same.T, vectors @ vectors.T, atol=1e-5)
    flat = vectors[:, :8] @ np.eye(8, 16, dtype=np.float32)  # within eight axes
    fewer = as_it_is(normalised(flat), 8).apply(normalised(flat))
    np.testing.assert_allclose(fewer @ fewer.T, normalised(flat) @ normalised(flat).T, atol=1e-5)


def test_whitening_of_few_pictures_is_not_measured() -> None:
    found = learn(subject(), disturbed(6), "whitening", 4, 0, quiet)
    assert found.measured == {} and found.held_out == 0 and found.pictures == 6


def test_too_few_pictures_or_too_many_whitening_dimensions_are_refused() -> None:
    with pytest.raises(EncoderError, match=r"at least 20 pictures .* got 19; --method whitening"):
        learn(subject(), disturbed(19), "linear", None, 0, quiet)
    with pytest.raises(UsageError, match="dimension 17: this encoder has 16"):
        learn(subject(), disturbed(30), "whitening", 17, 0, quiet)
    with pytest.raises(
        EncoderError, match="learning 16 numbers needs more than 16 regions, got 15; name more pictures"
    ):
        learn(subject(), disturbed(3), "whitening", None, 0, quiet)
    with pytest.raises(UsageError):
        check_dimension(769, 1952, shipped_prior())  # it keeps 768 of them


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"--method whitening does without.*patchwise\[torch\]"):
        require_torch()
