"""Commands before anything is trained: plan and prepare."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import load_recipe, parse_overrides
from replay_jax.data.stores.near_copies import find_near_copies
from replay_jax.errors import UserError
from replay_jax.library.inspecting import matmul_rate
from replay_jax.library.plan_shown import (
    data_lines,
    ledger_table,
    rentals_table,
    rented,
    summary,
    supervised_shown,
)
from replay_jax.library.planning import plan as plan_recipe
from replay_jax.library.preparing import preparation_shown, prepare_all, print_prepared
from replay_jax.library.renting import USUAL_UTILISATION, Rental, fitting, rental
from replay_jax.sweep.drive.drawing import plan_tree
from replay_jax.sweep.plan.plan import Plan

# Shares of NumPy's own matrix rate: train steps of small models reach .37 to .78 of it on a CPU
# (docs/performance.md), whole sweeps less; only used to say how long one may take.
SHARES_OF_PEAK = (0.25, 0.7)


def plan(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Show what sweeps would do; data that is prepared is used, and none is touched otherwise."""
    given = parse_overrides(overrides)
    if arguments.workdir and len(arguments.recipes) > 1:
        raise UserError(
            f"--workdir is of one sweep, not of {len(arguments.recipes)}: plan it alone"
        )
    plans = {
        name: plan_recipe(load_recipe(name, given), arguments.workdir) for name in arguments.recipes
    }
    rentals = _rentals(arguments, plans)
    if arguments.json:
        print(json.dumps(_json(plans, rentals)))
        return 0
    console = Console(markup=False, emoji=False)
    if len(plans) > 1:
        console.print(rentals_table(plans, rentals, console.width))
        for line in _beside(plans, rentals):
            console.print(line, highlight=False)
        return 0
    (planned,) = plans.values()
    for line in (*summary(planned), *map(rented, rentals.values())):
        console.print(line, highlight=False)
    if not rentals:
        console.print(_estimate(planned), highlight=False)
    console.print(ledger_table(planned, console.width))
    for shown in supervised_shown(planned):
        console.print(shown, highlight=False)
    console.print(plan_tree(planned))
    return 0


def _beside(plans: Mapping[str, Plan], rentals: Mapping[str, Rental]) -> list[str]:
    """What the table of several sweeps does not say: the chips, what fits, what data is missing;
    each sentence once, after the names of those that it is said of."""
    lines = [
        f"on {each.topology} of {each.chips} chips, at {each.utilisation:.0%} of their dense peak "
        "(--mfu)"
        for each in list(rentals.values())[:1]
    ]
    said: dict[str, list[str]] = {}
    for name, planned in plans.items():
        fits = name not in rentals or rentals[name].holds_state
        for line in (*(() if fits else [fitting(rentals[name])]), *data_lines(planned)):
            said.setdefault(line, []).append(name)
    return lines + [f"{', '.join(names)}: {line}" for line, names in said.items()]


def _rentals(arguments: argparse.Namespace, plans: Mapping[str, Plan]) -> dict[str, Rental]:
    """What every sweep takes on the named chips; empty where none are named."""
    if not arguments.topology:
        for name in ("mfu", "price"):
            if getattr(arguments, name) is not None:
                raise UserError(f"--{name} is of rented chips: name them, as --topology=v5e:4x4")
        return {}
    mfu = USUAL_UTILISATION if arguments.mfu is None else arguments.mfu
    return {
        name: rental(planned, arguments.topology, utilisation=mfu, price=arguments.price)
        for name, planned in plans.items()
    }


def _json(plans: Mapping[str, Plan], rentals: Mapping[str, Rental]) -> Mapping[str, Any]:
    """One plan's object, or an object of them by the name that was given."""
    found = {name: planned.to_json() for name, planned in plans.items()}
    for name, each in rentals.items():
        found[name]["rental"] = each.to_json()
    return next(iter(found.values())) if len(found) == 1 else found


def prepare(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Tokenize all sources of a config and fetch its models; what is there is left alone."""
    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    console = Console(markup=False, emoji=False)
    with preparation_shown(console) as progress:
        prepared = prepare_all(configs_of(experiments_of(recipe)), progress)
    if arguments.near_duplicates:
        find_near_copies(prepared.stores, print)
    print_prepared(prepared)
    return 0


def _estimate(plan: Plan) -> str:
    """Time of what remains on this machine's cores, from NumPy's matrix product, as a range.

    NumPy's, because a plan is made without starting JAX; an accelerator is not counted.
    """
    totals = plan.to_json()["totals"]
    flops = totals["flops_remaining"] + totals["evaluation_flops_remaining"]
    peak = matmul_rate()
    least, most = (flops / (share * peak) for share in reversed(SHARES_OF_PEAK))
    low, high = SHARES_OF_PEAK
    return (
        f"about {_range(least, most)} on this machine's cores alone, held-out losses included, at "
        f"{low:.0%} to {high:.0%} of NumPy's best matrix product, {peak / 1e9:,.0f} GFLOP/s"
    )


def _range(least: float, most: float) -> str:
    """Two durations in seconds, in the unit of the longer."""
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if most >= 2 * size:
            low, high = (
                f"{seconds / size:,.{0 if most >= 10 * size else 1}f}" for seconds in (least, most)
            )
            return f"{high} {unit}" if low == high else f"{low} to {high} {unit}"
    if most < 2:
        return "a second"
    low, high = f"{least:.0f}", f"{most:.0f}"
    return f"{high} seconds" if low == high else f"{low} to {high} seconds"
