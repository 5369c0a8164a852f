"""Held-out documents and groups of items: their luck is in the intervals, once."""

import numpy as np
import pytest

from replay_jax.analysis.noise.documents import document_luck
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.task_scores import by_group, two_way_interval
from replay_jax.errors import UserError

CONFIG = AnalysisConfig({"protocol": "uniform"}, (), 0.9)
DOCUMENTS = 30


def with_documents(records, *, spread: float, seed: int = 0):
    """Records whose runs with replay gain `spread` nat more or less on each document."""
    rng = np.random.default_rng(seed)
    level, gain = 0.5 * rng.standard_normal(DOCUMENTS), spread * rng.standard_normal(DOCUMENTS)
    tokens = rng.integers(50, 150, DOCUMENTS)
    for r in records:
        loss = r["losses"]["target"] + level
        if r["protocol"] == "two_stage" and r["replay_fraction"]["requested"] > 0:
            loss = loss + gain
        total = float((loss * tokens).sum() / tokens.sum())
        r["losses"] = {**r["losses"], "target": total}
        # Two rows of each document, to be summed.
        r["loss_documents"] = {
            "target": {
                "document": [f"d{i}" for i in range(DOCUMENTS)] * 2,
                "nats": [*(loss * tokens / 2), *(loss * tokens / 2)],
                "tokens": [*(tokens / 2), *(tokens / 2)],
            }
        }
    return records


def gain_at_half(records):
    study = analyse(records, CONFIG, resamples=1000).target()
    cell = next(c for c in study.cells if c.key.replay_fraction == 0.5)
    return study, cell.gain


def small(**changes):
    return sweep(worth=lambda rho: 1 + rho, epochs=(16.0,), noise=0.005, **changes)


def test_documents_widen_the_gain_by_their_spread_and_leave_what_all_share():
    _, without = gain_at_half(small())
    study, same = gain_at_half(with_documents(small(), spread=0.0))
    _, wide = gain_at_half(with_documents(small(), spread=0.1))
    assert study.documents == DOCUMENTS
    width = [found.high - found.low for found in (without, same, wide)]
    assert width[1] == pytest.approx(width[0], rel=0.25)
    # .1 nat over 30 documents of uneven length: a standard error of about .019, 3.3 of them wide.
    assert 0.045 < width[2] < 0.095


def test_the_luck_of_documents_is_that_of_other_documents():
    """The spread of mean contrasts over fresh documents, as predicted from one set of them."""
    rng = np.random.default_rng(0)
    tokens = np.full(40, 100.0)

    def contrast():
        gains = 0.1 * rng.standard_normal(40)
        noise = 0.2 * rng.standard_normal((2, 3, 40))
        return [list((3 + noise[0]) * tokens), list((3 + gains + noise[1]) * tokens)], gains.mean()

    found, truth = [], []
    for _ in range(200):
        nats, mean = contrast()
        drawn = document_luck(nats, tokens).drawn(rng, resamples=200)
        found.append((drawn[:, 1] - drawn[:, 0]).var())
        truth.append(mean)
    # Without the interaction with seeds, which noise between seeds carries: .1 / sqrt(40).
    assert np.sqrt(np.mean(found)) == pytest.approx(np.std(truth), rel=0.15)
    assert document_luck([[np.ones(1)]], np.ones(1)) is None


def test_other_documents_and_means_for_sums_are_refused():
    records = with_documents(small(), spread=0.0)
    other = with_documents(small(), spread=0.0)
    other[3]["loss_documents"]["target"]["document"] = ["x"] * (2 * DOCUMENTS)
    with pytest.raises(UserError, match="other target documents"):
        analyse(other, CONFIG, resamples=10)
    found = records[0]["loss_documents"]["target"]
    found["nats"] = [n / t for n, t in zip(found["nats"], found["tokens"], strict=True)]
    with pytest.raises(UserError, match="nats are sums, not means"):
        analyse(records, CONFIG, resamples=10)


def test_items_of_a_group_count_as_one():
    """Twelve groups of twenty: intervals by item cover far too little."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 20)
    held = {"groups": 0, "items": 0}
    for _ in range(200):
        effect = 0.1 * rng.standard_normal(12)[groups]
        values = effect + 0.3 * rng.standard_normal((3, 240))
        for name, found in (("groups", by_group(values, groups)), ("items", values)):
            interval = two_way_interval(found, level=0.9)
            held[name] += interval.low <= 0 <= interval.high
    assert 170 <= held["groups"] <= 192 and held["items"] < 150


def test_values_by_group_keep_every_mean():
    values = np.random.default_rng(0).random((3, 10))
    groups = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
    np.testing.assert_allclose(by_group(values, groups).mean(axis=1), values.mean(axis=1))
    equal = np.repeat(np.arange(5), 2)
    np.testing.assert_allclose(
        by_group(values, equal), values.reshape(3, 5, 2).mean(axis=2), rtol=1e-12
    )
