"""The rule that joins a region's score and the evidence of a projection."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.rerank.geometric.evidence import MOST_EVIDENCE, VERIFIED, WEIGHT, evidence, raised

scores = st.floats(-1, 1)
alarms = st.floats(-400, 30) | st.just(math.inf)


def test_by_hand() -> None:
    assert raised(0.5, -10.0) == pytest.approx(1 - 0.5 * math.exp(-10 * WEIGHT))
    assert evidence(-1e6) == MOST_EVIDENCE
    assert evidence(VERIFIED) == -VERIFIED


@given(scores, alarms)
def test_what_is_not_verified_keeps_its_score_and_what_is_gains(score: float, log_alarms: float) -> None:
    after = raised(score, log_alarms)
    if log_alarms > VERIFIED:
        assert after == pytest.approx(score, abs=1e-12)
    else:
        assert score <= after <= 1


@given(scores, scores, alarms, alarms)
def test_rises_with_the_score_and_with_the_evidence(one: float, other: float, few: float, many: float) -> None:
    low, high = sorted((one, other))
    many, few = sorted((few, many))
    assert raised(low, few) <= raised(high, few) + 1e-12
    assert raised(low, few) <= raised(low, many) + 1e-12
