"""Generic data of several sources: exact shares, one order for all runs, today's rows for one."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay_jax.errors import UserError
from replay_jax.schedule.generic import drawn_counts, generic_order, mixture_name, whole_shares
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.mixture import source_positions
from replay_jax.schedule.protocols import ScheduleConfig, StageConfig, build_schedule

RATE = LearningRate(1e-3, "linear", 0.0, 0.1, 0.0)
MIXTURE = (("code", 0.3), ("web", 0.7))


def schedule(generic=MIXTURE, rho=0.5, alpha=1.0, **changes):
    values = {
        "protocol": "two_stage", "total_steps": 40, "target_sequences": 12, "target_epochs": 4.0,
        "replay_fraction": rho, "stage2_steps": None, "stage2_allocation": alpha,
        "placement": "paper", "aligned_replay_fraction": None, "arithmetic": "exact",
        "learning_rate": RATE,
        "stage2_learning_rate": None, "stage2_optimizer": "continue", "stages": (),
        "batch_sizes": (),
    }  # fmt: skip
    config = ScheduleConfig(**{**values, **changes})
    return build_schedule(config, batch_size=8, generic=generic, target="target")


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_every_source_is_within_a_row_of_its_share_after_every_draw(shares):
    draws = 3 * sum(shares) + 7
    order = generic_order(shares, draws)
    assert len(order) == draws
    for source, share in enumerate(shares):
        counts = np.cumsum(order == source)
        for drawn, count in enumerate(counts.tolist(), 1):
            assert abs(count - Fraction(drawn * share, sum(shares))) < 1
    for drawn in (0, 1, sum(shares), draws):
        whole = np.bincount(order[:drawn], minlength=len(shares))
        np.testing.assert_array_equal(drawn_counts(shares, drawn), whole)


def test_weights_count_to_the_millionth():
    assert whole_shares(MIXTURE) == (("code", 3), ("web", 7))
    assert whole_shares((("a", 1 / 3), ("b", 2 / 3))) == (("a", 333333), ("b", 666667))
    assert mixture_name(whole_shares(MIXTURE)) == "0.3 code + 0.7 web"


@pytest.mark.parametrize("rho", [0.0, 0.25, 0.75])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_mixture_changes_nothing_but_which_source_a_generic_row_is_of(rho, alpha):
    mixed, single = schedule(rho=rho, alpha=alpha), schedule("generic", rho=rho, alpha=alpha)
    assert mixed.source_names == ("code", "target", "web")
    positions = source_positions(mixed)
    np.testing.assert_array_equal(positions == 1, source_positions(single) == 1)
    generic = positions[positions != 1]
    np.testing.assert_array_equal(generic, 2 * generic_order((3, 7), len(generic)))
    assert mixed.realised() == single.realised()
    for start, stage in zip(mixed.stage_starts, mixed.stages, strict=True):
        inside = positions[start : start + stage.sequences]
        for number, name in enumerate(mixed.source_names):
            assert stage.count(name) == np.count_nonzero(inside == number)


def test_runs_of_every_replay_fraction_draw_the_same_generic_rows_in_the_same_order():
    """So stage 1 is shared although its length, and its count of every source, differs."""
    none, half = (source_positions(schedule(rho=rho)) for rho in (0.0, 0.5))
    boundary = schedule(rho=0.5).stages[0].sequences
    assert boundary < schedule(rho=0.0).stages[0].sequences
    np.testing.assert_array_equal(none[:boundary], half[:boundary])


def test_three_sources_and_every_protocol():
    generic = (("a", 0.5), ("b", 0.25), ("c", 0.25))
    reset = {"stage2_learning_rate": RATE, "stage2_optimizer": "reset"}
    unused = {"replay_fraction": None, "stage2_allocation": None}
    for changes in (
        {"protocol": "uniform", **unused},
        {"protocol": "fine_tuning", **reset},
        {"protocol": "continual", "total_steps": None},
        {"placement": "aligned", "aligned_replay_fraction": 0.75, "stage2_allocation": 0.5},
    ):
        built = schedule(generic, **changes)
        drawn = [built.sequences(name) for name in ("a", "b", "c")]
        assert drawn == drawn_counts((2, 1, 1), sum(drawn)).tolist()
        assert sum(drawn) + built.sequences("target") == built.total_sequences


@pytest.mark.parametrize(
    ("generic", "words"),
    [
        ((("web", 0.7), ("code", 0.2)), "sum to 0.9, not to 1: web 0.7, code 0.2"),
        ((("web", 1.0), ("code", 0.0)), "'code' has weight 0"),
        ((("web", 1.5), ("code", -0.5)), "'code' has weight -0.5"),
        ((("web", float("nan")), ("code", 0.5)), "'web' has weight nan"),
        ((("web", 0.5), ("target", 0.5)), "'target' is the target"),
        ((), "at least one source"),
    ],
)
def test_bad_weights_are_one_sentence(generic, words):
    with pytest.raises(UserError, match=words):
        schedule(generic)


def test_freely_written_stages_name_their_sources_themselves():
    stage = StageConfig(40.0, (("web", 1.0, 1.0),), None, "continue")
    unused = {"replay_fraction": None, "stage2_allocation": None, "target_epochs": None}
    with pytest.raises(UserError, match="protocol 'stages' names the sources of every stage"):
        schedule(protocol="stages", stages=(stage,), **unused)
