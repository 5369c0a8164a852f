"""Some runs of a plan, on the tree of all of them."""

import dataclasses
from collections.abc import Collection

from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.plan.tree import Edge


def part_of(plan: Plan, wanted: Collection[str]) -> Plan:
    """The plan of the runs with these ids; `plan.refresh` says what is left of it.

    Edges end where the runs of the whole plan part, and a state there is spared if a run that is
    not wanted yet goes on from it or ends there, so that nothing is trained again for that one.
    """
    chosen = [n for n, run in enumerate(plan.runs) if run.id in wanted]
    place = {run: position for position, run in enumerate(chosen)}
    here = [n for n, edge in enumerate(plan.edges) if place.keys() & set(edge.runs)]
    edge_place = {edge: position for position, edge in enumerate(here)}

    def restricted(edge: Edge) -> Edge:
        return dataclasses.replace(
            edge,
            runs=tuple(place[run] for run in edge.runs if run in place),
            ending=tuple(place[run] for run in edge.ending if run in place),
            parent=None if edge.parent is None else edge_place[edge.parent],
            children=tuple(edge_place[child] for child in edge.children if child in edge_place),
        )

    beyond = [
        {run for n in edge.children for run in plan.edges[n].runs}.union(edge.ending)
        for edge in plan.edges
    ]
    spared = frozenset(plan.edges[n].stop.digest for n in here if beyond[n] - place.keys())
    return dataclasses.replace(
        plan,
        runs=tuple(plan.runs[n] for n in chosen),
        edges=tuple(restricted(plan.edges[n]) for n in here),
        tasks=(),
        finished=frozenset(),
        spared=spared,
    )
