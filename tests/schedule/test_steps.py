"""Batches of several sizes in one run: which sequences a step takes, at which rate, and where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay_jax.errors import UserError
from replay_jax.schedule.authors import in_blocks
from replay_jax.schedule.config import StageConfig
from replay_jax.schedule.learning_rate import LearningRate, learning_rates
from replay_jax.schedule.mixture import source_positions, step_draws
from replay_jax.schedule.protocols import fine_tuning, from_stages, two_stage
from replay_jax.schedule.steps import Steps, steps_of

FIRST = LearningRate(1e-2, "linear", 0.25, 0.25, 0.0)
SECOND = LearningRate(1e-3, "cosine", 0.25, None, 0.0)
RUN = {
    "total_steps": 12, "batch_size": 8, "target_sequences": 8, "target_epochs": 2,
    "learning_rate": FIRST, "replay_fraction": 0.5, "stage2_allocation": 1,
}  # fmt: skip


def replayed(**changes):
    return two_stage(**{**RUN, **changes})


def test_a_schedule_worked_by_hand():
    """64 sequences of generic text in eight steps, then 32 of which half are target, by 4."""
    schedule = replayed(batch_sizes=(8, 4))
    assert schedule.steps == Steps((8, 4), (0, 8, 16), (0, 64, 96))
    assert schedule.total_steps == 16 and schedule.steps.changes == (8,)
    firsts = [*range(0, 64, 8), *range(64, 97, 4)]
    assert schedule.steps.firsts().tolist() == firsts
    assert [schedule.steps.size(n) for n in (0, 7, 8, 15, 16)] == [8, 8, 4, 4, 4]
    assert [schedule.steps.step_of(n) for n in (0, 63, 64, 67, 68, 95, 96)] == [
        0, 7, 8, 8, 9, 15, 16,
    ]  # fmt: skip
    assert [stage.batch_size for stage in schedule.stages] == [None, 4]
    draws = step_draws(schedule)
    assert draws.count.tolist() == [[8, 0]] * 8 + [[2, 2]] * 8
    assert draws.first[8:10].tolist() == [[64, 0], [66, 2]]
    assert draws.pattern(8).tolist() == source_positions(schedule)[64:68].tolist()
    # What is drawn is what it was, and where it was.
    np.testing.assert_array_equal(source_positions(schedule), source_positions(replayed()))
    assert schedule.realised() == replayed().realised()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 7)), min_size=1, max_size=5))
def test_steps_are_those_of_counting_one_after_another(blocks):
    """Every question has the answer that a list of all steps gives."""
    steps = steps_of([(count * size, size) for count, size in blocks])
    sizes = [size for count, size in blocks for _ in range(count)]
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    assert steps.total == len(sizes)
    np.testing.assert_array_equal(steps.firsts(), firsts)
    assert [steps.size(n) for n in range(len(sizes))] == sizes
    assert [steps.first_sequence(n) for n in range(len(sizes) + 1)] == firsts.tolist()
    owner = np.repeat(np.arange(len(sizes)), sizes)
    assert [steps.step_of(n) for n in range(len(owner))] == owner.tolist()
    assert {n for n in range(len(owner) + 1) if steps.begins(n)} == set(firsts.tolist())
    assert list(steps.changes) == [n for n in range(1, len(sizes)) if sizes[n] != sizes[n - 1]]


def test_a_rate_goes_on_by_sequences_and_stage_1_keeps_its_own():
    usual = learning_rates(FIRST, 12)
    small, large = (replayed(batch_sizes=(8, size)).learning_rates() for size in (4, 16))
    np.testing.assert_array_equal(small[:8], usual[:8])
    np.testing.assert_array_equal(large[:8], usual[:8])
    # Of the last four steps of 8, three decay: every second step of 4 begins where one of them did.
    np.testing.assert_array_equal(small[8::2], usual[8:])
    np.testing.assert_allclose(small[9::2], 1e-2 * np.array([1, 5 / 6, 1 / 2, 1 / 6]), rtol=1e-6)
    np.testing.assert_array_equal(large[8:], usual[8::2])


def test_a_rate_of_its_own_runs_in_the_stage_s_own_steps():
    run = {name: value for name, value in RUN.items() if name != "stage2_allocation"}
    schedule = fine_tuning(stage2_learning_rate=SECOND, batch_sizes=(8, 4), **run)
    expected = np.concatenate([learning_rates(FIRST, 8), learning_rates(SECOND, 8)])
    np.testing.assert_array_equal(schedule.learning_rates(), expected)
    assert np.flatnonzero(schedule.resets()).tolist() == [8]


def test_the_boundary_is_a_whole_step_of_both_sizes():
    """T2 / (1 - rho) = 16 / .6 = 26.7 sequences, to the next multiple of 24 there is."""
    run = {**RUN, "replay_fraction": 0.4}
    assert two_stage(**run).stages[-1].sequences == 27
    assert two_stage(**run, batch_sizes=(8, 4)).stages[-1].sequences == 24
    assert two_stage(**run, batch_sizes=(8, 12)).stages[-1].sequences == 24
    # Of one size it may lie inside a batch.
    assert two_stage(**run, batch_sizes=(4, 4)).stages[-1].sequences == 27


def stages(*steps, **settings):
    configs = tuple(
        StageConfig(n, (("generic", 1, 1),), None if i else FIRST, "continue")
        for i, n in enumerate(steps)
    )
    return from_stages(configs, batch_size=8, **settings)


def test_freely_written_stages():
    schedule = stages(4, 2.5, 3.5, batch_sizes=(16, 4, 4))
    assert schedule.steps == Steps((16, 4), (0, 2, 14), (0, 32, 80))
    assert schedule.stage_starts == (0, 32, 52)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda: stages(3, 7, batch_sizes=(16, 8)),
            "not at sequence 24, inside a batch of 16; 32 is the nearest",
        ),
        (lambda: stages(4, 6, batch_sizes=(8, 32)), "48 sequences after 32 do not fill .* of 32"),
        (lambda: stages(4, 6, batch_sizes=(8,)), r"\[8\] must have one for each of the 2 stages"),
        (lambda: replayed(batch_sizes=(8, 0)), r"\[8, 0\] must be at least 1 each"),
        (
            lambda: replayed(replay_fraction=None, stage2_steps=4, batch_sizes=(8, 24)),
            "stage2_steps 4 must be a multiple of 3 .* the nearest is 3",
        ),
        (
            lambda: replayed(replay_fraction=0, batch_sizes=(8, 12)),
            "16 target sequences do not fill whole steps of 24",
        ),
        (lambda: in_blocks(replayed(batch_sizes=(8, 4))), "knows no schedule.batch_sizes"),
    ],
)
def test_what_does_not_go_is_refused_with_its_numbers(build, said):
    with pytest.raises(UserError, match=said):
        build()
