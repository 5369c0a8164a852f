"""How long and how much memory planning takes, and scheduling: `python tools/bench_plan.py [runs]`.

Plans a sweep of 1,000 runs (or as many as given) of 1024 steps x 1024 rows, the paper's sizes, with
replay fraction, allocation, epochs, target and seed varied, without touching any data.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence

from replay_jax.config.defaults import paper_config
from replay_jax.config.experiment import resolve
from replay_jax.config.grid import grid
from replay_jax.config.recipe import override
from replay_jax.sweep.plan.found import Found
from replay_jax.sweep.plan.plan import plan_sweep
from replay_jax.sweep.plan.scheduler import Scheduler
from replay_jax.sweep.plan.work import Done, Task


def main() -> None:
    """Plan, and print seconds, peak memory and the saving."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    sweep = grid(
        {"schedule.target_epochs": [8.0, 16.0, 32.0]},
        {"data.target": ["finemath", "starcoder", "flan"]},
        {"schedule.stage2_allocation": [1.0, 0.5, 0.25, 0.125]},
        {"schedule.replay_fraction": [0.0, 0.25, 0.5, 0.75, 0.875]},
        {"seed": list(range(1 + wanted // 180))},
    )[:wanted]
    base = paper_config().to_dict()
    base["schedule"] |= {"placement": "aligned", "aligned_replay_fraction": 0.875}
    began, cpu_began = time.perf_counter(), time.process_time()
    experiments = []
    for item in sweep:
        plain = base
        for key, value in item.items():
            plain = override(plain, key, value)
        experiments.append((resolve(plain), item))
    plan = plan_sweep(experiments, found=Found(None), done=Done())
    size = len(json.dumps(plan.to_json()))
    scheduled = schedule_seconds(plan.tasks)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began - scheduled
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(sweep)} runs, {len(plan.edges)} edges, {plan.steps_naive:,} steps planned as "
        f"{plan.steps_planned:,}: {seconds:.1f} s (CPU {cpu:.1f} s), peak {peak:.2f} GiB, "
        f"JSON {size / 1e6:.1f} MB; scheduling all for 8 workers: CPU {scheduled:.2f} s"
    )


def schedule_seconds(tasks: Sequence[Task]) -> float:
    """CPU seconds that it takes to decide the order of all tasks."""
    began = time.process_time()
    scheduler = Scheduler(tasks, workers=8)
    while not scheduler.is_over():
        while len(scheduler.running) < 8 and scheduler.take():
            pass
        scheduler.finish(min(scheduler.running))
    return time.process_time() - began


if __name__ == "__main__":
    main()
