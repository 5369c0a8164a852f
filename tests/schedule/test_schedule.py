"""Schedules: exact counts, the paper's numbers, the algebra and what is refused."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from replay_jax.errors import UserError
from replay_jax.schedule.learning_rate import LearningRate, learning_rates
from replay_jax.schedule.protocols import (
    Requested,
    Schedule,
    ScheduleConfig,
    Stage,
    StageConfig,
    build_schedule,
    continual,
    fine_tuning,
    from_stages,
    two_stage,
    uniform,
)
from replay_jax.schedule.stages import apportion, nearest

WSD = LearningRate(3e-3, "linear", 0.01, 0.1, 0.0)
COSINE = LearningRate(1e-3, "cosine", 0.01, None, 0.0)
SECOND = LearningRate(3e-4, "cosine", 0.01, None, 0.0)
PAPER = {
    "total_steps": 1024,
    "batch_size": 1024,
    "target_sequences": 1024,
    "target_epochs": 32,
    "learning_rate": WSD,
}


def table(rho, durations, shares):
    return [
        (rho, alpha, duration, share)
        for alpha, duration, share in zip((1, 0.5, 0.25, 0.125), durations, shares, strict=True)
    ]


# arXiv 2603.04964, main sweep: stage-2 steps and stage-1 target share w1 per (rho, alpha).
CELLS = [
    *table(0, (32, 16, 8, 4), (0, 0.015873, 0.023622, 0.027451)),
    *table(0.25, (42.67, 21.33, 10.67, 5.33), (0, 0.015957, 0.023684, 0.027487)),
    *table(0.5, (64, 32, 16, 8), (0, 0.016129, 0.023810, 0.027559)),
    *table(0.75, (128, 64, 32, 16), (0, 0.016667, 0.024194, 0.027778)),
    *table(0.875, (256, 128, 64, 32), (0, 0.017857, 0.025, 0.028226)),
    *table(0.9375, (512, 256, 128, 64), (0, 0.020833, 0.026786, 0.029167)),
]


@pytest.mark.parametrize(("rho", "alpha", "steps", "share"), CELLS)
def test_main_sweep_of_the_paper_with_exactly_32_epochs(rho, alpha, steps, share):
    schedule = two_stage(replay_fraction=rho, stage2_allocation=alpha, **PAPER)
    got = schedule.realised()
    assert schedule.sequences("target") == 32 * 1024 and got.target_epochs == 32
    assert schedule.stages[-1].count("target") == 32 * 1024 * alpha
    assert got.stage2_allocation == alpha and got.target_fraction == 1 / 32
    # Within the rounding of one sequence of stage 2 (the authors' own runs had 31.6 to 33 epochs).
    assert abs(got.replay_fraction - rho) <= 0.5 / schedule.stages[-1].sequences
    assert abs(got.stage2_steps - steps) < 0.005
    assert abs(got.stage1_target_share - share) < 1e-6
    assert schedule.total_steps == 1024
    if rho not in (0.25,):
        assert got.replay_fraction == rho and got.stage2_steps == steps


@pytest.mark.parametrize(
    ("multiple", "steps"),
    [(1, 64), (1.125, 72), (1.25, 80), (1.5, 96), (2, 128), (3, 192), (4, 256)],
)
def test_fine_tuning_lengths_of_the_paper(multiple, steps):
    sizes = {**PAPER, "target_epochs": 64, "learning_rate": COSINE}
    schedule = fine_tuning(replay_fraction=1 - 1 / multiple, stage2_learning_rate=SECOND, **sizes)
    first, second = schedule.stages
    assert first.sequences == (1024 - steps) * 1024 and first.count("target") == 0
    assert second.sequences == steps * 1024 and second.count("target") == 64 * 1024
    assert schedule.total_steps == 1024 and schedule.realised().target_epochs == 64
    assert abs(schedule.realised().replay_fraction - (1 - 1 / multiple)) < 1e-12
    expected = [learning_rates(COSINE, 1024 - steps), learning_rates(SECOND, steps)]
    np.testing.assert_array_equal(schedule.learning_rates(), np.concatenate(expected))
    assert np.flatnonzero(schedule.resets()).tolist() == [1024 - steps]
    assert schedule.requested.protocol == "fine_tuning"


def test_reference_runs_of_the_paper():
    for budget in (1, 2, 4, 8, 16):
        schedule = uniform(**{**PAPER, "target_sequences": 1024 * budget})
        assert [stage.sequences for stage in schedule.stages] == [1024 * 1024]
        assert schedule.realised().target_fraction == budget / 32
        assert schedule.realised().replay_fraction == 1 - budget / 32
        assert schedule.realised().stage2_allocation == 1
    np.testing.assert_array_equal(schedule.learning_rates(), learning_rates(WSD, 1024))
    assert not schedule.resets().any()


@given(
    total=st.integers(0, 10_000),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=6),
)
@settings(deadline=None, max_examples=100)
def test_apportion_is_largest_remainder(total, shares):
    assume(sum(shares) > 0)
    counts = apportion(total, shares)
    quotas = [total * Fraction(share) / sum(map(Fraction, shares)) for share in shares]
    assert sum(counts) == total and min(counts) >= 0
    assert all(abs(count - quota) < 1 for count, quota in zip(counts, quotas, strict=True))
    raised = [q - q // 1 for q, c in zip(quotas, counts, strict=True) if c > q // 1 and c != q]
    kept = [q - q // 1 for q, c in zip(quotas, counts, strict=True) if c == q // 1]
    assert min(raised, default=1) >= max(kept, default=0)


def test_rounding_of_halves():
    assert [nearest(x) for x in (0.5, 1.5, 2.5, 2.499999)] == [1, 2, 3, 2]
    assert apportion(3, (0.5, 0.5)) == (1, 2)
    with pytest.raises(UserError, match="cannot split 3"):
        apportion(3, (0.0, 0.0))


sizes = st.fixed_dictionaries(
    {
        "total_steps": st.integers(1, 60),
        "batch_size": st.integers(1, 24),
        "target_sequences": st.integers(1, 40),
        "target_epochs": st.integers(1, 12),
    }
)
rhos = st.one_of(st.sampled_from([0, 0.25, 0.5, 0.75, 0.875]), st.floats(0, 0.98))
alphas = st.one_of(st.sampled_from([1, 0.5, 0.25]), st.floats(0.01, 1))


def built(function, **request):
    """The schedule, or a skipped example where the request is impossible."""
    try:
        return function(learning_rate=WSD, **request)
    except UserError:
        assume(False)
        raise


@given(size=sizes, rho=rhos, alpha=alphas, whole=st.booleans())
@settings(deadline=None, max_examples=200)
def test_two_stage_counts_are_exact(size, rho, alpha, whole):
    start = "reset" if whole else "continue"
    schedule = built(
        two_stage, replay_fraction=rho, stage2_allocation=alpha, stage2_optimizer=start, **size
    )
    total = size["total_steps"] * size["batch_size"]
    target = size["target_sequences"] * size["target_epochs"]
    counts = [count for stage in schedule.stages for _, count in stage.counts]
    assert min(counts) >= 0 and sum(counts) == schedule.total_sequences == total
    assert schedule.sequences("target") == target
    assert schedule.realised().target_epochs == size["target_epochs"]
    last, gamma = schedule.stages[-1], Fraction(target, total)
    if abs(1 - rho - gamma) > 1e-9:
        assert last.count("target") == nearest(
            Fraction(alpha) * target / (Fraction(alpha) + Fraction(1 - alpha))
        )
        wanted = last.count("target") / (1 - rho)
        step = size["batch_size"] if whole else 1
        assert last.sequences % step == 0
        assert abs(last.sequences - wanted) <= step / 2 or (
            last.sequences - step < last.count("target")  # no room to round down
        )
    if whole and len(schedule.stages) > 1:
        assert np.flatnonzero(schedule.resets()).tolist() == [
            schedule.stage_starts[-1] // size["batch_size"]
        ]


@given(size=sizes, rho=rhos, alpha=alphas)
@settings(deadline=None, max_examples=150)
def test_realised_values_satisfy_the_papers_identities(size, rho, alpha):
    schedule = built(two_stage, replay_fraction=rho, stage2_allocation=alpha, **size)
    got = schedule.realised()
    w2 = 1 - got.replay_fraction
    assert got.stage2_duration * w2 == pytest.approx(got.target_fraction * got.stage2_allocation)
    if got.stage1_target_share is not None:
        total = got.stage1_target_share * (1 - got.stage2_duration) + w2 * got.stage2_duration
        assert total == pytest.approx(got.target_fraction)


@given(size=sizes, rho=rhos, alpha=alphas)
@settings(deadline=None, max_examples=150)
def test_the_three_forms_agree(size, rho, alpha):
    """What one form realised, asked for in the others, gives the same stages."""
    schedule = built(two_stage, replay_fraction=rho, stage2_allocation=alpha, **size)
    got = schedule.realised()
    by_length = two_stage(
        learning_rate=WSD,
        stage2_steps=got.stage2_steps,
        stage2_allocation=got.stage2_allocation,
        **size,
    )
    by_both = two_stage(
        learning_rate=WSD,
        replay_fraction=got.replay_fraction,
        stage2_steps=got.stage2_steps,
        **size,
    )
    again = two_stage(
        learning_rate=WSD,
        replay_fraction=got.replay_fraction,
        stage2_allocation=got.stage2_allocation,
        **size,
    )
    assert by_length.stages == by_both.stages == again.stages == schedule.stages


def test_inverse_of_the_paper_with_replay():
    """alpha = delta (1 - rho) / gamma: the authors' code divides here and then refuses."""
    schedule = two_stage(replay_fraction=0.75, stage2_steps=64, **PAPER)
    assert schedule.realised().stage2_allocation == 0.5
    assert (
        two_stage(stage2_steps=64, stage2_allocation=0.5, **PAPER).realised().replay_fraction
        == 0.75
    )


