"""Variance components, means with runs missing, and resamples that carry both."""

import numpy as np
import pytest
from places import ROOT

from replay_jax.analysis.noise.components import Layout, build, components, likelihood, reml
from replay_jax.analysis.noise.resampling import (
    Noise,
    constant_noise,
    estimate_noise,
    resample_means,
)
from replay_jax.analysis.runs.records import AnalysisConfig, load_records
from replay_jax.analysis.study.analyse import analyse
from replay_jax.errors import UserError

BUDGET = np.repeat([0, 1, 2, 3], 8)
KIND = np.tile(np.repeat([0, 1], 4), 4)
LAYOUT = Layout((("seed x budget", BUDGET), ("seed x protocol", KIND)), 2 * BUDGET + KIND)


def draw(
    seeds: int,
    *,
    own: float = 0.01,
    shared: float = 0.0,
    budget: float = 0.0,
    kind: float = 0.0,
    scale: np.ndarray | float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Losses [32, seeds] of four budgets of eight settings, half of each kind."""
    rng = np.random.default_rng(seed)
    noise = own * np.broadcast_to(scale, 32)[:, None] * rng.standard_normal((32, seeds))
    return (
        np.linspace(2, 4, 32)[:, None]
        + noise
        + shared * rng.standard_normal(seeds)
        + budget * rng.standard_normal((4, seeds))[BUDGET]
        + kind * rng.standard_normal((2, seeds))[KIND]
    )


def deviations(noise: Noise) -> dict[str, float]:
    return {c.name: c.deviation for c in noise.components}


def test_components_are_told_apart():
    noise = estimate_noise(draw(30, shared=0.05, budget=0.03, kind=0.02), LAYOUT)
    found = deviations(noise)
    assert found["run"] == pytest.approx(0.01, rel=0.05)
    assert found["seed"] == pytest.approx(0.05, rel=0.3)
    assert found["seed x budget"] == pytest.approx(0.03, rel=0.2)
    assert found["seed x protocol"] == pytest.approx(0.02, rel=0.3)
    assert all(c.p < 1e-6 for c in noise.components if c.name != "run")
    assert noise.deviation == pytest.approx(np.sqrt(0.01**2 + 0.05**2 + 0.03**2 + 0.02**2), rel=0.2)


def test_an_effect_that_is_not_there_is_found_at_the_level_of_its_test():
    ps = []
    for seed in range(40):
        noise = estimate_noise(draw(3, shared=0.05, budget=0.03, seed=seed), LAYOUT)
        ps.append(next(c.p for c in noise.components if c.name == "seed x protocol"))
    assert 0 <= np.mean(np.array(ps) < 0.1) < 0.25 and np.mean(ps) == pytest.approx(0.5, abs=0.15)


def test_without_groups_reml_is_the_analysis_of_variance():
    losses = draw(4, shared=0.1)
    rest = losses - losses.mean(1, keepdims=True) - losses.mean(0, keepdims=True) + losses.mean()
    own = (rest**2).sum() / (31 * 3)
    shared = losses.mean(0).var(ddof=1) - own / 32
    noise = estimate_noise(losses, Layout((), np.zeros(32, dtype=int)))
    np.testing.assert_allclose(noise.own, own, rtol=1e-4)
    assert deviations(noise)["seed"] == pytest.approx(np.sqrt(shared), rel=1e-3)


@pytest.mark.parametrize("holes", [False, True])
def test_the_likelihood_is_that_of_the_dense_model(holes):
    losses = draw(3, shared=0.03, budget=0.02)
    if holes:
        losses[3, 1] = losses[17, 2] = losses[18, 0] = np.nan
    relative = np.linspace(0.5, 2, 32)
    model = build(losses, LAYOUT, relative)
    ratios = np.array([[1.0, 2.0, 0.5], [3.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    setting, seed = np.nonzero(np.isfinite(losses))
    values, fixed = losses[setting, seed], np.eye(32)[setting]
    expected = []
    for shared, budget, kind in ratios:
        same = (seed[:, None] == seed) * (
            shared**2
            + budget**2 * (BUDGET[setting][:, None] == BUDGET[setting])
            + kind**2 * (KIND[setting][:, None] == KIND[setting])
        )
        inverse = np.linalg.inv(same + np.diag(relative[setting]))
        information = fixed.T @ inverse @ fixed
        means = np.linalg.solve(information, fixed.T @ inverse @ values)
        square = (values - fixed @ means) @ inverse @ (values - fixed @ means)
        expected.append(
            0.5 * np.linalg.slogdet(inverse)[1]
            - 0.5 * np.linalg.slogdet(information)[1]
            - 0.5 * model.freedom * np.log(square)
        )
    found = likelihood(model, ratios).log
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-6)


def test_a_missing_run_neither_helps_nor_hurts_its_setting():
    """The plain mean of what is left moves by half the unlucky seed; the estimate hardly."""
    losses = draw(3, own=0.001, shared=0.2, seed=4)
    whole = estimate_noise(losses, LAYOUT).means
    np.testing.assert_allclose(whole, losses.mean(axis=1))
    unlucky = int(losses.mean(axis=0).argmax())
    losses[5, unlucky] = np.nan
    assert np.nanmean(losses[5]) < whole[5] - 0.03
    assert estimate_noise(losses, LAYOUT).means[5] == pytest.approx(whole[5], abs=0.003)


def test_one_lost_run_of_the_baseline_does_not_make_replay_worth_more():
    """At 4,096 tokens the quickstart's baseline loses one seed of its best setting."""
    records = load_records(ROOT / "experiments" / "quickstart" / "results.jsonl")
    config = AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), 0.9)
    left = [
        r
        for r in records
        if (r["target_tokens"], r["replay_fraction"]["requested"], r["target_epochs"], r["seed"])
        != (4096, 0.0, 24.0, 3)
    ]
    assert len(left) == len(records) - 1
    whole, without = (
        next(
            cell.multiplier.value
            for cell in analyse(found, config, resamples=200).target().cells
            if (cell.key.target_tokens, cell.key.replay_fraction) == (4096, 0.75)
        )
        for found in (records, left)
    )
    assert without == pytest.approx(whole, abs=0.06)


