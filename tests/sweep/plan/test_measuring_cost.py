"""What held-out sets cost, counted by hand."""

import pytest

from replay_jax.config.experiments import experiments_of
from replay_jax.config.recipe import load_recipe
from replay_jax.model.flops import flops_per_token, forward_flops_per_token
from replay_jax.sweep.plan import measuring_cost
from replay_jax.sweep.plan.found import Found
from replay_jax.sweep.plan.measured import evaluation_steps
from replay_jax.sweep.plan.plan import plan_sweep
from replay_jax.sweep.plan.work import Done


def planned(experiments):
    return plan_sweep(experiments, found=Found(None), done=Done())


def test_every_set_is_counted_once_at_every_state(monkeypatch):
    plan, formulas = planned(experiments_of(load_recipe("smoke"))), []

    def formula(*given, **how):
        formulas.append(given)
        return forward_flops_per_token(*given, **how)

    monkeypatch.setattr(measuring_cost, "forward_flops_per_token", formula)
    totals = plan.to_json()["totals"]
    # Of ten thousand runs it was worked out a million times, a minute of planning.
    assert len(formulas) <= 2
    config = plan.runs[0].config
    each = flops_per_token(config.model, 64, causal_half=False).total / 3 * 64 * 64
    states = [run.node(step) for run in plan.runs for step in evaluation_steps(run)]
    assert totals["evaluation_flops"] == pytest.approx(2 * each * len(states))
    assert len(set(states)) < len(states)  # of the two seeds, with what their runs share
    assert totals["evaluation_flops_planned"] == pytest.approx(2 * each * len(set(states)))
    assert totals["evaluation_flops_remaining"] == totals["evaluation_flops_planned"]


@pytest.mark.parametrize("steps", [80, 400])
def test_the_8b_case_measures_for_a_twentieth_of_its_training(steps):
    """The shortest runs of each budget: they are measured most often for their length."""
    (run,) = (
        (config, item)
        for config, item in experiments_of(load_recipe("paper/basque_8b"))
        if config.schedule.target_sequences == steps * 128
        and (config.schedule.target_epochs, config.schedule.replay_fraction) == (1, 0)
    )
    totals = planned([run]).to_json()["totals"]
    assert 0.01 < totals["evaluation_flops"] / totals["flops"] < 0.05
