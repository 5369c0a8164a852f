"""What planning costs for every run of a large sweep, counted in calls, which do not vary.

`tools/bench_plan.py` says what that is in seconds.
"""

import json
import sys

from replay_jax.config.defaults import paper_config
from replay_jax.config.experiment import resolve
from replay_jax.config.grid import grid
from replay_jax.config.recipe import override
from replay_jax.sweep.plan.found import Found
from replay_jax.sweep.plan.plan import plan_sweep
from replay_jax.sweep.plan.work import Done


def calls(seeds):
    """Function calls of planning three runs of the paper's size for each seed."""
    base = paper_config().to_dict()
    base["schedule"] |= {"placement": "aligned", "aligned_replay_fraction": 0.5}
    experiments = []
    for item in grid({"schedule.replay_fraction": [0.0, 0.25, 0.5]}, {"seed": [*range(seeds)]}):
        plain = base
        for key, value in item.items():
            plain = override(plain, key, value)
        experiments.append((resolve(plain), item))
    counted = 0

    def count(_frame, event, _argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        json.dumps(plan_sweep(experiments, found=Found(None), done=Done()).to_json())
    finally:
        sys.setprofile(None)
    return counted


def test_another_run_of_a_large_sweep_costs_few_calls():
    """3,400 when it was written; 6,500 before the parts of configurations were described once."""
    assert (calls(20) - calls(10)) / 30 < 4500