@given(size=sizes, alpha=alphas, low=rhos, high=rhos)
@settings(deadline=None, max_examples=100)
def test_aligned_runs_begin_identically(size, alpha, low, high):
    low, high = sorted((low, high))
    request = {"stage2_allocation": alpha, "placement": "aligned", **size}
    one = built(two_stage, replay_fraction=low, aligned_replay_fraction=high, **request)
    other = built(two_stage, replay_fraction=high, aligned_replay_fraction=high, **request)
    assert one.sequences("target") == other.sequences("target")
    last = one.stages[-1]
    assert last.count("target") == other.stages[-1].count("target")
    if one.stages[0].count("target") and len(one.stages) > 1:
        assert one.stages[0] == other.stages[0]
        assert all(stage.count("target") == 0 for stage in one.stages[1:-1])
    # The paper's placement has the same counts per stage, whatever the positions.
    paper = two_stage(learning_rate=WSD, replay_fraction=low, stage2_allocation=alpha, **size)
    gamma = one.realised().target_fraction
    if abs(1 - low - gamma) > 1e-9:
        assert paper.stages[-1].counts == last.counts


def test_aligned_stages():
    schedule = two_stage(
        replay_fraction=0.5,
        stage2_allocation=0.25,
        placement="aligned",
        aligned_replay_fraction=0.875,
        **PAPER,
    )
    assert [stage.sequences // 1024 for stage in schedule.stages] == [960, 48, 16]
    assert [stage.count("target") for stage in schedule.stages] == [24 * 1024, 0, 8 * 1024]
    assert [stage.name for stage in schedule.stages] == ["stage 1", "stage 1, rest", "stage 2"]
    np.testing.assert_array_equal(schedule.learning_rates(), learning_rates(WSD, 1024))


def test_matched_exposure():
    """Every schedule of one budget and epochs draws the same number of each row's repeats."""
    control = uniform(**PAPER)
    for rho, alpha, _, _ in CELLS:
        schedule = two_stage(replay_fraction=rho, stage2_allocation=alpha, **PAPER)
        for name in ("generic", "target"):
            assert schedule.sequences(name) == control.sequences(name)


def test_second_learning_rate_without_reset():
    schedule = two_stage(
        replay_fraction=0.5, stage2_allocation=1, stage2_learning_rate=SECOND, **PAPER
    )
    assert not schedule.resets().any()
    np.testing.assert_array_equal(
        schedule.learning_rates(),
        np.concatenate([learning_rates(WSD, 960), learning_rates(SECOND, 64)]),
    )


def test_target_first_control():
    schedule = two_stage(stage2_steps=24, stage2_allocation=0, **PAPER)
    assert schedule.realised().replay_fraction == 1
    assert schedule.stages[0].count("target") == 32 * 1024


def test_fractional_epochs():
    schedule = two_stage(
        **{**PAPER, "target_epochs": 1.5}, replay_fraction=0.5, stage2_allocation=1
    )
    assert schedule.sequences("target") == 1536 and schedule.realised().target_epochs == 1.5


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"replay_fraction": 0.5}, "exactly two"),
        ({"replay_fraction": 0.5, "stage2_allocation": 1, "stage2_steps": 9}, "exactly two"),
        ({"replay_fraction": 1.0, "stage2_allocation": 1}, r"1.0 must lie in \[0, 1\)"),
        ({"replay_fraction": float("nan"), "stage2_allocation": 1}, "nan must lie"),
        ({"replay_fraction": 0.5, "stage2_allocation": 1.5}, "1.5 must lie"),
        ({"replay_fraction": 0.5, "stage2_allocation": 0}, "none of the 32768"),
        ({"replay_fraction": 0.5, "stage2_allocation": 1e-6}, "none of the 32768"),
        ({"replay_fraction": 0.99, "stage2_allocation": 1}, "3276800 sequences but the run has 10"),
        ({"replay_fraction": 0.0, "stage2_steps": 64}, "65536 target sequences but the run has 32"),
        ({"stage2_steps": 16, "stage2_allocation": 1}, "16384 sequences for 32768"),
        ({"stage2_steps": 1020, "stage2_allocation": 0}, "4096 sequences for 32768"),
        ({"stage2_steps": 1025, "stage2_allocation": 1}, "1025 must be positive and at most"),
        ({"stage2_steps": float("nan"), "stage2_allocation": 1}, "nan must be positive"),
        (
            {"stage2_steps": 64.5, "stage2_allocation": 1, "stage2_optimizer": "reset"},
            "64.5 must be whole",
        ),
        ({"replay_fraction": 0, "stage2_allocation": 1, "placement": "even"}, "'even'"),
        (
            {"replay_fraction": 0, "stage2_allocation": 1, "aligned_replay_fraction": 0.5},
            "placement 'paper' with aligned_replay_fraction 0.5",
        ),
        ({"replay_fraction": 0, "stage2_allocation": 1, "placement": "aligned"}, "needs"),
        (
            {
                "replay_fraction": 0.5,
                "stage2_allocation": 0.5,
                "placement": "aligned",
                "aligned_replay_fraction": 0.25,
            },
            "0.5 must not exceed aligned_replay_fraction 0.25",
        ),
        (
            {
                "replay_fraction": 31 / 32,
                "stage2_allocation": 1,
                "stage2_learning_rate": SECOND,
            },
            "takes all 1024 steps",
        ),
        (
            {"replay_fraction": 0.5, "stage2_allocation": 1, "stage2_optimizer": "keep"},
            "'keep' is not one of continue, reset",
        ),
    ],
)
def test_two_stage_refuses(request_, message):
    with pytest.raises(UserError, match=message):
        two_stage(**PAPER, **request_)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_epochs": 1025}, "1024 target sequences x 1025 epochs = 1049600 do not fit in "
                                  "1024 steps of 1024 = 1048576"),
        ({"target_epochs": 1.0001}, "not a whole number; 1 epochs would be"),
        ({"target_epochs": 0}, "target_epochs must be positive, got 0"),
        ({"target_sequences": 0}, "target_sequences must be a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"target": "generic"}, "names a source twice: generic, generic"),
    ],
)  # fmt: skip
def test_uniform_refuses(changes, message):
    with pytest.raises(UserError, match=message):
        uniform(**{**PAPER, **changes})


