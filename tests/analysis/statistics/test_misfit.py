"""Curves that no law fits: seen, and not carried by a law that misses them."""

import json

import numpy as np
import pytest
from places import ROOT

from replay_jax.analysis.statistics.efficiency import ReferencePoints
from replay_jax.analysis.statistics.misfit import Misfit, fitting_laws, misfit
from replay_jax.analysis.statistics.points import fit_points

X = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
PUBLISHED = ROOT / "experiments" / "published_points"
VARIANCES = np.full(5, 0.01**2 / 3)


def points(loss: np.ndarray) -> ReferencePoints:
    return ReferencePoints(X[: len(loss)], loss, np.ones(len(loss)))


def test_the_test_has_its_level_and_finds_a_bend():
    rng = np.random.default_rng(0)
    line = 3 - 0.3 * np.log(X)
    found = [
        misfit("log_linear", points(line + noise), VARIANCES, freedom=30).p < 0.1
        for noise in np.sqrt(VARIANCES) * rng.standard_normal((300, 5))
    ]
    assert 0.05 < np.mean(found) < 0.15
    bent = line - 0.06 * np.log(X) ** 2
    assert fitting_laws(points(bent), VARIANCES, freedom=30) == ("interpolation",)
    power = 2 / X**0.5 + 2
    assert "power" in fitting_laws(points(power), VARIANCES, freedom=30)
    assert "log_linear" not in fitting_laws(points(power), VARIANCES, freedom=30)


def test_points_without_any_noise_are_tested_too():
    """Seeds that do not differ make no law right; a true one is right to the fit's precision."""
    exact = np.zeros(5)
    bent = np.array([4.0, 3.9, 3.2, 3.15, 2.6])
    assert fitting_laws(points(bent), exact, freedom=10) == ("interpolation",)
    assert "power" in fitting_laws(points(2 / X**0.5 + 2), exact, freedom=10)
    assert "log_linear" in fitting_laws(points(3 - 0.3 * np.log(X)), exact, freedom=10)


def test_three_points_test_the_limit_of_the_power_law_only():
    """Losses that fall faster and faster put the power law at its limit: two parameters."""
    assert misfit("power", points(np.array([3.0, 2.9, 2.5])), VARIANCES[:3], freedom=20).rejected
    saturated = misfit("power", points(np.array([3.0, 2.5, 2.3])), VARIANCES[:3], freedom=20)
    assert saturated.p == 1.0


@pytest.mark.parametrize("pair", [(3.6, 1.8), (1.9, 1.15), (5.3, 4.0)])
def test_multipliers_on_a_bent_curve_hold_the_truth(pair):
    """StarCoder's published points as the truth, three seeds; a line held it in 19 to 41 %.

    The last pair begins where the curve bends: its cubic alone held the truth in half the studies.
    """
    reference = json.loads((PUBLISHED / "starcoder.json").read_text())["reference"]
    order = np.argsort(reference["x"])
    loss = np.array(reference["loss"])[order]
    truths = np.interp(np.log(pair), np.log(X), loss)
    rng = np.random.default_rng(1)
    held = 0
    for draw in range(20):
        own = 0.02 * rng.standard_normal((7, 3)) + 0.02 * rng.standard_normal(3)
        losses = np.concatenate([loss, truths])[:, None] + own
        result = fit_points(
            {
                "reference": {"x": X.tolist(), "loss": losses[:5].tolist()},
                "candidates": {"a": losses[5].tolist(), "b": losses[6].tolist()},
                "ratios": {"gain": ["a", "b"]},
            },
            resamples=300,
            seed=draw,
        )
        assert "read off between the measured budgets" in " ".join(result.notes)
        gain = result.ratios["gain"]
        held += (gain.low or 0) <= pair[0] / pair[1] <= (gain.high or np.inf)
    assert held >= 15  # of 20 at 90 %: fewer have odds of 1 in 90


def test_a_law_that_is_not_rejected_is_doubted_as_far_as_its_misfit_goes():
    """Kinks too small for the test are the curve in some resamples; on the line hardly any."""
    line = 3 - 0.1 * np.log(X)
    kinks = np.array([0.0, -0.02, 0.015, -0.02, 0.02])
    own = 0.03 * np.sin(7 * np.arange(15)).reshape(5, 3)
    seeds = own - own.mean(axis=1, keepdims=True)

    def share(loss: np.ndarray) -> float:
        given = {"x": X.tolist(), "loss": (loss[:, None] + seeds).tolist()}
        found = fit_points({"reference": given, "candidates": {}}, resamples=400)
        assert found.law_name == "log_linear"
        return found.curve.name_shares.get("interpolation", 0.0)

    assert share(line) < 0.1 < 0.4 < share(line + 0.75 * kinks) < 0.8


def test_how_far_a_law_is_doubted_follows_from_the_f_distribution():
    rng = np.random.default_rng(0)
    for f in (0.0, 1.0, 4.0, 1e6):
        doubt = Misfit(p=0.5, f=f, spare=3, freedom=30.0, excess=0.0)
        draws = f / rng.f(3, 30.0, size=100_000)
        exact = np.mean(np.where(draws > 1, 1 - 1 / np.maximum(draws, 1e-9), 0.0))
        assert doubt.read_off(rng, resamples=20_000).mean() == pytest.approx(exact, abs=0.015)
    assert not Misfit(1.0, 0.0, 0, 30.0, 0.0).read_off(rng, resamples=50).any()


def test_outside_a_curve_without_a_law_no_amount_is_named():
    loss = np.array([4.0, 3.98, 3.9, 3.6, 2.9])
    seeds = loss[:, None] + np.array([-0.01, 0.0, 0.01])
    jitter = 0.002 * np.random.default_rng(0).standard_normal((7, 3))
    below = np.array([[2.5, 2.5, 2.5], [3.7, 3.7, 3.7]])
    losses = np.concatenate([seeds, below]) + jitter
    found = fit_points(
        {
            "reference": {"x": X.tolist(), "loss": losses[:5].tolist()},
            "candidates": {"a": losses[5].tolist(), "b": losses[6].tolist()},
            "ratios": {"gain": ["a", "b"]},
        },
        resamples=200,
    )
    assert found.law_name == "interpolation"
    assert found.ratios["gain"].value is None
    assert "no amount of reference data can be named" in found.ratios["gain"].note


def test_a_law_fixed_by_hand_though_it_misses_is_named():
    loss = np.array([4.0, 3.98, 3.9, 3.6, 2.9])[:, None] + np.array([-0.01, 0.0, 0.013])
    found = fit_points(
        {
            "reference": {"x": X.tolist(), "loss": loss.tolist()},
            "candidates": {},
            "law": "power",
        },
        resamples=200,
    )
    assert any("about the law power" in note for note in found.notes)
    assert found.curve.misfit > 0.1
