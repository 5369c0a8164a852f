"""Where chance decides which curve turns nats into tokens, both numbers are said."""

import math
import re

import numpy as np

from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import law, sweep
from replay_jax.analysis.study.analyse import analyse

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)
BUDGETS = np.log([1024, 2048, 4096, 8192, 16384])


def advised(kink):
    """Reference runs off the law by `kink` nats at one budget and by its negative at the next."""
    bump = [0, 0, kink, -kink, 0]
    runs = sweep(
        worth=lambda rho: 1 + rho,
        curve=lambda x: law(x) + float(np.interp(math.log(x), BUDGETS, bump)),
        noise=0.02,
        draw=3,
    )
    study = analyse(runs, CONFIG, resamples=300)
    return recommend(study), study.target().curve.name_shares


def test_a_kink_as_large_as_the_noise_is_said_with_both_numbers():
    found, shares = advised(0.02)
    (words,) = [caution.words for caution in found.cautions if caution.kind == "curve"]
    by_law, by_points = (float(n) for n in re.findall(r"(\d\.\d\d)(?: times)? where", words))
    assert f"{100 * shares['interpolation']:.0f} % of the resamples" in words
    assert 0.1 < shares["interpolation"] < 0.9
    # The one number is of the law here; its interval holds both.
    worth = found.multiplier
    assert abs(worth.value / by_law - 1) < 0.03 < by_law / by_points - 1
    assert worth.low < by_points < by_law < worth.high
    assert words in found.reasons


def test_a_law_and_a_kink_beyond_doubt_need_no_such_word():
    for kink, followed in ((0.0, 0.08), (0.04, 1.0)):
        found, shares = advised(kink)
        assert math.isclose(shares["interpolation"], followed, abs_tol=0.02)
        assert not [caution for caution in found.cautions if caution.kind == "curve"]