def test_pure_stage_with_whole_steps_needs_whole_steps():
    request = {**PAPER, "target_sequences": 1000, "stage2_optimizer": "reset"}
    with pytest.raises(UserError, match="32000 target sequences do not fill whole steps of 1024"):
        two_stage(replay_fraction=0, stage2_allocation=1, **request)
    schedule = two_stage(replay_fraction=0.5, stage2_allocation=1, **request)
    assert schedule.stages[-1].sequences == 63 * 1024  # 62.5 steps, rounded by 0.8 %
    assert schedule.realised().replay_fraction == 1 - 32000 / (63 * 1024)
    assert schedule.requested.replay_fraction == 0.5


def test_whole_steps_round_up_where_the_target_needs_them():
    schedule = two_stage(
        total_steps=10,
        batch_size=8,
        target_sequences=10,
        target_epochs=1,
        learning_rate=WSD,
        replay_fraction=0.1,
        stage2_allocation=1,
        stage2_optimizer="reset",
    )
    assert schedule.stages[-1].sequences == 16  # 11.1 sequences, 1.4 steps: one would hold 8
    assert schedule.realised().replay_fraction == 0.375


def test_a_reset_before_the_first_step_is_none():
    request = {**PAPER, "stage2_optimizer": "reset"}
    schedule = two_stage(replay_fraction=31 / 32, stage2_allocation=1, **request)
    assert len(schedule.stages) == 1 and schedule.stages[0].optimizer_start == "reset"
    assert not schedule.resets().any()


