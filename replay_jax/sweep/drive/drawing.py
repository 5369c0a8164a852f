"""The tree of a sweep for a terminal: shared prefixes, what parts where, and how far it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from replay_jax.sweep.plan.naming import said_overrides, text
from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.plan.tree import Edge


def print_plan(plan: Plan, console: Console) -> None:
    """Print what a sweep will do: the tree, the steps and the saving, and the states on disk."""
    console.print(plan_tree(plan))
    for line in plan_lines(plan):
        console.print(line, highlight=False, markup=False)


def plan_lines(plan: Plan) -> list[str]:
    """The totals of a plan in words."""
    values = plan.to_json()
    totals, states = values["totals"], values["states"]
    left, ends = plan.steps_remaining, values["ends"]
    done = "" if left == plan.steps_planned else f", {left:,} of them left to do"
    lines = [
        f"{totals['runs']} runs of {totals['tokens']:,} tokens in all: {plan.steps_naive:,} steps "
        f"alone, {plan.steps_planned:,} with shared prefixes trained once "
        f"({plan.steps_naive / plan.steps_planned:.2f}× fewer){done}",
        f"{totals['flops_remaining']:.3g} model FLOPs to do; at most {states['saved_at_once']} "
        f"states of {_bytes(states['bytes_each'])} wait on disk at once "
        f"({_bytes(states['disk_bytes'])})",
    ]
    if values["only_measured"]:
        lines.append(f"{values['only_measured']} kept ends are only to be measured")
    if ends["kept"]:
        lines.append(
            f"the parameters at {ends['kept']} ends of runs stay for later measurements, "
            f"{_bytes(ends['disk_bytes'])} (execution.keep_ends)"
        )
    return lines + [f"warning: {sentence}" for sentence in plan.warnings]


def plan_tree(plan: Plan, *, progress: Mapping[int, float] | None = None) -> Tree:
    """The tree of shared spans; subtrees of one shape are drawn once, with their number.

    Of spans that part, the one that most runs go on through stands last, and what follows it beside
    it instead of below: a sweep of one stage parts twenty times, one run at a time.

    Args:
        plan: the sweep.
        progress: share done of every edge that has begun, by its position; None draws no progress.
    """
    root = Tree(Text(f"{len(plan.runs)} runs", "bold"))
    said = said_overrides([run.overrides for run in plan.runs])
    tops = [number for number, edge in enumerate(plan.edges) if edge.parent is None]
    _add(root, tops, plan, said, progress, common={})
    return root


def _add(
    node: Tree,
    siblings: Sequence[int],
    plan: Plan,
    said: Sequence[Mapping[str, Any]],
    progress: Mapping[int, float] | None,
    *,
    common: Mapping[str, Any],
) -> None:
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number in siblings:
        groups.setdefault(_shape(plan.edges, number), []).append(number)
    trunk = _trunk(plan.edges, list(groups.values()))
    for group in sorted(groups.values(), key=lambda group: group == trunk):
        first = plan.edges[group[0]]
        label = Text(f"{first.start.step:,} → {first.stop.step:,}")
        runs = sum(len(plan.edges[number].runs) for number in group)
        if len(group) > 1:
            label.append(f"  {len(group)} ×")
        label.append(f"  {runs} run{'s' if runs > 1 else ''}", "dim")
        words = _distinguishing([_fixed(said, plan.edges[number]) for number in group], common)
        if words:
            label.append(f"  {words}")
        if progress is not None:
            label.append("  ").append(*_mark(plan, group, progress))
        drawn = node.add(label)
        below = node if group == trunk else drawn
        _add(below, first.children, plan, said, progress, common=_fixed(said, first))


def _trunk(edges: Sequence[Edge], groups: Sequence[list[int]]) -> list[int] | None:
    """Of the groups of spans that part somewhere, the one that most runs go on through."""
    going_on = [group for group in groups if len(group) == 1 and edges[group[0]].children]
    if len(groups) == 1 or not going_on:
        return None
    return max(going_on, key=lambda group: len(edges[group[0]].runs))


def _shape(edges: Sequence[Edge], number: int) -> tuple[Any, ...]:
    """What a subtree looks like, apart from who its runs are."""
    edge = edges[number]
    below = tuple(_shape(edges, child) for child in edge.children)
    return (edge.start.step, edge.stop.step, len(edge.ending), below)


def _fixed(said: Sequence[Mapping[str, Any]], edge: Edge) -> dict[str, Any]:
    """The overrides, as said, on which all runs through an edge agree."""
    first, *others = [said[run] for run in edge.runs]
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }


def _distinguishing(fixed: Sequence[Mapping[str, Any]], common: Mapping[str, Any]) -> str:
    """What the runs of each edge of a group agree on, beyond those above; a range for several."""
    words = []
    for key in fixed[0]:
        if key in common or not all(key in each for each in fixed):
            continue
        values = list(dict.fromkeys(text(each[key]) for each in fixed))
        words.append(f"{key.rsplit('.', 1)[-1]}={'|'.join(values)}")
    return " ".join(words)


def _mark(plan: Plan, group: Sequence[int], progress: Mapping[int, float]) -> tuple[str, str]:
    """How far the edges of a group are, subtrees not included, and the style of these words."""
    shares = [progress[number] if number in progress else 0.0 for number in group]
    if all(share >= 1 for share in shares):
        return "✓", "green"
    if not any(shares):
        return "·", "dim"
    return f"{sum(shares) / len(shares):.0%}", "yellow"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
