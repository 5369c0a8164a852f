"""Generic losses that only some runs have: what is left unsaid is their cost, and nothing else."""

import json
import math
import warnings

import numpy as np
import pytest

from replay_jax.analysis.sources.frame import runs_of_frame
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.report.advice import advise, by_target
from replay_jax.report.drawing import draw_figures
from replay_jax.report.foreign import foreign_advice, foreign_page, has_generic

FRACTIONS = (0.0, 0.25, 0.5, 0.75)


def runs(measured):
    """Columns of runs of a law; `measured(budget, fraction, seed)`: the generic loss is there."""
    rng = np.random.default_rng(31)
    rows = [
        {
            "budget": budget,
            "rho": rho,
            "seed": seed,
            "loss": 2.4 + 1.6 * (budget * (1 + 1.2 * rho) / 20000) ** -0.4 + rng.normal(0, 0.01),
            "generic_loss": 3 - 0.5 * rho + rng.normal(0, 0.01),
        }
        for budget in (10000, 20000, 40000, 80000)
        for rho in (FRACTIONS if budget == 20000 else (0.0,))
        for seed in (1, 2, 3)
    ]
    for row in rows:
        if not measured(row["budget"], row["rho"], row["seed"]):
            row["generic_loss"] = None
    return {name: [row[name] for row in rows] for name in rows[0]}


def analysed(table):
    """(what was read, study, advice, its JSON, the page); no warning, no NaN in JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = runs_of_frame(table)
        study = analyse_anyway(found.records, found.config, resamples=400)
        advice = foreign_advice(advise(study, complete=True))
        page = foreign_page(found.records, study, advice, name="runs", notes=found.notes)
        plain = by_target(advice)
        json.dumps([plain, study.cells], allow_nan=False)
        return found, study, advice, plain, page


@pytest.mark.parametrize(
    ("measured", "cost"),
    [
        (lambda budget, rho, seed: budget == 20000, True),
        (lambda budget, rho, seed: seed == 1, True),
        (lambda budget, rho, seed: rho > 0, False),
        (lambda budget, rho, seed: rho == 0, False),
        (lambda budget, rho, seed: rho == 0.5, False),
        (lambda budget, rho, seed: False, False),
    ],
)
def test_a_generic_loss_that_is_missing_costs_only_the_cost(measured, cost):
    found, study, advice, plain, page = analysed(runs(measured))
    whole = analysed(runs(lambda *_: True))[2]["target"][0]
    own = advice["target"][0]
    assert len(found.records) == 21 and own.verdict == whole.verdict == "replay helps"
    assert own.multiplier.value == pytest.approx(whole.multiplier.value, rel=0.02)
    assert (plain["generic_cost_nats"] is not None) == cost == bool(own.cost)
    for cell in study.targets[0].cells:
        there = np.isfinite(cell.chosen.generic_by_seed).any()
        assert (cell.generic_loss.value is not None) == there
    drawings = draw_figures([f for f in page.figures() if f.name.startswith(("pareto", "replay"))])
    assert {drawing.problem for drawing in drawings.values()} <= {""}
    assert not any("NaN" in drawing.svg for drawing in drawings.values())


def test_which_losses_are_missing_is_said_by_name():
    notes = analysed(runs(lambda budget, rho, seed: budget == 20000))[0].notes
    assert any(
        "generic_loss is empty in 9 of 21 runs (row 1, row 2, row 3, row 16 and 5 more)" in note
        for note in notes
    )
    assert not any("left out" in note for note in notes)
    found = analysed(runs(lambda *_: False))[0]
    assert not has_generic(found.records) and any(
        "empty everywhere" in note for note in found.notes
    )
    diverged = runs(lambda *_: True)
    diverged["generic_loss"][4] = math.inf
    diverged["loss"][5] = None
    lines = runs_of_frame(diverged).notes
    assert lines[0] == "left out, because their generic loss is no finite number: row 5"
    assert lines[1] == "left out, because their target loss is no finite number: row 6"
