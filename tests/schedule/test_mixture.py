"""The source of every sequence: bounds against brute force, and what every step draws."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay_jax.errors import UserError
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.mixture import (
    draw_numbers,
    source_positions,
    stage_quotas,
    step_draws,
)
from replay_jax.schedule.protocols import (
    Requested,
    Schedule,
    Stage,
    StageConfig,
    fine_tuning,
    from_stages,
    two_stage,
    uniform,
)
from replay_jax.schedule.stages import apportion

WSD = LearningRate(3e-3, "linear", 0.01, 0.1, 0.0)
RUN = {"total_steps": 64, "batch_size": 32, "learning_rate": WSD}


def one_stage(counts, ramp=(), batch_size=1):
    names = ["generic", "target", *(f"other {i}" for i in range(254))]
    counts = tuple(zip(names, counts, strict=False))
    ramp = tuple((name, *shares) for (name, _), shares in zip(counts, ramp, strict=False))
    stage = Stage(sum(count for _, count in counts), counts, WSD, "continue", ramp=ramp)
    return Schedule(batch_size, (stage,), Requested("stages"))


def drawn(schedule):
    """int [sources, sequences + 1]: rows of every source after each number of sequences."""
    positions = source_positions(schedule)
    marks = positions[None] == np.arange(len(schedule.source_names))[:, None]
    return np.concatenate([np.zeros((len(marks), 1), int), np.cumsum(marks, axis=1)], axis=1)


def exact_quotas(counts, shares=None):
    """[sources][sequences + 1] fractions: the share of each source, integrated row by row."""
    total = sum(counts)
    if shares is None:
        return [[Fraction(count * k, total) for k in range(total + 1)] for count in counts]
    quotas = []
    for start, end in shares:
        start, end = Fraction(start), Fraction(end)
        quotas.append([start * k + (end - start) * k * k / (2 * total) for k in range(total + 1)])
    return quotas


@settings(deadline=None, max_examples=50)
@given(generic=st.integers(0, 400), target=st.integers(0, 400))
def test_two_sources_are_the_rounded_share_in_exact_integers(generic, target):
    total = generic + target
    if total == 0:
        return
    got = drawn(one_stage((generic, target)))
    k = np.arange(total + 1)
    np.testing.assert_array_equal(got[1], (2 * k * target + total) // (2 * total))
    np.testing.assert_array_equal(got[0], k - got[1])


@settings(deadline=None, max_examples=100)
@given(counts=st.lists(st.integers(0, 60), min_size=3, max_size=8))
def test_many_sources_stay_within_one_row_of_their_share(counts):
    if sum(counts) == 0:
        return
    got = drawn(one_stage(counts))
    for row, quota in zip(got, exact_quotas(counts), strict=True):
        assert max(abs(int(n) - q) for n, q in zip(row, quota, strict=True)) < 1
    assert got[:, -1].tolist() == counts


def normalised(weights):
    total = sum(weights)
    shares = [weight / total for weight in weights]
    shares[-1] = 1 - sum(shares[:-1])
    return [max(0.0, share) for share in shares]


@st.composite
def ramps(draw):
    """(shares at start and end in eighths, length in 16s): every count is whole by itself."""
    sources = draw(st.integers(2, 5))

    def eighths():
        cuts = sorted(draw(st.lists(st.integers(0, 8), min_size=sources - 1, max_size=sources - 1)))
        return [(high - low) / 8 for low, high in zip([0, *cuts], [*cuts, 8], strict=True)]

    return list(zip(eighths(), eighths(), strict=True)), 16 * draw(st.integers(1, 20))


@settings(deadline=None, max_examples=50)
@given(ramps())
def test_ramps_stay_within_one_row_of_their_share(ramp):
    shares, total = ramp
    counts = [round(total * (start + end) / 2) for start, end in shares]
    got = drawn(one_stage(counts, shares))
    bound = Fraction(1, 2) if sum(count > 0 for count in counts) == 2 else 1
    for row, quota in zip(got, exact_quotas(counts, shares), strict=True):
        assert max(abs(int(n) - q) for n, q in zip(row, quota, strict=True)) <= bound


weights = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0))


@settings(deadline=None, max_examples=50)
@given(
    ends=st.lists(st.tuples(weights, weights), min_size=2, max_size=6),
    total=st.integers(1, 300),
)
def test_rounded_ramps_keep_their_counts(ends, total):
    starts, stops = zip(*ends, strict=True)
    if not sum(starts) > 1e-6 or not sum(stops) > 1e-6:
        return
    shares = list(zip(normalised(starts), normalised(stops), strict=True))
    stage = StageConfig(
        total, tuple((f"s{i}", *pair) for i, pair in enumerate(shares)), WSD, "continue"
    )
    schedule = from_stages((stage,), batch_size=1, generic="s0", target="s1")
    got = drawn(schedule)
    counts = [schedule.stages[0].count(f"s{i}") for i in range(len(shares))]
    assert got[:, -1].tolist() == counts
    # The share as rounded: it is one, and each source keeps to it.
    share = stage_quotas(schedule.stages[0], schedule.source_names)
    np.testing.assert_allclose(share.sum(axis=0), np.arange(total + 1), rtol=0, atol=1e-9)
    assert np.diff(share, axis=1).min() > -1e-12
    assert np.abs(got - share).max() < (0.5 if sum(map(bool, counts)) < 3 else 1) + 1e-9
    # Near the one asked for: rounding six counts moves it by one row and a little.
    for row, quota in zip(got, exact_quotas(counts, shares), strict=True):
        assert max(abs(int(n) - q) for n, q in zip(row, quota, strict=True)) < 3


def test_a_rare_source_does_not_bend_the_others():
    """The last source has 1.4 rows by its share and gets one; the ramp of the rest stays."""
    total, rare = 28_000, 1e-4
    shares = [(0.2, 0.8), (0.8 - rare, 0.2), (rare, 0.0)]
    counts = apportion(total, [sum(pair) / 2 for pair in shares])
    assert counts[2] == 1
    got = drawn(one_stage(counts, shares))
    for row, quota in zip(got, exact_quotas(counts, shares), strict=True):
        ends = np.array([float(q) for q in quota])
        assert np.abs(row - ends).max() < 2


@pytest.mark.parametrize("total", [8, 64, 1000, 4096])
def test_ramp_from_nothing_to_everything(total):
    shares = ((1.0, 0.0), (0.0, 1.0))
    got = drawn(one_stage((total // 2, total // 2), shares))
    k = np.arange(total + 1)
    np.testing.assert_array_equal(got[1], (k * k + total) // (2 * total))


def test_ramp_of_three_sources_is_within_one_row():
    total, shares = 1200, [(0.9, 0.3), (0.1, 0.2), (0.0, 0.5)]
    counts = apportion(total, [sum(pair) / 2 for pair in shares])
    got = drawn(one_stage(counts, shares))
    for row, quota in zip(got, exact_quotas(counts, shares), strict=True):
        assert max(abs(int(n) - q) for n, q in zip(row, quota, strict=True)) < 1


def test_a_ramp_whose_rare_source_rounds_to_nothing():
    shares = [(0.5, 0.5), (0.49, 0.30), (0.005, 0.195), (0.005, 0.005)]
    counts = apportion(40, [sum(pair) / 2 for pair in shares])
    assert counts[3] == 0
    got = drawn(one_stage(counts, shares))
    assert got[:, -1].tolist() == list(counts)


def test_many_equal_sources_take_turns():
    positions = source_positions(one_stage([5] * 200))
    for turn in positions.reshape(5, 200):
        assert len(set(turn.tolist())) == 200


def test_every_batch_holds_its_share():
    schedule = uniform(target_sequences=50, target_epochs=4, **RUN)
    per_batch = step_draws(schedule).count[:, 1]
    assert set(per_batch.tolist()) == {3, 4} and per_batch.sum() == 200


@settings(deadline=None, max_examples=50)
@given(
    steps=st.integers(1, 40),
    batch=st.integers(1, 16),
    budget=st.integers(1, 30),
    epochs=st.integers(1, 10),
    alpha=st.floats(0.01, 1),
    by_length=st.booleans(),
)
def test_tied_point_has_the_rows_of_uniform_mixing(steps, batch, budget, epochs, alpha, by_length):
    """rho = 1 - gamma with alpha = delta, in any run: the very same sequence of sources."""
    size = {
        "total_steps": steps,
        "batch_size": batch,
        "target_sequences": budget,
        "target_epochs": epochs,
        "learning_rate": WSD,
    }
    gamma = budget * epochs / (steps * batch)
    if gamma > 1 or round(alpha * budget * epochs) < 1:
        return
    form = {"stage2_steps": alpha * steps} if by_length else {"replay_fraction": 1 - gamma}
    try:
        tied = two_stage(stage2_allocation=alpha, **form, **size)
    except UserError as error:  # a sliver of a stage, too short for its share as rounded
        assert "sequences for" in str(error) or "would get none" in str(error)
        return
    np.testing.assert_array_equal(source_positions(tied), source_positions(uniform(**size)))
    np.testing.assert_array_equal(tied.learning_rates(), uniform(**size).learning_rates())


@pytest.mark.parametrize("alpha", [1, 0.5, 0.25, 0.125, 0.3])
def test_tied_point_of_the_paper(alpha):
    size = {
        "total_steps": 1024,
        "batch_size": 1024,
        "target_sequences": 1024,
        "target_epochs": 32,
        "learning_rate": WSD,
    }
    tied = two_stage(replay_fraction=31 / 32, stage2_allocation=alpha, **size)
    np.testing.assert_array_equal(source_positions(tied), source_positions(uniform(**size)))
    assert tied.realised().stage2_allocation == pytest.approx(alpha, abs=1 / 32768)
    assert tied.realised().replay_fraction == 31 / 32
    assert tied.realised().stage2_duration == tied.realised().stage2_allocation
    other = two_stage(replay_fraction=30 / 32, stage2_allocation=alpha, **size)
    assert (source_positions(other) != source_positions(uniform(**size))).any()


def test_aligned_runs_share_their_first_stage():
    request = {
        "target_sequences": 16,
        "target_epochs": 8,
        "stage2_allocation": 0.25,
        "placement": "aligned",
        "aligned_replay_fraction": 0.875,
        **RUN,
    }
    runs = [two_stage(replay_fraction=rho, **request) for rho in (0, 0.25, 0.5, 0.75, 0.875)]
    positions = [source_positions(run) for run in runs]
    for run, row in zip(runs, positions, strict=True):
        shared = run.stage_starts[-1]
        np.testing.assert_array_equal(row[:shared], positions[0][:shared])
    # With the paper's placement they do not, although each holds as many target rows.
    free = {**request, "placement": "paper", "aligned_replay_fraction": None}
    paper = [source_positions(two_stage(replay_fraction=rho, **free)) for rho in (0, 0.875)]
    shared = runs[-1].stage_starts[-1]
    assert (paper[0][:shared] != paper[1][:shared]).any()


def brute_force(schedule):
    """(source, draw) of every sequence, by counting one after another."""
    seen, answers = [0] * len(schedule.source_names), []
    for source in source_positions(schedule).tolist():
        answers.append((source, seen[source]))
        seen[source] += 1
    return answers


SCHEDULES = [
    uniform(target_sequences=50, target_epochs=4, **RUN),
    two_stage(
        target_sequences=16,
        target_epochs=8,
        replay_fraction=0.4,
        stage2_allocation=0.3,
        **RUN,
    ),
    fine_tuning(
        target_sequences=16,
        target_epochs=8,
        replay_fraction=0.5,
        stage2_learning_rate=WSD,
        **RUN,
    ),
    from_stages(
        (
            StageConfig(
                40.5,
                (("generic", 0.8, 0.4), ("code", 0.2, 0.3), ("target", 0.0, 0.3)),
                WSD,
                "continue",
            ),
            StageConfig(120.5, (("target", 0.7, 0.7), ("generic", 0.3, 0.3)), None, "continue"),
        ),
        batch_size=32,
    ),
    two_stage(
        target_sequences=16,
        target_epochs=8,
        replay_fraction=0.5,
        stage2_allocation=0.5,
        batch_sizes=(32, 8),
        **RUN,
    ),
]
# The last one's 128 sequences of stage 2 in sixteen steps in place of four.
SIZES = [32] * 60 + [8] * 16


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_step_draws_equal_brute_force(schedule):
    steps = step_draws(schedule)
    sizes = SIZES if schedule is SCHEDULES[-1] else [32] * (schedule.total_sequences // 32)
    expected = np.split(np.array(brute_force(schedule)), np.cumsum(sizes)[:-1])
    assert len(expected) == schedule.total_steps and steps.positions.dtype == np.uint8
    for step, rows in enumerate(expected):
        np.testing.assert_array_equal(steps.pattern(step), rows[:, 0])
        for source in range(len(schedule.source_names)):
            draws = rows[rows[:, 0] == source][:, 1].tolist()
            first, count = steps.first[step, source], steps.count[step, source]
            assert draws == list(range(first, first + count))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_draw_numbers_from_any_step(schedule):
    steps, expected = step_draws(schedule), np.array(brute_force(schedule))
    positions = source_positions(schedule)
    for step in (0, 1, schedule.total_steps // 2, schedule.total_steps - 1):
        start = schedule.steps.first_sequence(step)
        got = draw_numbers(positions[start:], first=steps.first[step])
        np.testing.assert_array_equal(got, expected[start:, 1])


def test_a_stage_too_long_for_integers_is_refused():
    counts = (("generic", 1 << 31), ("target", 0))
    schedule = Schedule(1, (Stage(1 << 31, counts, WSD, "continue"),), Requested("stages"))
    with pytest.raises(UserError, match="2147483648 sequences is too long"):
        source_positions(schedule)
