"""What is left to do: the edges of a plan less what earlier processes have finished.

Pure: facts in, tasks out. A task trains one edge from the deepest state that exists on its way, or
only evaluates the state at its end where that is all that is missing.
"""

import bisect
import dataclasses
from collections.abc import Collection, Container, Mapping, Sequence

import numpy as np

from replay_jax.sweep.plan.tree import Edge, Node


@dataclasses.dataclass(frozen=True)
class Done:
    """What a working directory holds: ids of runs with a result, and usable saved states.

    Attributes:
        results: ids of the runs, of any sweep.
        saved: step of every saved state, by digest.
        ends: states at the ends of runs whose parameters are kept, and whose history is known.
    """

    results: frozenset[str] = frozenset()
    saved: Mapping[str, int] = dataclasses.field(default_factory=dict)
    ends: Container[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Task:
    """One edge as it remains to be done.

    Attributes:
        edge: position of the edge.
        start: state to begin from: a saved one, the parent's, or the initial state (step 0).
        stop: the edge's end.
        parent: position of the edge whose task must be done first, or None.
        save: whether the state at `stop` must be saved (others begin from it, or it is asked for).
        runs: the unfinished runs through the edge.
        ending: the unfinished runs that end at `stop`.
    """

    edge: int
    start: Node
    stop: Node
    parent: int | None
    save: bool
    runs: tuple[int, ...]
    ending: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Updates that the task trains."""
        return self.stop.step - self.start.step


def remaining_tasks(
    edges: Sequence[Edge],
    *,
    chains: Sequence[np.ndarray],
    done: Collection[int],
    saved: Mapping[str, int],
    ends: Container[str],
    keep_states: bool,
    spared: Container[str] = frozenset(),
) -> tuple[Task, ...]:
    """Tasks in the order of the edges; a task's parent stands before it.

    Args:
        edges: `tree.build_edges`.
        chains: digest chains of all runs.
        done: positions of runs whose result exists.
        saved: digest and step of every usable saved state.
        ends: digests of states whose parameters are kept: enough to measure, not to go on from.
        keep_states: whether states at the ends of edges are kept after their last use.
        spared: digests of states that are saved whatever else is.
    """
    steps = sorted(set(saved.values()))
    resume = [_deepest(edge, chains[edge.runs[0]], saved, steps) for edge in edges]
    begins_here: set[int] = set()
    tasks: list[Task] = []
    # From the leaves up: an edge is needed for the runs that end at it and the tasks below it.
    for position in range(len(edges) - 1, -1, -1):
        edge, start = edges[position], resume[position]
        ending = tuple(run for run in edge.ending if run not in done)
        needed_below = position in begins_here
        if start == edge.stop and not ending:
            continue
        if not needed_below and not ending:
            continue
        if not needed_below and edge.stop.digest in ends:
            start = edge.stop
        from_parent = start == edge.start and start.step > 0 and start.digest not in saved
        if from_parent:
            assert edge.parent is not None
            begins_here.add(edge.parent)
        tasks.append(
            Task(
                edge=position,
                start=start,
                stop=edge.stop,
                parent=edge.parent if from_parent else None,
                save=start != edge.stop
                and (needed_below or keep_states or edge.stop.digest in spared),
                runs=tuple(run for run in edge.runs if run not in done),
                ending=ending,
            )
        )
    return tuple(reversed(tasks))


def peak_saved_states(tasks: Sequence[Task]) -> int:
    """Largest number of states on disk at once when the tasks are done in order."""
    last_use = {task.start.digest: number for number, task in enumerate(tasks)}
    live: set[str] = set()
    peak = 0
    for number, task in enumerate(tasks):
        if task.start.step and task.steps:
            live.add(task.start.digest)
        if task.save:
            live.add(task.stop.digest)
        peak = max(peak, len(live))
        live = {digest for digest in live if last_use.get(digest, -1) > number}
    return peak


def _deepest(edge: Edge, chain: np.ndarray, saved: Mapping[str, int], steps: Sequence[int]) -> Node:
    """The last saved state on the way along an edge, or the edge's start; `steps` are sorted."""
    inside = slice(bisect.bisect(steps, edge.start.step), bisect.bisect(steps, edge.stop.step))
    for step in reversed(steps[inside]):
        digest = chain[step].tobytes().hex()
        if digest in saved:
            return Node(digest, step)
    return edge.start
