"""Which runs of a planned grid come next, or why there are none: fixed before it sees results.

First seed: every cell that an answer compares at the middle of its tuned grid, and the reference
budgets next to it; the better half of the cells is then tuned, neighbour by neighbour. What is best
is compared over further seeds; settings that nearly tied with it on the first get a second as well.
What only chose settings is left out of the comparison: a setting with one run could be the best by
luck in so many resamples that it doubles the interval. From the third seed on (or the last)
the goal may end the study; else come a reference budget if the answer lies beyond those tried, the
next seed, the next best settings, and what is left.

Pure and deterministic: `decide` looks at the planned grid and at the results of runs that it chose
itself, from its first look on, so it may be interrupted anywhere and asked again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from replay_jax.analysis.budget.choosing import (
    challengers,
    contenders,
    finalists,
    newcomers,
    opening,
    reference_beyond,
    standing,
    to_tune,
)
from replay_jax.analysis.budget.goal import Finding
from replay_jax.analysis.budget.planned import Grid
from replay_jax.analysis.budget.state import Look, Place, Record, State, runs_of

# Seeds before a goal may end a study: with two, how much they differ is all but unknown.
MIN_SEEDS = 3
SPENT = "the budget is spent"
ALL_DONE = "every run of the config is done"


@dataclass(frozen=True)
class Rules:
    """What a study is held to.

    limit: what may be spent, in the units of the grid's costs, given the records chosen so far.
    ask: what the records of the compared runs say.
    goal: in words, once it is reached.
    """

    limit: Callable[[Sequence[Record]], float]
    ask: Callable[[Sequence[Record]], Finding]
    goal: str


@dataclass(frozen=True)
class Decision:
    """All looks so far; `ended` says why there are no more, None while the last is to be run.

    found: what the compared runs said last. compared: ids of the runs that the study is made of.
    left_out: those that only chose its settings.
    """

    looks: tuple[Look, ...]
    ended: str | None
    found: str
    compared: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of all chosen runs."""
        return tuple(run for look in self.looks for run in look.runs)


def least(grid: Grid) -> float:
    """The least that anything can be said for: the first look, and a second seed of it."""
    return grid.cost(_runs(grid, opening(grid), seeds=2))


def decide(
    grid: Grid, results: Mapping[str, Record], *, failed: Collection[str], rules: Rules
) -> Decision:
    """Follow the rule from its first look for as long as there are results.

    Args:
        grid: what the config defines.
        results: finished runs by id, chosen or not.
        failed: ids of runs that will have no result.
        rules: what the study is held to.
    """
    state, found = State(grid), ""
    while True:
        missing = [run for run in state.chosen if run not in results and run not in failed]
        if missing:
            return _decision(state, None, found, ())
        known = {run: results[run] for run in state.chosen if run in results}
        state = State(grid, state.looks, known)
        step = next_runs(state, rules)
        found = step.found or found
        if step.look is None:
            return _decision(state, step.ended, found, step.kept)
        state = State(grid, (*state.looks, step.look), known)


def _decision(state: State, ended: str | None, found: str, kept: Sequence[Place]) -> Decision:
    compared = runs_of(state, kept or state.kept)
    left_out = tuple(run for run in state.chosen if run not in set(compared))
    return Decision(state.looks, ended, found, compared, left_out)


@dataclass(frozen=True)
class Step:
    """A next look, or why there is none.

    found: what the compared runs say, where asked; kept: the settings compared at the end.
    """

    look: Look | None
    ended: str | None = None
    found: str = ""
    kept: tuple[Place, ...] = ()


def next_runs(state: State, rules: Rules) -> Step:
    """The runs to add to those of a state, all of which are over, or why there are none."""
    limit = rules.limit(tuple(state.known.values()))
    if not state.looks:
        places = opening(state.grid)
        return Step(_look(state, "the middle of every tuned grid, first seed", places, 1))
    if not state.kept:
        return _first_seed(state, limit)
    return _further_seeds(state, rules, limit)


def _first_seed(state: State, limit: float) -> Step:
    """Tuning on the first seed as long as there are neighbours to try, then a second seed."""
    best, enough = finalists(state), min(MIN_SEEDS, state.grid.seeds)
    reserve = _runs(state.grid, best, seeds=enough)
    tuned = _fitting(state, to_tune(state), 1, limit, reserve=reserve)
    if tuned:
        return Step(_look(state, "tuning of the better half, first seed", tuned, 1))
    return _seed(state, best, 2, limit)


