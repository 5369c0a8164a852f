"""budget.json: what a budgeted study was asked, its looks, why it ended, which runs it compares."""

from collections.abc import Mapping
from typing import Any

from replay_jax.analysis.budget.planned import Grid
from replay_jax.analysis.budget.rule import Decision
from replay_jax.library.budgeted.asked import said


def fact(
    decision: Decision, grid: Grid, *, asked: Mapping[str, str | None], unit: str, limit: float
) -> dict[str, Any]:
    """A decision as plain values; costs in `unit`, `limit` None where only a goal was given."""
    return {
        "asked": dict(asked),
        "unit": unit,
        "limit": limit if limit != float("inf") else None,
        "looks": [
            {"why": look.why, "runs": list(look.runs), "spent": look.spent}
            for look in decision.looks
        ],
        "ended": decision.ended,
        "found": decision.found,
        "compared": list(decision.compared),
        "left_out": list(decision.left_out),
        "words": ended_words(decision, grid, unit),
    }


def ended_words(decision: Decision, grid: Grid, unit: str) -> str:
    """How a study stands or ended, in one sentence."""
    spent, whole = grid.cost(decision.runs), grid.cost(grid.paths)
    looks = len(decision.looks)
    count = (
        f"{len(decision.runs)} of the {len(grid.paths)} runs of the config, "
        f"{said(spent, unit)} of {said(whole, unit)} ({spent / whole:.0%})"
    )
    left = ""
    if decision.compared and decision.left_out:
        left = (
            f"; tables and intervals are of the {len(decision.compared)} runs compared, and the "
            f"{len(decision.left_out)} that only chose their settings count as tried"
        )
    if decision.ended is None:
        return f"Within a budget, at look {looks}: {count}{left}."
    return f"Within a budget: {decision.ended} after look {looks}, {count}{left}."


def look_words(decision: Decision, unit: str, limit: float) -> str:
    """The last look in one line."""
    look, number = decision.looks[-1], len(decision.looks)
    of = "" if limit == float("inf") else f" of {said(limit, unit)}"
    found = f" ({decision.found})" if decision.found else ""
    runs = f"{len(look.runs)} run{'' if len(look.runs) == 1 else 's'}"
    return f"look {number}: {look.why}: {runs}, {said(look.spent, unit)}{of} in all{found}"
