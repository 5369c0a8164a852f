"""What tuning one side alone gives is not called replay's gain, or its harm."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from replay_jax.analysis.advice.recommend import Recommendation, recommend
from replay_jax.analysis.advice.shipping import ship
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse

CONFIG = AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), 0.9)
Record = dict[str, Any]


def same(rho: float) -> float:
    """Replay does nothing: epochs are all that counts, and 16 are best for either side."""
    return 1.0


def kept(
    keep: Callable[[bool, float], bool], worth: Callable[[float], float] = same, **of: Any
) -> list[Record]:
    """Runs of a sweep for which `keep` of (replays, epochs) holds; the reference has them all."""
    runs = sweep(worth=worth, reference="no replay", replay_fractions=(0.0, 0.5), **of)
    here = (r for r in runs if r["target_tokens"] == 4096)
    left_out = [
        r["id"] for r in here if not keep(r["replay_fraction"]["requested"] > 0, r["target_epochs"])
    ]
    return [r for r in runs if r["id"] not in left_out]


def advised(records: list[Record]) -> Recommendation:
    return recommend(analyse(records, CONFIG, resamples=200), target_tokens=4096)


@pytest.mark.parametrize(
    ("keep", "words", "behind"),
    [
        (
            lambda replays, epochs: replays or epochs == 8,
            "tuned over 3, which gained it 0.0",
            False,
        ),
        (lambda replays, epochs: replays == (epochs > 8), "never at that one", False),
        (lambda replays, epochs: not replays or epochs == 8, "and replay loses 0.0", True),
        (lambda replays, epochs: replays == (epochs == 8), "never at that one", True),
    ],
)
def test_a_side_of_one_setting_is_not_beaten_by_a_tuned_one(keep, words, behind):
    found = advised(kept(keep))
    gain = found.gain
    assert gain.high < 0 if behind else gain.low > 0, "its interval alone would be an answer"
    assert (found.verdict, found.judgement.ground) == ("cannot tell", "one side tuned")
    assert words in found.reasons[0] and "run both at the same settings first" in found.reasons[0]
    side = "the best replay schedule" if behind else "the usual recipe (ρ = 0, α = 1)"
    assert found.reasons[0].startswith(f"{side} was run at one setting")
    assert f"{side} was not tuned" in " ".join(found.reasons[1:])
    first = found.next_runs[0]
    assert {run["schedule.target_epochs"] for run in first.runs} == {16.0}
    assert {run["schedule.replay_fraction"] for run in first.runs} == {0.5 if behind else 0.0}


def test_a_gain_beyond_that_of_tuning_is_replays():
    found = advised(kept(lambda replays, epochs: replays or epochs == 8, lambda rho: 1 + rho))
    assert (found.verdict, found.judgement.ground) == ("replay helps", "interval")
    alike = advised(kept(lambda replays, epochs: epochs == 16, lambda rho: 1 + rho))
    assert alike.verdict == "replay helps"


def test_replay_still_improving_at_its_edge_is_not_called_harmful():
    """Its best epochs are beyond those that ran; as a recipe of its own it is worse still."""
    records = kept(lambda replays, epochs: not replays or epochs < 16, epochs=(4.0, 8.0, 16.0),
                   baseline_penalty=0.2, epoch_penalty=0.2)  # fmt: skip
    found = advised(records)
    assert found.gain.high < 0 and found.verdict == "cannot tell"
    assert found.reasons[0].startswith("the best replay schedule is still improving at the edge")
    assert math.isclose(found.judgement.last_step, 0.2, abs_tol=0.03)
    study = analyse(records, CONFIG, resamples=200).target()
    shipped = ship(study, found.best, run="best", margin=0.0, generic_margin=None)
    assert shipped.verdict == "worse"


def test_a_mixture_that_is_shipped_is_called_by_its_own_name():
    """A mixture tuned over three epochs, against none at one: it is no replay schedule."""
    runs = sweep(worth=lambda rho: 0.5, replay_fractions=(0.0,), epochs=(8.0, 16.0, 32.0))
    records = [r for r in runs if r["protocol"] == "uniform" or r["target_epochs"] == 8.0]
    config = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)
    study = analyse(records, config, resamples=200).target()
    (mixture,) = (
        place
        for place, cell in enumerate(study.cells)
        if cell.key.protocol == "uniform" and cell.key.target_tokens == 4096
    )
    found = ship(study, mixture, run="mix_7", margin=0.0, generic_margin=None)
    # Twice the tokens of a curve 40 / x^.5, and twice a step of .05 nat in epochs.
    assert math.isclose(found.comparison.gain.value, 40 / 64 * (2**0.5 - 1) + 0.05, abs_tol=0.04)
    assert "replay" not in found.sentence.lower().replace("without replay", "")
