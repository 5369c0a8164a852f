"""Studies: tuning, multipliers with their intervals, baselines, fronts, words."""

import json
import math
from typing import Any

import numpy as np
import pytest
from fake_records import GSM8K, FakeStudy, fake_records

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import BEST_EPOCHS, law, record, sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.study import Study, TargetStudy
from replay_jax.errors import UserError

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)


def worth(rho: float) -> float:
    """True equivalent of a schedule over its budget: best at rho = .5."""
    return 0.8 * math.exp(2 * rho - 2 * rho * rho)


def study_of(records: list[dict[str, Any]], config: AnalysisConfig = CONFIG) -> TargetStudy:
    return analyse(records, config, resamples=400).target()


def cell_at(study: TargetStudy, rho: float, allocation: float = 1.0):
    return next(
        cell
        for cell in study.cells
        if cell.key.protocol == "two_stage"
        and cell.key.replay_fraction == rho
        and cell.key.allocation == allocation
    )


def test_multipliers_and_their_intervals_hold_the_truth():
    inside = {"multiplier": 0, "gain": 0, "generic_cost": 0}
    for draw in range(10):
        study = study_of(sweep(worth=worth, draw=draw))
        for rho in (0.25, 0.75):
            cell = cell_at(study, rho)
            truths = {
                "multiplier": worth(rho) / worth(0),
                "gain": law(4096 * worth(0)) - law(4096 * worth(rho)),
                "generic_cost": -0.6 * rho,
            }
            assert cell.chosen.target_epochs == BEST_EPOCHS
            assert cell.multiplier.value == pytest.approx(truths["multiplier"], rel=0.1)
            assert not cell.multiplier.extrapolated
            assert cell.better > 0.99
            for name, truth in truths.items():
                found = getattr(cell, name)
                inside[name] += found.low < truth < found.high
    assert min(inside.values()) >= 14, inside  # 18 of 20 expected; below 14 has odds of 1 in 100


def test_baseline_and_law_of_a_simple_sweep():
    study = study_of(sweep(worth=worth, draw=1))
    baseline = cell_at(study, 0.0)
    assert baseline.is_baseline and baseline.multiplier is None
    assert all(study.cells[c.baseline] == baseline for c in study.cells if c.baseline is not None)
    low, high = baseline.equivalent_tokens.low, baseline.equivalent_tokens.high
    assert low < 4096 * worth(0) < high
    assert study.curve.name == "power"
    assert study.curve.coefficients["B"].low < 0.5 < study.curve.coefficients["B"].high


def test_tuning_takes_the_best_mean_over_seeds_and_names_edges():
    study = study_of(sweep(worth=worth, epochs=(16.0, 32.0, 64.0)))
    cell = cell_at(study, 0.5)
    assert cell.chosen.target_epochs == 16.0
    assert [edge.words for edge in cell.at_edge] == [
        "schedule.target_epochs: best at 16, the smallest tried; try 8"
    ]
    study = study_of(sweep(worth=worth, epochs=(4.0, 8.0)))
    assert "the largest tried; try 16" in cell_at(study, 0.5).at_edge[0].words


def test_the_winner_is_picked_anew_in_every_resample():
    study = study_of(sweep(worth=worth, epoch_penalty=0.0, noise=0.05))
    index = study.cells.index(cell_at(study, 0.5))
    assert 0.2 < study.cells[index].best_share < 0.95
    # The best of three equal settings was lucky: resamples are centred above what was observed.
    luck = study.draws.target.mean(axis=0) - [c.chosen.target_loss for c in study.cells]
    clear = study_of(sweep(worth=worth, epoch_penalty=1.0, noise=0.05))
    none = clear.draws.target.mean(axis=0) - [c.chosen.target_loss for c in clear.cells]
    assert luck[index] > 0.01 > np.abs(none[index] - none[0])
    assert study.draws.luck[index] == pytest.approx(luck[index], abs=0.002)


def test_pairing_by_seed_narrows_the_comparison():
    paired = sweep(worth=worth, shared=0.2, noise=0.005)
    unpaired = [
        {**r, "seed": r["seed"] + (10 if r["protocol"] == "uniform" else 0)} for r in paired
    ]
    shifted = [
        {**r, "seed": r["seed"] + (20 if r["replay_fraction"]["realised"] == 0.5 else 0)}
        for r in unpaired
    ]
    gain = cell_at(study_of(paired), 0.5).gain
    loose = cell_at(study_of(shifted), 0.5).gain
    assert gain.high - gain.low < 0.1 * (loose.high - loose.low)


