"""The interval given only that both sides were picked, beside the narrower one of the answer."""

from dataclasses import replace

import numpy as np
import pytest

from replay_jax.analysis.advice.compare import compare, rivals
from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.study import replays

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)
SEVEN = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75)


def far(rho: float) -> float:
    return 1.5 if rho == 0.5 else 0.8


def words(found):
    return [caution.words for caution in found.cautions if caution.kind == "picks alone"]


def plain(alone):
    return (
        f"given only that both were picked, the gain is {alone.low:+z.3f} to {alone.high:+z.3f} nat"
    )


@pytest.mark.parametrize("worth", [1.06, 0.95])
def test_where_a_sign_rests_on_the_other_schedules_the_wider_interval_is_told(worth):
    """Six fractions that do the same tell together what the best of them alone does not."""
    told = 0
    for draw in range(12):
        records = sweep(worth=lambda rho: worth if rho else 1.0, replay_fractions=SEVEN, draw=draw)
        found = recommend(analyse(records, CONFIG, resamples=400))
        gain, alone = found.gain, found.rival.given_picks
        assert len(words(found)) == (gain.low > 0 >= alone.low or gain.high < 0 <= alone.high)
        for said in words(found):
            told += 1
            assert f"is {alone.low:+z.3f} to {alone.high:+z.3f} nat, which tells nothing" in said
            assert said in found.reasons and found.reasons[-1] != plain(alone)
        assert words(found) or found.reasons[-1] == plain(alone)
        assert found.to_json()["gain_given_picks_nats"] == alone.to_json()
        assert found.usual.to_json()["gain_given_picks_nats"]["low"] is not None
    assert 2 <= told <= 10


def test_a_clear_pick_needs_no_such_word_and_both_agree():
    found = recommend(analyse(sweep(worth=far, draw=3), CONFIG, resamples=2000))
    gain, alone = found.gain, found.rival.given_picks
    assert not words(found)
    for ours, other in ((gain.low, alone.low), (gain.value, alone.value), (gain.high, alone.high)):
        assert other == pytest.approx(ours, abs=0.15 * (gain.high - gain.low))


def test_the_luck_of_tuned_values_is_out_of_it():
    target = analyse(sweep(worth=far, draw=3), CONFIG, resamples=400).target()
    own = [i for i, cell in enumerate(target.cells) if replays(cell)]
    others = rivals(target, own[0])
    before = compare(target, own, others)
    luckier = target.draws.luck.copy()
    luckier[before.against] += 0.5
    after = compare(replace(target, draws=replace(target.draws, luck=luckier)), own, others)
    ends = [[i.low, i.value, i.high] for i in (before.given_picks, after.given_picks)]
    assert np.subtract(ends[1], ends[0]) == pytest.approx(0.5)


def test_where_the_noise_is_unknown_there_is_none():
    found = recommend(analyse(sweep(worth=far, seeds=(0,), budgets=(4096,)), CONFIG, resamples=50))
    assert found.rival.given_picks.value is None and not words(found)
    assert not any("given only" in reason for reason in found.reasons)
    assert found.rival.given_picks.note == "seed noise unknown"
