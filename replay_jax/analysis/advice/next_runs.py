"""Which runs would narrow a recommendation most.

Each option is tried on the resamples at hand: more seeds shrink the deviations of the cells that
get them, and the interval of ln(multiplier) (or of the gain, without a law) is formed again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.analysis.advice.training import as_long, training
from replay_jax.analysis.advice.verdict import one_sided
from replay_jax.analysis.statistics.bootstrap import interval
from replay_jax.analysis.statistics.efficiency import fit_reference
from replay_jax.analysis.study.study import CellResult, TargetStudy
from replay_jax.analysis.study.tried import beside

# An option that narrows the interval by less than 3 % is not worth its runs.
_WORTHWHILE = 0.97
_REPLAY = "schedule.replay_fraction"
_BUDGET = "schedule.target_sequences"


@dataclass(frozen=True)
class NextRuns:
    """Runs to add together, each given by its overrides.

    `narrows` says what they are for ("multiplier", "replay_fraction" or "tuning"); `width_ratio` is
    the expected width of the multiplier's interval with them over that of now (None: they settle a
    doubt that no width shows).
    """

    why: str
    narrows: str
    width_ratio: float | None
    runs: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON object."""
        return {
            "why": self.why,
            "narrows": self.narrows,
            "width_ratio": self.width_ratio,
            "runs": [dict(overrides) for overrides in self.runs],
        }


def plan_next_runs(
    found: TargetStudy, *, members: Sequence[int], best: int, baseline: int
) -> tuple[NextRuns, ...]:
    """Options ordered by use: what can turn the answer first, then by expected narrowing."""
    pair = (best, baseline)
    seeds = [
        _more_seeds(found, pair, pair, "the baseline and the best schedule"),
        _more_seeds(found, _reference(found), pair, "the reference points"),
    ]
    seeds = [option for option in seeds if option.runs]
    seeds.sort(key=lambda option: 1.0 if option.width_ratio is None else option.width_ratio)
    seeds = [o for o in seeds if o.width_ratio is None or o.width_ratio < _WORTHWHILE]
    doubts = (
        _equal_training(found, best, baseline)
        + _tune_alike(found, (baseline, best), (best, baseline))
        + _extend_grids(found, (baseline, best))
        + _extend_budgets(found, best)
    )
    finer = _finer_replay(found, members, best)
    if found.seed_noise_known:
        return (*doubts, *seeds, *finer)
    return (*seeds, *doubts, *finer)


def _more_seeds(
    found: TargetStudy, cells: Sequence[int], pair: tuple[int, int], whose: str
) -> NextRuns:
    """One more seed for each of the cells, at its best setting, judged by what `pair` gains."""
    seed = max(found.seeds) + 1
    known = found.seed_noise_known
    return NextRuns(
        why=f"seed {seed} for {whose}" + ("" if known else ": noise between seeds is unknown"),
        narrows="multiplier",
        width_ratio=_width_ratio(found, cells, pair) if known and cells else None,
        runs=tuple(
            _seeded(found, found.cells[i].chosen.overrides, seed) for i in dict.fromkeys(cells)
        ),
    )


def _width_ratio(found: TargetStudy, extra: Sequence[int], pair: tuple[int, int]) -> float | None:
    """Width of the pair's interval with one more seed for `extra`, over the width now."""
    observed = np.array([cell.chosen.target_loss for cell in found.cells])
    scale = np.ones(len(found.cells))
    for index in set(extra):
        runs = int(np.isfinite(found.cells[index].chosen.target_by_seed).sum())
        scale[index] = np.sqrt(runs / (runs + 1))
    narrowed = observed + (found.draws.target - observed) * scale
    now, then = (_width(found, drawn, pair) for drawn in (found.draws.target, narrowed))
    if not (np.isfinite(now) and np.isfinite(then) and now > 0):
        return None
    return float(then / now)


def _width(found: TargetStudy, drawn: np.ndarray, pair: tuple[int, int]) -> float:
    """Width of the interval of ln(multiplier) (or of the gain) of cells (best, baseline)."""
    compared = drawn[:, pair]
    if found.curve is not None:
        law = fit_reference(found.curve.points, drawn[:, _reference(found)], law=_law(found))
        with np.errstate(invalid="ignore"):
            compared = law.log_equivalent(compared)
    with np.errstate(invalid="ignore"):
        low, high = interval(compared[:, 0] - compared[:, 1], level=found.level)
        return float(np.subtract(high, low))


def _law(found: TargetStudy) -> str:
    assert found.curve is not None
    return found.curve.name


def _reference(found: TargetStudy) -> list[int]:
    """Reference cells by growing budget."""
    if found.curve is None:
        return []
    chosen = [i for i, cell in enumerate(found.cells) if cell.is_reference]
    return sorted(chosen, key=lambda i: found.cells[i].key.target_tokens)