def test_front_fit_and_controls():
    study = study_of(sweep(worth=worth))
    order = [round(cell.key.replay_fraction, 2) for cell in study.cells[:4]]
    assert order == [0.0, 0.25, 0.5, 0.75]
    front = study.front[4096]
    assert study.cells.index(cell_at(study, 0.5)) in front
    assert study.cells.index(cell_at(study, 0.0)) not in front
    (fit,) = study_of(sweep(worth=worth, noise=0.03, epochs=(16.0,), draw=5)).replay_fits
    assert fit.minimum.value == pytest.approx(0.6, abs=0.1)
    assert fit.minimum.low <= fit.minimum.value <= fit.minimum.high
    np.testing.assert_allclose(
        fit.loss(np.array([0.0])), study.cells[0].target_loss.value, atol=0.06
    )
    control = next(c for c in study.controls if study.cells[c.cell] == cell_at(study, 0.5))
    assert study.cells[control.constant].key.protocol == "uniform"
    assert control.target_epochs == BEST_EPOCHS
    expected = law(4096 * worth(0.5)) - law(4096)
    assert control.difference.low < expected < control.difference.high


def test_a_minimum_far_outside_is_not_drawn():
    def falling(rho: float) -> float:
        return 0.8 * (1 - rho) ** -0.3

    (fit,) = study_of(
        sweep(worth=falling, noise=0.0005, replay_fractions=(0.0, 0.2, 0.4, 0.6))
    ).replay_fits
    assert fit.minimum is None and fit.note


def test_three_fractions_fit_no_parabola():
    """They fit one exactly, so nothing is left to tell its minimum by."""
    three = sweep(worth=worth, replay_fractions=(0.0, 0.5, 0.75))
    assert study_of(three).replay_fits == ()
    assert len(study_of(sweep(worth=worth)).replay_fits) == 1


def test_a_minimum_that_the_sweep_does_not_bound_has_no_end():
    """The end used to be where resamples were clipped, whatever the records said."""
    flat = sweep(worth=lambda rho: 0.8 + 0.3 * rho, noise=0.03, epochs=(16.0,), draw=4)
    (fit,) = study_of(flat).replay_fits
    assert fit.minimum is not None and fit.minimum.high is None
    assert "not bounded by replay fractions up to 0.75" in fit.note


def test_losses_that_are_no_parabola_have_no_minimum_by_one():
    """A steep fall and a slow rise: the parabola's minimum lies far right of the true one."""

    def skewed(rho: float) -> float:
        t = -math.log1p(-rho)
        return math.exp(1.2 * t * math.exp(-t))

    fractions = (0.0, 0.25, 0.5, 0.75, 0.875, 0.9375)
    (fit,) = study_of(sweep(worth=skewed, replay_fractions=fractions)).replay_fits
    assert fit.minimum is None and "no parabola" in fit.note


