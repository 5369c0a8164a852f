"""The tree of all runs' digest chains: what is identical is one edge, however it came about.

A node is a training state (digest, step); an edge is the training between two nodes. Nodes stand
where runs part, where runs end, and where the batch size changes, so that all updates of an edge
are of one size. Edges are listed depth first: an edge's parent stands before it,
and a subtree is finished before the next begins, so that few states need to be kept at once.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Node:
    """A training state: the digest of everything that led to it, and the number of updates."""

    digest: str
    step: int


@dataclasses.dataclass(frozen=True)
class Edge:
    """A span of training that one or more runs have in common.

    Attributes:
        start: state that it begins from; step 0 is the initial state.
        stop: state that it ends with.
        runs: positions of the runs that pass through it, ascending.
        ending: those of them that end at `stop`.
        parent: position of the edge that ends at `start`, or None.
        children: positions of the edges that begin at `stop`.
    """

    start: Node
    stop: Node
    runs: tuple[int, ...]
    ending: tuple[int, ...]
    parent: int | None
    children: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Updates from start to stop."""
        return self.stop.step - self.start.step


def build_edges(
    chains: Sequence[np.ndarray], changes: Sequence[tuple[int, ...]] | None = None
) -> tuple[Edge, ...]:
    """Edges of the trie of digest chains, depth first, siblings in the order of their first run.

    Args:
        chains: one array of `digest.state_chain` per run, each of at least one step.
        changes: the steps before which each run's batch size changes; None if none does.
    """
    nodes: Sequence[tuple[int, ...]] = [()] * len(chains) if changes is None else changes
    ends = [len(chain) - 1 for chain in chains]
    edges: list[Edge] = []
    children: list[list[int]] = []
    # Groups of runs that agree beyond `start`, still to be followed; a stack gives depth first.
    pending = [(group, 0, None) for group in _parted(chains, range(len(chains)), after=0)]
    stack: list[tuple[list[int], int, int | None]] = list(reversed(pending))
    while stack:
        group, start, parent = stack.pop()
        ahead = (step for run in group for step in nodes[run] if step > start)
        low, high = start + 1, min([*ahead, *(ends[run] for run in group)])
        stop = _common_until(chains, group, low=low, high=high)
        if parent is not None:
            children[parent].append(len(edges))
        onward = [run for run in group if ends[run] > stop]
        stack.extend(
            (subgroup, stop, len(edges))
            for subgroup in reversed(_parted(chains, onward, after=stop))
        )
        children.append([])
        edges.append(
            Edge(
                start=_node(chains[group[0]], start),
                stop=_node(chains[group[0]], stop),
                runs=tuple(group),
                ending=tuple(run for run in group if ends[run] == stop),
                parent=parent,
                children=(),
            )
        )
    return tuple(
        dataclasses.replace(edge, children=tuple(below))
        for edge, below in zip(edges, children, strict=True)
    )


def _parted(chains: Sequence[np.ndarray], runs: Iterable[int], *, after: int) -> list[list[int]]:
    """Runs grouped by their state one update after `after`, in the order of their first run."""
    found: dict[bytes, list[int]] = {}
    for run in runs:
        found.setdefault(chains[run][after + 1].tobytes(), []).append(run)
    return list(found.values())


def _common_until(chains: Sequence[np.ndarray], group: list[int], *, low: int, high: int) -> int:
    """Last step in low..high at which all runs of the group are in one state.

    Chains that part never meet again, so the last common step is found by bisection.
    """
    while low < high:
        middle = (low + high + 1) // 2
        first = chains[group[0]][middle].tobytes()
        if all(chains[run][middle].tobytes() == first for run in group[1:]):
            low = middle
        else:
            high = middle - 1
    return low


def _node(chain: np.ndarray, step: int) -> Node:
    return Node(digest=chain[step].tobytes().hex(), step=step)
