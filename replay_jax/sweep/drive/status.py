"""Where every run of a working directory stands, from the facts on disk alone."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

from etils import epath
from rich.console import Group
from rich.table import Table
from rich.text import Text

from replay_jax.sweep.drive.durations import duration
from replay_jax.sweep.store.facts import fact_names
from replay_jax.sweep.store.lock import lock_holder
from replay_jax.sweep.store.workdir import WorkStore

_SILENCE_SECONDS = 30.0


def sweep_status(workdir: epath.PathLike) -> dict[str, Any]:
    """What `status --json` prints: per run its state, steps, last loss, and why it failed.

    A run's `state` is "done", "failed", "running" or "planned"; "running" needs a coordinator that
    is alive. `steps` are those whose outcome is on disk or under way, `loss` the last held-out
    target loss of a done run, or the last training loss, in nats per token.

    Raises:
        UserError: no sweep was started in the directory.
    """
    store = WorkStore(workdir)
    facts = store.runs()
    holder = lock_holder(store.root)
    progress = store.progress() if holder is not None else None
    running = {edge["stop"]: edge for edge in progress["edges"]} if progress else {}
    failures = store.failures()
    finished = store.finished_runs()
    # Of a whole sweep every span would be read to say nothing.
    reached = {} if all(fact["id"] in finished for fact in facts) else _reached(store)
    runs = [_run_status(fact, store, running, failures, reached) for fact in facts]
    states = [run["state"] for run in runs]
    silent = None if progress is None else max(0.0, time.time() - progress["time"])
    return {
        "workdir": str(workdir),
        "coordinator": holder,
        "silent_seconds": silent,
        "counts": {s: states.count(s) for s in ("done", "running", "failed", "planned")},
        "steps_done": progress["steps_done"] if progress else None,
        "steps_total": progress["steps_total"] if progress else None,
        "seconds_left": progress["seconds_left"] if progress else None,
        "runs": runs,
    }


def render_status(found: Mapping[str, Any]) -> Group:
    """What `sweep_status` found, as a table by state and a line for a terminal."""
    table = Table(box=None, pad_edge=False)
    for column in ("run", "id", "state", "steps", "loss", "why"):
        table.add_column(
            column, justify="right" if column in ("steps", "loss") else "left", overflow="fold"
        )
    for run in sorted(found["runs"], key=_place):
        table.add_row(
            Text(run["name"]),
            run["id"],
            Text(run["state"], style=_STYLES[run["state"]]),
            f"{run['steps']:,} / {run['total_steps']:,}",
            "" if run["loss"] is None else f"{run['loss']:.4f}",
            Text(run["reason"] or ""),
        )
    counts = ", ".join(f"{number} {state}" for state, number in found["counts"].items() if number)
    line = counts
    if found["coordinator"] is not None:
        line += f"; {found['coordinator']} {_how_alive(found['silent_seconds'])}"
    if found["seconds_left"] is not None:
        line += f", {duration(found['seconds_left'])} left"
    return Group(table, Text(line))


def _place(run: Mapping[str, Any]) -> tuple[int, float]:
    """By state, and of one state the lowest loss last."""
    loss = math.inf if run["loss"] is None else run["loss"]
    return list(_STYLES).index(run["state"]), -loss


def _how_alive(silent: float | None) -> str:
    """Whether a coordinator is heard of; it speaks every second, unless storage is slow."""
    if silent is None or silent < _SILENCE_SECONDS:
        return "is at work"
    return f"stopped answering {duration(silent)} ago"


# In the order of the table: what wants to be looked at stands last, where a terminal ends.
_STYLES = {"planned": "dim", "done": "green", "running": "yellow", "failed": "red"}


@dataclasses.dataclass(frozen=True)
class _Reach:
    """How far an edge has been trained for good: updates, and the last training loss."""

    step: int
    loss: float


def _reached(store: WorkStore) -> dict[str, _Reach]:
    """The furthest recorded span of every edge, by the digest at the edge's end."""
    found: dict[str, _Reach] = {}
    for digest in fact_names(store.root / "segments"):
        segment = store.segment(digest)
        if segment is None or not segment.windows:
            continue
        if segment.edge not in found or found[segment.edge].step < segment.stop.step:
            last = segment.windows[-1]
            weight = sum(last["weights"].values())
            loss = sum(last["nats"].values()) / weight if weight else math.nan
            found[segment.edge] = _Reach(segment.stop.step, loss)
    return found


def _run_status(
    fact: Mapping[str, Any],
    store: WorkStore,
    running: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, Mapping[str, Any]],
    reached: Mapping[str, _Reach],
) -> dict[str, Any]:
    path = [node["digest"] for node in fact["path"]]
    known = {"id": fact["id"], "name": fact["name"], "total_steps": fact["steps"], "reason": None}
    result = store.result(fact["id"])
    if result is not None:
        loss = result["losses"]["target"]
        return {**known, "state": "done", "steps": fact["steps"], "loss": loss}
    spans = [reached[digest] for digest in path if digest in reached]
    step, last = (spans[-1].step, spans[-1].loss) if spans else (0, None)
    for digest in path:
        if digest in running:
            edge = running[digest]
            loss = last if edge["loss"] is None else edge["loss"]
            return {**known, "state": "running", "steps": edge["step"], "loss": loss}
    for digest in path:
        if digest in failures:
            reason = failures[digest]["reason"]
            return {**known, "state": "failed", "steps": step, "loss": last, "reason": reason}
    return {**known, "state": "planned", "steps": step, "loss": last}
