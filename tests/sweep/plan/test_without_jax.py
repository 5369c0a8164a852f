"""A sweep is planned, its ledgers are computed and its workers are led without what only trains."""

import subprocess
import sys

SCRIPT = """
import pkgutil
import sys
from importlib import import_module

import replay_jax.commands.run
import replay_jax.schedule
import replay_jax.data.ledger
import replay_jax.sweep.plan
from replay_jax.config.defaults import paper_config
from replay_jax.config.experiment import resolve

for room in (replay_jax.schedule, replay_jax.data.ledger, replay_jax.sweep.plan):
    for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        import_module(module.name)
from replay_jax.data.reading import batch_rows, views
from replay_jax.sweep.plan.found import Found
from replay_jax.sweep.plan.plan import plan_sweep
from replay_jax.sweep.plan.work import Done

plan = plan_sweep([(resolve(paper_config().to_dict()), {})], found=Found(None), done=Done())
print(plan.to_json()["totals"]["steps"])
print(*sorted({"jax", "flax", "optax", "orbax", "grain"} & set(sys.modules)))
"""


def test_planning_and_running_load_neither_jax_nor_grain():
    """A worker loads them; `run` itself starts a second sooner without."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    steps, loaded = done.stdout.splitlines()
    assert int(steps) > 0 and loaded == ""