def _further_seeds(state: State, rules: Rules, limit: float) -> Step:
    """Of what is compared, from its second seed on."""
    seeds, new = state.seeds, newcomers(state)
    if new:
        fitting = _fitting(state, new, seeds, limit)
        why = f"{seeds} seeds of the reference budget that was added"
        kept = (*state.kept, *fitting)
        return Step(_look(state, why, fitting, seeds, kept)) if fitting else Step(None, SPENT)
    kept, enough = state.kept, min(MIN_SEEDS, state.grid.seeds)
    if seeds == 2:
        kept = standing(state)
        reserve = _runs(state.grid, kept, seeds=enough)
        near = _fitting(state, challengers(state), 2, limit, reserve=reserve)
        if near:
            return Step(_look(state, "a second seed of near ties in tuning", near, 2))
    found = rules.ask(_records(state, kept))
    if seeds >= enough and found.is_reached:
        return Step(None, rules.goal, found.words, kept)
    step = (
        _beyond(state, found, limit)
        or (_seed(state, kept, seeds + 1, limit) if seeds < state.grid.seeds else None)
        or _widened(state, kept, limit)
    )
    return replace(step, found=found.words)


def _records(state: State, kept: Sequence[Place]) -> list[Record]:
    return [state.known[run] for run in runs_of(state, kept) if run in state.known]


def _seed(state: State, places: Sequence[Place], seed: int, limit: float) -> Step:
    """A further seed of all settings compared, as far as the limit goes."""
    fitting = _fitting(state, places, seed, limit)
    if not any(run not in state.chosen for run in _runs(state.grid, fitting, seeds=seed)):
        return Step(None, SPENT, kept=tuple(places))
    number = {2: "second", 3: "third"}.get(seed, f"{seed}th")
    why = f"a {number} seed of the {len(places)} settings compared"
    kept = fitting if seed == 2 else tuple(places)
    return Step(_look(state, why, fitting, seed, kept))


def _beyond(state: State, found: Finding, limit: float) -> Step | None:
    """A further reference budget on the first seed, if all seeds of it will be payable."""
    places = reference_beyond(state, found)
    if not places:
        return None
    tokens = state.grid.cells[places[0][0]].key.target_tokens
    why = f"the answer lies beyond the reference budgets: {tokens:,} target tokens, first seed"
    enough = max(state.seeds, min(MIN_SEEDS, state.grid.seeds))
    reserve = _runs(state.grid, (*state.kept, places[-1]), seeds=enough)
    look = _look(state, why, places, 1)
    fits = state.grid.cost((*state.chosen, *look.runs, *reserve)) <= limit
    return Step(look) if fits else None


def _widened(state: State, kept: tuple[Place, ...], limit: float) -> Step:
    """All seeds are there: half as many settings again, the nearest to the best, else the rest.

    In portions, so that a study is looked at a few times only.
    """
    grid, seeds = state.grid, state.seeds
    nearest = [place for place in contenders(state) if place not in kept]
    added = _fitting(state, nearest, seeds, limit)[: max(1, len(kept) // 2)]
    if not added:
        cells = range(len(grid.cells))
        left = [place for c in cells for place in grid.places(c) if place not in kept]
        added = _fitting(state, left, seeds, limit)
    if added:
        why = f"{len(added)} next best settings, {seeds} seeds"
        return Step(_look(state, why, added, seeds, (*kept, *added)))
    is_rest = any(run not in state.chosen for run in grid.paths)
    return Step(None, SPENT if is_rest else ALL_DONE, kept=kept)


def _fitting(
    state: State,
    places: Sequence[Place],
    seeds: int,
    limit: float,
    *,
    reserve: Sequence[str] = (),
) -> tuple[Place, ...]:
    """The settings that the limit allows, in order, beside runs that must stay payable."""
    fitting: list[Place] = []
    taken = [*state.chosen, *reserve]
    for place in places:
        runs = _runs(state.grid, [place], seeds=seeds)
        if state.grid.cost((*taken, *runs)) <= limit or set(runs) <= set(state.chosen):
            taken += runs
            fitting.append(place)
    return tuple(fitting)


def _look(
    state: State, why: str, places: Sequence[Place], seeds: int, kept: tuple[Place, ...] = ()
) -> Look:
    chosen = set(state.chosen)
    runs = tuple(run for run in _runs(state.grid, places, seeds=seeds) if run not in chosen)
    return Look(why, runs, kept, state.grid.cost((*state.chosen, *runs)))


def _runs(grid: Grid, places: Sequence[Place], *, seeds: int) -> tuple[str, ...]:
    """The runs of settings up to a number of seeds."""
    found = (run for c, s in places for run in grid.cells[c].settings[s].runs[:seeds])
    return tuple(dict.fromkeys(found))