def test_fine_tuning_without_pre_training_is_refused():
    with pytest.raises(UserError, match="takes all 1024 steps"):
        fine_tuning(
            **{**PAPER, "target_epochs": 1024}, replay_fraction=0, stage2_learning_rate=SECOND
        )


def stage_config(steps, *shares, rate=None, start="continue"):
    return StageConfig(steps, tuple(shares), rate, start)


def test_many_stages_and_sources():
    schedule = from_stages(
        (
            stage_config(4, ("web", 0.9, 0.5), ("code", 0.1, 0.3), ("math", 0.0, 0.2), rate=WSD),
            stage_config(2.5, ("math", 1.0, 1.0)),
            stage_config(1.5, ("web", 0.5, 0.5), ("code", 0.5, 0.5)),
            stage_config(2, ("code", 1.0, 1.0), rate=SECOND, start="reset"),
        ),
        batch_size=10,
        generic="web",
        target="math",
        target_sequences=29,
    )
    assert schedule.source_names == ("web", "math", "code")
    assert schedule.stage_starts == (0, 40, 65, 80) and schedule.total_steps == 10
    assert [stage.count("web") for stage in schedule.stages] == [28, 0, 7, 0]
    assert [stage.count("code") for stage in schedule.stages] == [8, 0, 8, 20]
    assert schedule.sequences("math") == 29 and schedule.realised().target_epochs == 1
    assert schedule.resets().tolist() == [False] * 8 + [True, False]
    np.testing.assert_array_equal(
        schedule.learning_rates(),
        np.concatenate([learning_rates(WSD, 8), learning_rates(SECOND, 2)]),
    )