def test_the_quickstart_shares_noise_within_budgets_and_within_protocols():
    records = load_records(ROOT / "experiments" / "quickstart" / "results.jsonl")
    config = AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), 0.9)
    found = {c.name: c for c in analyse(records, config, resamples=50).target().components}
    assert found["seed x budget"].p < 1e-5 and found["seed x protocol"].p < 0.05
    assert found["seed x budget"].deviation == pytest.approx(0.0177, abs=0.001)
    assert found["run"].deviation == pytest.approx(0.0124, abs=0.001)  # three kinds of run apart
    assert found["seed x budget"].freedom == (10, 56)


def test_uneven_noise_is_moderated_not_pooled():
    scale = np.where(BUDGET == 0, 5.0, 1.0)
    noise = estimate_noise(draw(4, scale=scale), LAYOUT)
    assert 3 < np.sqrt(noise.own[0] / noise.own[-1]) < 7
    even = estimate_noise(draw(4), LAYOUT)
    assert np.sqrt(even.own.max() / even.own.min()) < 1.6


def test_resamples_carry_what_does_not_cancel():
    """Kinds of run that vary apart between seeds do not cancel; budgets and seeds do."""
    apart = estimate_noise(draw(5, shared=0.2, budget=0.1, kind=0.05), LAYOUT)
    means = resample_means(apart, np.random.default_rng(0), resamples=4000)
    np.testing.assert_allclose(np.median(means, axis=0), apart.means, atol=0.02)
    within = (means[:, 0] - means[:, 1]).std()
    assert within == pytest.approx(0.01 * np.sqrt(2 / 5), rel=0.15)
    between_kinds = (means[:, 0] - means[:, 4]).std()
    assert 3 * within < between_kinds
    assert means[:, 0].std() > 5 * within
    assert np.corrcoef(means[:, 0], means[:, 1])[0, 1] > 0.99


