"""Generic data of several sources: one fixed order, of which every run draws the beginning.

The j-th generic draw of a run comes from the same source whatever its replay fraction, allocation
or length, so runs share with several generic sources what they share with one, and after any number
of generic draws every source has been drawn within one row of its share.
"""

import dataclasses
import functools
import heapq
from collections.abc import Iterable, Sequence

import numpy as np

from replay_jax.errors import UserError
from replay_jax.schedule.stages import Schedule, Stage, apportion

_MILLION = 1_000_000
Weights = tuple[tuple[str, float], ...]  # (source, share of the generic data); the shares sum to 1
Shares = tuple[tuple[str, int], ...]  # the same in whole numbers without a common divisor


def check_weights(weights: Weights) -> None:
    """Raises UserError unless every weight is positive and they sum to 1, to a millionth."""
    if not weights:
        raise UserError("a mixture of generic data needs at least one source")
    for name, weight in weights:
        # Not below: NaN is neither.
        if not weight >= 1 / _MILLION:
            raise UserError(
                f"generic source {name!r} has weight {weight}: give it at least a millionth, or "
                "leave it out"
            )
    total = sum(weight for _, weight in weights)
    if not abs(total - 1) < 1.5 / _MILLION:
        raise UserError(
            f"the weights of the generic sources sum to {total:g}, not to 1: "
            f"{', '.join(f'{name} {weight:g}' for name, weight in weights)}"
        )


def whole_shares(weights: Weights) -> Shares:
    """The weights to the nearest millionth (largest remainder), in lowest terms."""
    check_weights(weights)
    counts = apportion(_MILLION, [weight for _, weight in weights])
    divisor = int(np.gcd.reduce(counts))
    return tuple((name, n // divisor) for (name, _), n in zip(weights, counts, strict=True))


def mixture_name(shares: Shares) -> str:
    """What a mixture is called, such as "0.3 code + 0.7 web"."""
    total = sum(share for _, share in shares)
    return " + ".join(f"{share / total:g} {name}" for name, share in shares)


def generic_order(shares: Sequence[int], draws: int) -> np.ndarray:
    """Returns uint8 [draws]: the number of the source of each of the first generic draws.

    The order repeats after sum(shares) draws, which hold every source exactly `share` times; a
    million takes .7 s once (2 shared CPU cores, 2026-11-25), tenths nothing.
    """
    return np.resize(_period(tuple(shares)), draws)


def drawn_counts(shares: Sequence[int], draws: int) -> np.ndarray:
    """Returns int64 [sources]: how many of the first generic draws are of each source."""
    periods, rest = divmod(draws, sum(shares))
    within = np.bincount(_period(tuple(shares))[:rest], minlength=len(shares))
    return periods * np.array(shares, np.int64) + within


@functools.lru_cache(maxsize=8)
def _period(shares: tuple[int, ...]) -> np.ndarray:
    """One period: row j of a source lies in the places (j total / share, (j + 1) total / share]."""
    total, jobs = sum(shares), []
    for share in shares:
        rank = np.arange(share, dtype=np.int64)
        jobs.append((rank * total // share + 1, -(-(rank + 1) * total // share)))
    order = earliest_deadlines(jobs, total)
    order.flags.writeable = False
    return order


def earliest_deadlines(jobs: Iterable[tuple[np.ndarray, np.ndarray]], places: int) -> np.ndarray:
    """Returns uint8 [places]: the source of each place, the row with the earliest deadline first.

    `jobs` has for each source the first and the last place (from 1) that each of its rows may take.
    Of equal deadlines the earlier source goes first.
    """
    columns = list(jobs)
    sources = len(columns)
    merged = np.concatenate(
        [
            np.stack([release, deadline * sources + source], axis=1)
            for source, (release, deadline) in enumerate(columns)
        ]
    )
    merged = merged[np.argsort(merged[:, 0], kind="stable")]
    releases, entries = merged[:, 0].tolist(), merged[:, 1].tolist()
    order, coming = [0] * places, 0
    waiting: list[int] = []
    for place in range(1, places + 1):
        while coming < len(releases) and releases[coming] <= place:
            heapq.heappush(waiting, entries[coming])
            coming += 1
        order[place - 1] = heapq.heappop(waiting) % sources
    return np.array(order, np.uint8)


def with_generic_sources(schedule: Schedule, shares: Shares) -> Schedule:
    """The same schedule with its generic rows drawn from several sources.

    Raises UserError if the schedule draws from one of them already.
    """
    for name, _ in shares:
        if name in schedule.source_names:
            raise UserError(f"{name!r} is the target and cannot be generic data as well")
    weights, drawn = [share for _, share in shares], 0
    stages = []
    for stage in schedule.stages:
        before, drawn = drawn, drawn + stage.count(schedule.generic)
        parts = (drawn_counts(weights, drawn) - drawn_counts(weights, before)).tolist()
        counts = [(name, count) for (name, _), count in zip(shares, parts, strict=True)]
        counts += [(name, count) for name, count in stage.counts if name != schedule.generic]
        stages.append(dataclasses.replace(stage, counts=tuple(counts)))
    name = mixture_name(shares)
    return dataclasses.replace(schedule, stages=tuple(stages), generic=name, generic_shares=shares)


def as_one_generic(schedule: Schedule) -> Schedule:
    """The schedule of a mixture as if its generic sources were one."""
    stages = tuple(_as_one(stage, schedule) for stage in schedule.stages)
    return dataclasses.replace(schedule, stages=stages, generic_shares=())


def _as_one(stage: Stage, schedule: Schedule) -> Stage:
    generic = sum(stage.count(name) for name in schedule.generics)
    others = [(name, count) for name, count in stage.counts if name not in schedule.generics]
    return dataclasses.replace(stage, counts=((schedule.generic, generic), *others))