def test_fractional_stages_do_not_drift():
    third = stage_config(1 / 3, ("generic", 0.5, 0.5), ("target", 0.5, 0.5))
    first = dataclasses.replace(third, learning_rate=WSD)
    schedule = from_stages((first, *[third] * 8), batch_size=10)
    assert schedule.total_steps == 3
    assert [stage.sequences for stage in schedule.stages] == [3, 4, 3] * 3


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((stage_config(0, ("web", 1, 1), rate=WSD),), "stage 1 has 0 steps"),
        ((stage_config(1, rate=WSD),), "stage 1 has no sources"),
        ((stage_config(1, ("web", 0.5, 1), rate=WSD),), "starts with shares"),
        ((stage_config(1, ("web", 1, 0.5), rate=WSD),), "ends with shares"),
        ((stage_config(1, ("web", 1, 1)),), "first stage needs a learning rate"),
        (
            (stage_config(1.5, ("web", 1, 1), rate=WSD),),
            "12 sequences do not fill whole steps of 8",
        ),
        (
            (
                stage_config(1.5, ("web", 1, 1), rate=WSD),
                stage_config(0.5, ("web", 1, 1), start="reset"),
            ),
            "must start with a whole step, not at sequence 12",
        ),
        (
            (stage_config(1, ("web", 0.5, 0.5), ("web", 0.5, 0.5), rate=WSD),),
            "names a source twice",
        ),
    ],
)
def test_from_stages_refuses(stages, message):
    with pytest.raises(UserError, match=message):
        from_stages(stages, batch_size=8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequences": 0, "counts": ()}, "has 0 sequences"),
        ({"counts": (("generic", 9), ("target", -1))}, "negative count"),
        ({"counts": (("generic", 9),)}, "sum to 9, not to 8"),
        ({"ramp": (("generic", 1.0, 1.0),)}, "must name each of its sources once"),
        (
            {"ramp": (("generic", 1.0, 0.5), ("target", 0.0, 0.5))},
            "gives generic 6 sequences, not 4",
        ),
        ({"ramp": (("generic", 1.0, 0.5), ("target", 0.5, 0.5))}, "starts with shares"),
    ],
)
def test_stage_refuses(changes, message):
    stage = {
        "sequences": 8,
        "counts": (("generic", 4), ("target", 4)),
        "learning_rate": WSD,
        "optimizer_start": "continue",
    }
    assert Stage(**stage).count("target") == 4
    with pytest.raises(UserError, match=message):
        Stage(**{**stage, **changes})


