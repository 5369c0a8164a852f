"""What a run's losses were on its way: its curve, and the spike where its last stage begins."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from replay_jax.sweep.plan.measured import BOUNDARY_STEPS, boundary_step, run_cosine
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.results.losses import Facts, losses_at, losses_of
from replay_jax.sweep.store.segment import Segment
from replay_jax.sweep.store.workdir import WorkStore

Record = dict[str, Any]


def loss_curve(run: Run, history: Sequence[Segment], measured: Mapping[int, Facts]) -> list[Record]:
    """Held-out and training loss at every point where both held-out sets were measured.

    Training losses are means over the steps since the point before; None where the source gave no
    rows. A point that an earlier sweep passed without measuring this run's sets is left out.
    """
    windows = [window for segment in history for window in segment.windows]
    roles = {"target": (run.schedule.target,), "generic": run.schedule.generics}
    points, before = [], 0
    for step, facts in measured.items():
        inside = [window for window in windows if before < window["stop"] <= step]
        train = {f"train_{role}": _mean(inside, names) for role, names in roles.items()}
        points.append({"step": step, **losses_of(run, facts), **train})
        before = step
    return points


def around_boundary(run: Run, store: WorkStore, steps: Collection[int]) -> Record | None:
    """Held-out losses around the start of the last stage; None for one stage, or unmeasured."""
    step = boundary_step(run)
    if step is None or step not in steps or min(step + BOUNDARY_STEPS, run.steps) not in steps:
        return None
    before = losses_at(run, step, store)
    after = losses_at(run, min(step + BOUNDARY_STEPS, run.steps), store)
    if before is None or after is None:
        return None
    pair = run_cosine(run)
    cosine = None if pair is None else store.evaluation(pair.key(run.node(step).digest))
    return {
        "step": step,
        "before": before,
        "after": after,
        "gradient_cosine": None if cosine is None else cosine["cosine"],
    }


def _mean(windows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> float | None:
    # A shared edge may not know the target of this run, whose rows it does not contain.
    found = [
        (window["nats"][name], window["weights"][name])
        for window in windows
        for name in names
        if name in window["nats"]
    ]
    weights = sum(weight for _, weight in found)
    return sum(nats for nats, _ in found) / weights if weights else None