def _equal_training(found: TargetStudy, best: int, baseline: int) -> list[NextRuns]:
    """The schedule without replay, trained as long as the one with it, where it never was."""
    other = found.cells[baseline]
    longer = training(found.cells[best], other)
    if longer is None or not longer.longer:
        return []
    overrides = as_long(other, longer.ratio)
    if overrides is None:
        return []
    return [
        NextRuns(
            why=f"{other.label}, trained as long: replay has {longer.words}",
            narrows="tuning",
            width_ratio=None,
            runs=tuple(_seeded(found, overrides, seed) for seed in found.seeds),
        )
    ]


def _tune_alike(found: TargetStudy, *pairs: tuple[int, int]) -> list[NextRuns]:
    """A side that has one setting, at the best one of the other, which was tuned."""
    return [
        NextRuns(
            why=f"{found.cells[behind].label}: run at one setting, what it is compared with tuned",
            narrows="tuning",
            width_ratio=None,
            runs=_with_seeds(found, found.cells[behind], dict(found.cells[ahead].chosen.tuned)),
        )
        for behind, ahead in pairs
        if one_sided(found.cells[behind], found.cells[ahead]) is not None
    ]


def _extend_grids(found: TargetStudy, cells: Sequence[int]) -> list[NextRuns]:
    """The next value beyond each tuned grid whose edge is best, for every seed."""
    return [
        NextRuns(
            why=f"{found.cells[index].label}: {edge.key} is best at the edge of its grid",
            narrows="tuning",
            width_ratio=None,
            runs=_with_seeds(found, found.cells[index], {edge.key: edge.further}),
        )
        for index in dict.fromkeys(cells)
        for edge in found.cells[index].at_edge
        if edge.further is not None
    ]


def _with_seeds(
    found: TargetStudy, cell: CellResult, changes: Mapping[str, Any]
) -> tuple[Mapping[str, Any], ...]:
    """The cell's best setting with changes, once for every seed of the study."""
    overrides = {**cell.chosen.overrides, **changes}
    return tuple(_seeded(found, overrides, seed) for seed in found.seeds)


def _seeded(found: TargetStudy, overrides: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    """Overrides of one more seed, with the data seed that goes with it where the sweep has any.

    Runs of one seed are compared in pairs, so a known seed keeps its own; a new one is as far from
    the last as its model's.
    """
    known = found.data_seeds
    if not known:
        return {**overrides, "seed": seed}
    last = max(known)
    return {**overrides, "seed": seed, "data_seed": known.get(seed, known[last] + seed - last)}


def _extend_budgets(found: TargetStudy, best: int) -> list[NextRuns]:
    """A reference budget nearer to what the best schedule is worth, where that is extrapolated."""
    tokens = found.cells[best].equivalent_tokens
    reference = _reference(found)
    if tokens is None or not tokens.extrapolated or not reference:
        return []
    first, last = (found.cells[i] for i in (reference[0], reference[-1]))
    above = tokens.value is None or tokens.value > last.key.target_tokens
    nearest, factor = (last, 2) if above else (first, 0.5)
    if _BUDGET not in nearest.chosen.overrides:
        return []
    budget = int(nearest.chosen.overrides[_BUDGET] * factor)
    if budget < 1:
        return []
    side = "more" if above else "less"
    return [
        NextRuns(
            why=f"the best schedule is worth {side} than any reference budget measured",
            narrows="multiplier",
            width_ratio=None,
            runs=_with_seeds(found, nearest, {_BUDGET: budget}),
        )
    ]


def _finer_replay(found: TargetStudy, members: Sequence[int], best: int) -> list[NextRuns]:
    """Replay fractions half-way (in -ln(1 - rho)) to the neighbours of the best, or beyond it."""
    own = found.cells[best].key
    if found.cells[best].chosen.overrides.get("schedule.stage2_steps") is not None:
        return []  # the sweep sets the stage's length; rho follows and cannot be set beside it
    dropped = [one.key for one in beside(found, own)]
    row = sorted(
        {
            key.replay_fraction
            for key in (*(found.cells[i].key for i in members), *dropped)
            if key.allocation == own.allocation
        }
    )
    place = row.index(own.replay_fraction)
    t = -np.log1p(-np.array(row))
    wanted = []
    if place + 1 < len(t):
        wanted.append((t[place] + t[place + 1]) / 2)
    elif place > 0:
        wanted.append(2 * t[place] - t[place - 1])
    if place > 0:
        wanted.append((t[place] + t[place - 1]) / 2)
    return [
        NextRuns(
            why=f"replay fraction {fraction:g}, between or beyond those sampled around the best",
            narrows="replay_fraction",
            width_ratio=None,
            runs=_with_seeds(found, found.cells[best], {_REPLAY: fraction}),
        )
        for fraction in (_rounded(float(-np.expm1(-value)), (*row, 1.0)) for value in wanted)
        if fraction is not None
    ]


def _rounded(fraction: float, others: Sequence[float]) -> float | None:
    """A fraction to three decimals, or as many as tell it from others; None: six do not."""
    rounded = (round(fraction, decimals) for decimals in range(3, 7))
    return next((each for each in rounded if each not in others), None)