def test_a_schedule_needs_stages_and_few_sources():
    with pytest.raises(UserError, match="both 'web'"):
        from_stages((stage_config(1, ("web", 1, 1), rate=WSD),), batch_size=8, generic="web",
                    target="web")  # fmt: skip
    with pytest.raises(UserError, match="at least one stage"):
        Schedule(8, (), Requested("stages"))
    counts = tuple((f"s{i}", 1) for i in range(256))
    with pytest.raises(UserError, match="at most 256 sources, not 258"):
        Schedule(8, (Stage(256, counts, WSD, "continue"),), Requested("stages"))


@settings(max_examples=200, deadline=None)
@given(
    batch=st.integers(1, 64),
    rows=st.integers(1, 300),
    epochs=st.integers(1, 9),
    rho=st.floats(0, 0.97),
)
def test_continual_is_as_long_as_target_and_replay_take(batch, rows, epochs, rho):
    schedule = continual(
        batch_size=batch,
        target_sequences=rows,
        target_epochs=epochs,
        replay_fraction=rho,
        learning_rate=COSINE,
    )
    assert len(schedule.stages) == 1
    assert schedule.sequences("target") == rows * epochs
    # The nearest whole step, unless that would leave target sequences out.
    wanted = rows * epochs / (1 - rho) / batch
    steps = schedule.total_steps
    assert abs(steps - wanted) <= 0.5 + 1e-9 or (steps - 1) * batch < rows * epochs
    share = 1 - rows * epochs / (steps * batch)
    assert schedule.realised().replay_fraction == pytest.approx(share, abs=1e-12)
    same = uniform(
        total_steps=steps,
        batch_size=batch,
        target_sequences=rows,
        target_epochs=epochs,
        learning_rate=COSINE,
    )
    assert dataclasses.replace(schedule.stages[0], name="uniform") == same.stages[0]


@pytest.mark.parametrize(("rho", "steps"), [(0, 400), (0.5, 800), (0.75, 1600), (0.9, 4000)])
def test_continual_lengths_of_the_paper(rho, steps):
    """200M Basque tokens in batches of 128 sequences, arXiv 2603.04964, 8B experiments."""
    schedule = continual(
        batch_size=128,
        target_sequences=400 * 128,
        target_epochs=1,
        replay_fraction=rho,
        learning_rate=COSINE,
    )
    assert schedule.total_steps == steps
    assert schedule.realised().replay_fraction == pytest.approx(rho, abs=1e-12)