def test_resamples_have_students_spread():
    losses = np.arange(3.0)[:, None] + np.zeros((3, 4))
    noise = constant_noise(losses, 0.05**2, 5.0)
    means = resample_means(noise, np.random.default_rng(0), resamples=200_000)
    np.testing.assert_allclose(means.mean(0), losses[:, 0], atol=5e-4)
    # Student's t with 5 degrees of freedom has variance 5/3; four seeds halve the deviation.
    np.testing.assert_allclose(means.std(0), 0.025 * np.sqrt(5 / 3), rtol=0.02)


def test_seeds_that_never_meet_are_compared_through_what_seeds_vary():
    losses = np.full((32, 8), np.nan)
    complete = draw(8, shared=0.2)
    losses[:16, :4], losses[16:, 4:] = complete[:16, :4], complete[16:, 4:]
    noise = estimate_noise(losses, LAYOUT)
    means = resample_means(noise, np.random.default_rng(0), resamples=2000)
    assert (means[:, 0] - means[:, 31]).std() > 10 * (means[:, 0] - means[:, 1]).std()


def test_runs_with_a_seed_of_their_own_differ_by_noise_alone():
    """As where a trainer draws a new one each time: nothing is shared, so no effect is sought."""
    runs = draw(5, shared=0.03)
    own = np.full((32, 160), np.nan)
    for setting, each in enumerate(runs):
        own[setting, 5 * setting : 5 * setting + 5] = each
    assert not len(build(own, LAYOUT, np.ones(32)).owner)
    noise = estimate_noise(own, LAYOUT)
    np.testing.assert_allclose(noise.means, runs.mean(axis=1))
    within = runs.std(axis=1, ddof=1)
    assert noise.deviation == pytest.approx(np.sqrt((within**2).mean()), rel=0.1)
    drawn = resample_means(noise, np.random.default_rng(0), resamples=500)
    assert drawn.std(axis=0).mean() == pytest.approx(noise.deviation / np.sqrt(5), rel=0.15)


def test_an_effect_that_one_seed_lacks_is_left_out_for_it_alone():
    losses = draw(3)
    losses[BUDGET == 2, 1] = np.nan
    model = build(losses, LAYOUT, np.ones(32))
    assert [int((model.seed == seed).sum()) for seed in range(3)] == [7, 6, 7]


def test_a_single_seed_says_nothing():
    noise = estimate_noise(draw(1), LAYOUT)
    assert not noise.known and np.isnan(noise.own).all() and noise.components == ()


def test_an_effect_of_single_settings_is_none():
    """One setting at each budget: what its budget shares is its own noise."""
    losses = draw(3)[:4]
    noise = estimate_noise(losses, Layout((("seed x budget", np.arange(4)),), np.zeros(4)))
    assert [c.name for c in noise.components] == ["seed", "run"]


def test_no_noise_is_no_fault():
    noise = estimate_noise(np.arange(4.0)[:, None] + np.zeros((4, 3)))
    means = resample_means(noise, np.random.default_rng(0), resamples=10)
    np.testing.assert_allclose(means, np.broadcast_to(np.arange(4.0), (10, 4)), atol=1e-9)


def test_empty_cell_is_refused():
    with pytest.raises(UserError, match="cell 1 has no finite loss"):
        estimate_noise(np.array([[1.0, 2.0], [np.nan, np.nan]]))


def test_components_are_tested_against_the_noise_of_runs():
    losses = draw(3, shared=0.05, budget=0.03)
    model = build(losses, LAYOUT, np.ones(32))
    found = {c.name: c for c in components(model, reml(model, np.ones(3)))}
    # Three seeds: 2 contrasts of each; four budgets less one, two kinds less one.
    assert found["seed"].freedom == (2, 62)
    assert found["seed x budget"].freedom == (6, 62 - 8)
    assert found["seed x protocol"].freedom == (2, 62 - 8)