def test_reference_may_be_the_runs_without_replay():
    records = [
        record(
            target_tokens=tokens,
            seed=seed,
            replay_fraction=rho,
            target_loss=law(tokens * (1 + rho)) + 0.01 * (seed + 1) * (-1) ** (tokens // 1024),
        )
        for tokens in (1024, 2048, 4096, 8192)
        for rho in (0.0, 0.5)
        for seed in (0, 1)
    ]
    config = AnalysisConfig({"replay_fraction": 0.0}, (), 0.9)
    study = study_of(records, config)
    baseline = next(c for c in study.cells if c.key.target_tokens == 2048 and c.is_baseline)
    assert baseline.is_reference
    replay = next(
        c for c in study.cells if c.key.target_tokens == 2048 and c.key.replay_fraction == 0.5
    )
    assert replay.multiplier.value == pytest.approx(1.5, abs=0.15)
    assert "nothing was tuned" in " ".join(study.notes)


def test_one_seed_says_that_noise_is_unknown():
    study = study_of(sweep(worth=worth, seeds=(0,)))
    assert not study.seed_noise_known
    assert "seed noise unknown" in study.notes[0]
    assert study.generic_noise is None
    assert cell_at(study, 0.5).generic_cost.low is None
    assert cell_at(study, 0.5).multiplier.low is not None  # scatter about the law, as the note says
    few = study_of(sweep(worth=worth, seeds=(0,), budgets=(1024, 4096)))
    assert cell_at(few, 0.5).gain.low is None


def test_fewer_than_three_budgets_is_said_not_guessed():
    study = study_of(sweep(worth=worth, budgets=(1024, 4096)))
    assert study.curve is None
    assert "at least 3 budgets" in study.curve_problem and "1,024, 4,096" in study.curve_problem
    cell = cell_at(study, 0.5)
    assert cell.multiplier is None and cell.gain.low > 0 and "3 budgets" in cell.note
    with pytest.raises(UserError, match="no reference law"):
        study.band([1024.0])


def test_rising_reference_is_said():
    records = sweep(worth=worth)
    for r in records:
        if r["protocol"] == "uniform":
            r["losses"]["target"] = 8 - r["losses"]["target"]
    study = study_of(records)
    assert study.curve is None and "does not fall" in study.curve_problem


def test_epochs_beyond_a_bracketed_best_are_not_missing():
    def left_out(rho, count):
        records = sweep(worth=lambda _: 1.0, noise=0.0, shared=0.0, epochs=(8.0, 16.0, 32.0))
        return [
            record
            for record in records
            if record["protocol"] == "uniform"
            or record["replay_fraction"]["requested"] != rho
            or record["target_epochs"] != count
        ]

    # 16 is best: without 8 or 32 it is the last tried on that side; without 16 there is a gap.
    for count in (8, 16, 32):
        (line,) = study_of(left_out(0.5, float(count))).missing
        assert f"target_epochs {count} was tried at other replay fractions only" in line
    # 64, tried elsewhere, says nothing about a cell whose best lies between 8 and 32.
    more = sweep(worth=lambda _: 1.0, noise=0.0, shared=0.0, epochs=(64.0,))
    others = [r for r in more if r["replay_fraction"]["requested"] not in (0.5, None)]
    everything = sweep(worth=lambda _: 1.0, noise=0.0, shared=0.0, epochs=(8.0, 16.0, 32.0))
    assert study_of(everything + others).missing == ()


def test_missing_runs_are_listed_in_words():
    records = sweep(worth=worth)
    gone = [
        r
        for r in records
        if r["replay_fraction"]["requested"] == 0.5
        and (r["target_epochs"] == 32.0 or (r["target_epochs"] == 16.0 and r["seed"] == 2))
    ]
    study = study_of([r for r in records if r not in gone])
    assert any("ρ = 0.5" in line and "no run of seed 2" in line for line in study.missing)
    assert any("target_epochs 32" in line and "ρ = 0.5" in line for line in study.missing)
    assert len(study.missing) == 2
    # 16 epochs, best of all, compete with two seeds as well, and are not better for the lost one.
    chosen = cell_at(study, 0.5).chosen
    assert chosen.target_epochs == 16.0
    assert chosen.target_loss == pytest.approx(
        cell_at(study_of(records), 0.5).chosen.target_loss, abs=0.01
    )
    assert study_of(records).missing == ()


def test_knobs_beside_the_reference_recipe_are_told_apart_and_the_usual_goes_unsaid():
    """Two knobs turned at one replay fraction, both named in what marks a reference run."""

    def turned(**knobs):
        records = sweep(worth=worth, epochs=(16.0,), replay_fractions=(0.0, 0.5))
        chosen = [r for r in records if r["protocol"] == "two_stage"]
        for r in chosen:
            r["overrides"].update(knobs)
            r["target_tokens"] = 4096
            r["id"] += str(knobs)
        return chosen

    plain = sweep(worth=worth, epochs=(16.0,), replay_fractions=(0.0, 0.5))
    for r in plain:
        r["config"] = {**r["config"], "optimizer": {"weight_decay": 0.1}, "reset": False}
    decay = turned(**{"optimizer.weight_decay": 0.8, "reset": False})
    reset = turned(**{"optimizer.weight_decay": 0.1, "reset": True})
    config = AnalysisConfig(
        {"protocol": "uniform", "optimizer.weight_decay": 0.1, "reset": False},
        ("schedule.target_epochs",),
        0.9,
    )
    study = analyse([*plain, *decay, *reset], config, resamples=50, seed=0).target()
    at_half = {c.key.axes: c for c in study.cells if c.key.replay_fraction == 0.5}
    assert set(at_half) == {
        (),
        (("optimizer.weight_decay", "0.8"),),
        (("reset", "True"),),
    }
    for cell in at_half.values():
        assert study.cells[cell.baseline].key.axes == cell.key.axes
        assert study.cells[cell.baseline].key.replay_fraction == 0.0


def test_other_swept_keys_split_cells_and_keep_their_own_baseline():
    records = sweep(worth=worth)
    heavy = json.loads(json.dumps(sweep(worth=lambda rho: 1.2 * worth(rho), draw=1)))
    heavy = [r for r in heavy if r["protocol"] == "two_stage"]
    for r in heavy:
        r["overrides"]["optimizer.weight_decay"] = 1.6
    for r in records:
        r["config"]["optimizer"] = {"weight_decay": 0.1}
    study = study_of(records + heavy)
    cells = [c for c in study.cells if c.key.replay_fraction == 0.5]
    assert {c.key.axes for c in cells} == {(), (("optimizer.weight_decay", "1.6"),)}
    for cell in cells:
        assert study.cells[cell.baseline].key.axes == cell.key.axes
        assert cell.multiplier.value == pytest.approx(worth(0.5) / worth(0), rel=0.1)


def test_boundary_and_gap_are_means_over_seeds():
    records = sweep(worth=worth, seeds=(0, 1))
    for r in records:
        if r["protocol"] == "two_stage":
            spike = 0.1 if r["seed"] else 0.3
            r["boundary"] = {
                "step": 400,
                "before": {"target": 4.0, "generic": 3.0},
                "after": {"target": 3.9, "generic": 3.0 + spike},
                "gradient_cosine": None if r["seed"] else 0.25,
            }
    cell = cell_at(study_of(records), 0.5)
    assert cell.boundary.generic_spike == pytest.approx(0.2)
    assert cell.boundary.target_spike == pytest.approx(-0.1)
    assert cell.boundary.gradient_cosine == 0.25
    assert cell.boundary.gap == pytest.approx(0.5)


def test_band_marks_extrapolation_and_holds_the_law():
    study = study_of(sweep(worth=worth))
    rows = study.band([512.0, 2048.0, 65536.0])
    assert [row["extrapolated"] for row in rows] == [True, False, True]
    assert rows[1]["low"] < law(2048) < rows[1]["high"]


def test_the_band_of_a_comparison_closes_where_it_starts():
    study = study_of(sweep(worth=worth, shared=0.2))
    here, there = study.band([2048.0, 8192.0], since=2048.0)
    alone = study.band([8192.0])[0]
    assert here["low"] == pytest.approx(here["high"]) == pytest.approx(here["loss"])
    # What a seed shifts everywhere alike is in a loss and not in a change.
    assert there["high"] - there["low"] < 0.5 * (alone["high"] - alone["low"])
    assert there["low"] < law(8192) - law(2048) + here["loss"] < there["high"]


def test_overfitting_is_compared_over_as_many_last_steps_in_every_run():
    """Runs evaluated at other steps, whose training loss falls by .1 nat every 4 steps alike."""
    records = sweep(worth=worth)
    for r in records:
        ends = (500, 512) if r["replay_fraction"]["requested"] == 0.5 else (500, 508, 512)
        points = []
        for before, step in zip((0, *ends), ends, strict=False):
            trained = None if step == 500 else 4 - np.mean(np.arange(before - 500, step - 500)) / 40
            points.append({"step": step, "target": 1.0, "generic": 1.0, "train_target": trained,
                           "train_generic": None})  # fmt: skip
        r["curve"], r["losses"] = points, {"target": 5.0, "generic": 1.0}
    study = study_of(records)
    assert cell_at(study, 0.5).boundary.gap == pytest.approx(cell_at(study, 0.25).boundary.gap)


def test_two_targets_are_told_apart():
    records = sweep(worth=worth) + [{**r, "target": "basque"} for r in sweep(worth=worth, draw=5)]
    study = analyse(records, CONFIG, resamples=50)
    assert [found.target for found in study.targets] == ["basque", "gsm8k"]
    with pytest.raises(UserError, match="name one of basque, gsm8k"):
        study.target()
    with pytest.raises(UserError, match="no target 'flan'"):
        study.target("flan")
    assert isinstance(study, Study)


def test_a_constant_mixture_is_compared_with_the_best_protocol_without_replay():
    """Not with whichever comes first: against a poor one it would be worth anything."""
    one = FakeStudy((GSM8K,), seeds=(0, 1), allocations=(1.0,), epochs=(16.0,))
    records = fake_records(one)
    poor = []
    for each in records:
        if each["protocol"] != "uniform":
            losses = {**each["losses"], "target": each["losses"]["target"] + 0.5}
            overrides = {**each["overrides"], "schedule.protocol": "fine_tuning"}
            changed = {"protocol": "fine_tuning", "losses": losses, "overrides": overrides}
            poor.append(each | changed | {"id": "f" + each["id"][1:]})
    study = analyse(records + poor, CONFIG, resamples=50).targets[0]
    (mixture,) = (
        cell for cell in study.cells
        if cell.key.protocol == "uniform" and cell.key.target_tokens == 4096
    )  # fmt: skip
    assert study.cells[mixture.baseline].key.protocol == "two_stage"
    assert mixture.gain.value < 0.5