def config(**changes):
    base = ScheduleConfig(
        protocol="two_stage",
        total_steps=1024,
        target_sequences=1024,
        target_epochs=32,
        replay_fraction=0.5,
        stage2_steps=None,
        stage2_allocation=1.0,
        placement="paper",
        aligned_replay_fraction=None,
        arithmetic="exact",
        learning_rate=WSD,
        stage2_learning_rate=None,
        stage2_optimizer="continue",
        stages=(),
        batch_sizes=(),
    )
    return dataclasses.replace(base, **changes)


def build(**changes):
    return build_schedule(config(**changes), batch_size=1024, generic="web", target="math")


def test_build_schedule_dispatches():
    names = {"generic": "web", "target": "math"}
    assert build() == two_stage(replay_fraction=0.5, stage2_allocation=1.0, **PAPER, **names)
    aligned = {"placement": "aligned", "aligned_replay_fraction": 0.75, "stage2_allocation": 0.5}
    assert build(**aligned) == two_stage(replay_fraction=0.5, **aligned, **PAPER, **names)
    plain = {"replay_fraction": None, "stage2_allocation": None}
    assert build(protocol="uniform", **plain) == uniform(**PAPER, **names)
    going_on = build(protocol="continual", total_steps=None)
    sizes = {key: PAPER[key] for key in PAPER if key != "total_steps"}
    assert going_on == continual(replay_fraction=0.5, **sizes, **names)
    assert going_on == build(protocol="continual", total_steps=None, stage2_allocation=None)
    second = {"stage2_learning_rate": SECOND, "stage2_optimizer": "reset"}
    assert build(protocol="fine_tuning", **second) == fine_tuning(
        replay_fraction=0.5, stage2_learning_rate=SECOND, **PAPER, **names
    )
    stage = stage_config(1024, ("web", 1.0, 0.0), ("math", 0.0, 1.0))
    free = build(protocol="stages", target_epochs=None, stages=(stage,), **plain)
    assert free == from_stages(
        (dataclasses.replace(stage, learning_rate=WSD),),
        batch_size=1024,
        target_sequences=1024,
        **names,
    )


PLAIN = {"replay_fraction": None, "stage2_allocation": None}
FREE = {"protocol": "stages", "target_epochs": None, **PLAIN}
GOING_ON = {"protocol": "continual", "total_steps": None}
STAGE = stage_config(1024, ("web", 1, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "three_stage"}, "'three_stage' is not one of two_stage, fine_tuning"),
        ({"target_epochs": None}, "needs target_sequences and target_epochs"),
        ({"stages": (STAGE,)}, "does not use stages"),
        ({"protocol": "uniform"}, "'uniform' does not use replay_fraction; leave it at None"),
        ({"protocol": "uniform", **PLAIN, "stage2_optimizer": "reset"}, "leave it at 'continue'"),
        ({"protocol": "fine_tuning"}, "needs replay_fraction and stage2_learning_rate"),
        ({"protocol": "fine_tuning", "stage2_learning_rate": SECOND}, "cannot be 'continue'"),
        ({"protocol": "fine_tuning", "stage2_allocation": 0.5}, "cannot be 0.5"),
        ({"protocol": "fine_tuning", "placement": "aligned"}, "does not use placement"),
        ({"total_steps": None}, "'two_stage' needs total_steps"),
        ({**FREE, "total_steps": None, "stages": (STAGE,)}, "'stages' needs total_steps"),
        ({"protocol": "continual"}, "'continual' does not use total_steps; leave it at None"),
        (GOING_ON | {"stage2_steps": 5.0}, "does not use stage2_steps"),
        (GOING_ON | {"stage2_allocation": 0.5}, "one stage, so stage2_allocation cannot be 0.5"),
        (GOING_ON | PLAIN, "needs replay_fraction; 0 trains on target data alone"),
        (GOING_ON | {"replay_fraction": 1.0}, r"replay_fraction 1.0 must lie in \[0, 1\)"),
        ({**FREE, "target_epochs": 3}, "does not use target_epochs"),
        (FREE, "needs at least one stage"),
        ({**FREE, "stages": (STAGE, STAGE)}, "2048 steps together but total_steps is 1024"),
        (
            {**FREE, "stages": (dataclasses.replace(STAGE, learning_rate=SECOND),)},
            "leave its own out",
        ),
    ],
)
def test_build_schedule_refuses(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)
