"""Noise that is not even: a few settings that went wrong, and one kind of run that is noisier."""

import numpy as np
import pytest

from replay_jax.analysis.noise.components import Layout
from replay_jax.analysis.noise.moderation import ODDS, moderate, stand_out
from replay_jax.analysis.noise.resampling import estimate_noise, resample_means
from replay_jax.analysis.noise.uneven import fit

SETTINGS, SEEDS, OWN = 24, 3, 0.02
BUDGET = np.repeat(np.arange(4), 6)
LAYOUT = Layout(effects=(("seed x budget", BUDGET),), strata=BUDGET)


def losses(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    own = OWN * rng.standard_normal((SETTINGS, SEEDS)) * np.reshape(scale, (-1, 1))
    return 3.5 + 0.03 * rng.standard_normal(SEEDS) + own


def test_what_is_too_large_for_the_rest_stands_out_and_nothing_hides_behind_it():
    freedom = np.full(20, 2.0)
    squares = np.full(20, 2.0)
    assert not stand_out(squares, freedom, odds=ODDS).any()
    squares[[3, 7]] = 60.0, 55.0
    assert np.flatnonzero(stand_out(squares, freedom, odds=ODDS)).tolist() == [3, 7]
    everything = np.concatenate([squares, [0.0]])
    unknown = stand_out(everything, np.append(freedom, 0.0), odds=ODDS)[-1]
    assert not unknown


def test_equally_noisy_ones_stand_out_as_rarely_as_the_odds_say():
    rng = np.random.default_rng(3)
    found = [stand_out(rng.chisquare(2, 24), np.full(24, 2.0), odds=ODDS).any() for _ in range(400)]
    assert np.mean(found) < 0.09  # one in twenty, and three standard errors


def test_a_run_that_went_wrong_makes_its_setting_noisy_and_no_other():
    wrong = losses()
    wrong[5, 1] += 12 * OWN
    wrong[13, 0] += 10 * OWN
    fitted = fit(wrong, LAYOUT)
    assert np.flatnonzero(fitted.apart).tolist() == [5, 13] and not fitted.noisy.any()
    noise = estimate_noise(wrong, LAYOUT)
    deviation = np.sqrt(noise.own)
    assert deviation[~fitted.apart] == pytest.approx(OWN, rel=0.25)
    assert deviation[fitted.apart].min() > 4 * OWN
    drawn = resample_means(noise, np.random.default_rng(0), resamples=4000)
    low, high = np.quantile(drawn[:, 5] - drawn[:, 6], (0.05, 0.95))
    assert low < -1.5 * OWN and high > 7 * OWN  # twelve deviations of one run are four of the mean
    assert (drawn[:, 7] - drawn[:, 6]).std() < 1.3 * OWN


def test_settings_apart_stay_so_where_there_is_one_stratum():
    wrong = losses()
    wrong[5, 1] += 12 * OWN
    wrong[13, 0] += 10 * OWN
    fitted = fit(wrong, Layout(effects=(), strata=np.zeros(SETTINGS)))
    assert np.flatnonzero(fitted.apart).tolist() == [5, 13]
    noise = np.sqrt(estimate_noise(wrong, Layout(effects=(), strata=np.zeros(SETTINGS))).own)
    assert noise[~fitted.apart] == pytest.approx(OWN, rel=0.25)
    assert noise[fitted.apart].min() > 4 * OWN


@pytest.mark.filterwarnings("error")
def test_where_all_other_runs_are_alike_to_the_bit_nothing_is_set_apart():
    still = np.full((SETTINGS, SEEDS), 3.5)
    still[5, 1] += 0.1
    noise = estimate_noise(still, Layout(effects=(), strata=BUDGET))
    assert not noise.fitted.apart.any() and np.isfinite(noise.own).all()
    assert np.isfinite(resample_means(noise, np.random.default_rng(0), resamples=50)).all()


def test_with_two_seeds_a_setting_that_went_wrong_leaves_resamples_a_mean():
    wrong = losses(scale=np.ones(SETTINGS))[:, :2]
    wrong[5, 1] += 15 * OWN
    noise = estimate_noise(wrong, LAYOUT)
    drawn = resample_means(noise, np.random.default_rng(0), resamples=4000)
    assert np.abs(drawn.mean(axis=0) - noise.means).max() < OWN
    assert drawn[:, 5].std() < 30 * OWN


@pytest.mark.parametrize("seed", range(6))
def test_where_a_whole_stratum_is_noisy_it_is_the_stratum_that_stands_out(seed):
    noisy = losses(seed, scale=np.where(BUDGET == 2, 6.0, 1.0))
    fitted = fit(noisy, LAYOUT)
    assert not fitted.apart[BUDGET == 2].any() and fitted.noisy[BUDGET == 2].all()
    deviation = np.sqrt(estimate_noise(noisy, LAYOUT).own)
    assert deviation[BUDGET == 2] == pytest.approx(6 * OWN, rel=0.5)
    assert deviation[BUDGET != 2] == pytest.approx(OWN, rel=0.5)


def test_one_stratum_that_stands_out_leaves_the_others_one_variance():
    found = moderate(np.array([6.0, 6.3, 5.8, 150.0]), np.full(4, 6.0), *np.zeros((2, 4), bool))
    assert found.relative[3] == pytest.approx(25 / 1.005 * found.relative[0], rel=0.01)
    assert np.isinf(found.freedom[:3]).all() and found.freedom[3] == 6.0
    assert len(np.unique(found.relative[:3])) == 1 and not found.pooled


def test_a_doubtful_stratum_has_its_own_variance_and_its_part_in_the_common_one():
    squares, freedom = np.array([6.0, 6.3, 5.8, 6.1, 20.0]), np.full(5, 6.0)
    found = moderate(squares, freedom, *np.zeros((2, 5), bool))
    pooled = squares.sum() / freedom.sum()
    assert found.relative[4] / found.relative[0] == pytest.approx(20 / 6 / pooled)
    assert found.freedom[4] == 6.0 and np.isinf(found.freedom[:4]).all()
    surely = moderate(np.array([6.0, 6.3, 5.8, 6.1, 150.0]), freedom, *np.zeros((2, 5), bool))
    assert surely.relative[4] / surely.relative[0] == pytest.approx(150 / 6.05)
    assert moderate(squares, freedom, np.zeros(5, bool), np.ones(5, bool)).pooled


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_went_wrong_in_a_noisy_stratum_leaves_the_stratum_its_noise(seed):
    wrong = losses(seed, scale=np.where(BUDGET == 2, 3.0, 1.0))
    wrong[13, 0] += 40 * OWN
    two = Layout(effects=(), strata=BUDGET == 2)
    assert np.flatnonzero(fit(wrong, two).apart).tolist() == [13]
    deviation = np.sqrt(estimate_noise(wrong, two).own)
    assert deviation[BUDGET != 2] == pytest.approx(OWN, rel=0.3)  # all pooled it is five times
    others = (BUDGET == 2) & (np.arange(SETTINGS) != 13)
    assert deviation[others] == pytest.approx(3 * OWN, rel=0.4)
    assert deviation[13] > 15 * OWN


@pytest.mark.filterwarnings("error")
def test_strata_that_all_have_runs_that_went_wrong_leave_something_to_compare_with():
    for strata in (BUDGET, BUDGET // 2, np.zeros(SETTINGS)):
        for seed in range(20):
            rng = np.random.default_rng(seed)
            heavy = 3.5 + OWN * rng.standard_t(1.2, size=(SETTINGS, SEEDS))
            noise = estimate_noise(heavy, Layout(effects=(), strata=strata))
            assert np.isfinite(noise.own).all() and (noise.own > 0).all()


@pytest.mark.filterwarnings("error")
def test_a_stratum_of_which_nothing_is_known_has_the_common_noise():
    squares, freedom = np.array([6.0, 6.2, 0.0]), np.array([6.0, 6.0, 0.0])
    found = moderate(squares, freedom, np.array([False, False, True]), np.zeros(3, bool))
    np.testing.assert_array_equal(found.relative, np.ones(3))
