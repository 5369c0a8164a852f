"""Accuracy on multiple-choice tasks, with intervals that know both seeds and items.

Which items a task happens to ask and which seeds were trained are both chance, and they cross:
every seed answers every item. So a mean over both is given the interval of a two-way layout with
random rows and columns; with one seed only the items can be counted, which is said. The change
against the baseline is paired by seed and item. Where a record's task has a `group` for each item,
groups take the place of items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaln, stdtrit

from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.selection import Records, records_of
from replay_jax.analysis.study.study import CellResult, TargetStudy


@dataclass(frozen=True)
class TaskResult:
    """One task in one cell, at the cell's best setting.

    Attributes:
        cell: the cell.
        accuracy: mean over seeds and items.
        choice_loss: mean over seeds of the loss among an item's choices, nats per item.
        change: own accuracy minus the baseline's on the same items and seeds; None for the baseline
            itself and where there is none, or no seed in common.
        p_value: two-sided exact sign-flip test of the change over items, the seeds taken as they
            are (with one seed, McNemar's exact test); None where `change` is.
        items: of the task.
        seeds: that were averaged.
    """

    cell: CellResult
    accuracy: Interval
    choice_loss: float
    change: Interval | None
    p_value: float | None
    items: int
    seeds: int


def task_names(records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Tasks that every record was scored on, in the order of the first; earlier versions had none.

    A name that stands for several files is left out: their items do not compare.
    """
    scored = [record["tasks"] if "tasks" in record else {} for record in records]
    digests = [{name: task["digest"] for name, task in tasks.items()} for tasks in scored]
    first = digests[0] if digests else {}
    return tuple(name for name in first if all((name, first[name]) in d.items() for d in digests))


def task_results(
    study: TargetStudy, cells: Sequence[CellResult], records: Records, task: str
) -> tuple[TaskResult, ...]:
    """The task in every one of the cells."""
    return tuple(_result(study, cell, records, task) for cell in cells)


def accuracy_before(study: TargetStudy, records: Records, task: str) -> float | None:
    """Accuracy of the model that training started from, None where it was not measured.

    All runs of a target that start from one model begin alike; those of several give None.
    """
    found = set()
    for cell in study.cells:
        for record in records_of(cell, records):
            curve = record["tasks"][task]["curve"]
            found.add(curve[0]["accuracy"] if curve and curve[0]["step"] == 0 else None)
    return found.pop() if len(found) == 1 else None


def two_way_interval(values: np.ndarray, *, level: float) -> Interval:
    """Mean of values [S, n] over random rows and random columns, with its interval.

    The variance of the mean is estimated as MS_rows / (S n) + MS_columns / (S n) - MS_rest / (S n)
    (the expected mean squares of a two-way layout without replicates), its degrees of freedom by
    Satterthwaite (Biometrics Bulletin 2, 1946). With one row only the columns count.
    """
    rows, columns = values.shape
    mean = float(values.mean())
    by_column = values.mean(axis=0)
    if columns < 2:
        return Interval(mean, None, None, note="one item")
    if rows < 2:
        parts = [(float(by_column.var(ddof=1)) / columns, columns - 1)]
    else:
        by_row = values.mean(axis=1)
        rest = values - by_row[:, None] - by_column[None] + mean
        freedom = (rows - 1) * (columns - 1)
        parts = [
            (float(by_row.var(ddof=1)) / rows, rows - 1),
            (float(by_column.var(ddof=1)) / columns, columns - 1),
            (-float((rest**2).sum()) / freedom / (rows * columns), freedom),
        ]
    variance = max(sum(part for part, _ in parts), max(part for part, _ in parts))
    if variance <= 0:
        return Interval(mean, mean, mean)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance))
    return Interval(mean, mean - half, mean + half)


def by_group(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Values [S, n] of items as values [S, groups] with the same means.

    Items of a group (a paradigm, a passage) are right or wrong together, so groups are what was
    sampled. A group's value is its items' deviation from the mean of all, times the number of
    groups over that of items, which for groups of one size is its mean.
    """
    _, places = np.unique(groups, return_inverse=True)
    count, mean = int(places.max()) + 1, float(values.mean())
    sums = np.stack([np.bincount(places, weights=row - mean, minlength=count) for row in values])
    return mean + sums * count / values.shape[1]


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided exact p of integer differences [n], each as likely to have either sign.

    With differences of -1, 0 and 1 it is McNemar's exact test.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    distribution, reach = np.ones(1), 0
    for size, number in zip(sizes.tolist(), counts.tolist(), strict=True):
        # Sum of `number` signs times `size`, at the places 0 to 2 reach of the sums so far.
        own = np.zeros(2 * size * number + 1)
        own[:: 2 * size] = _fair_coins(number)
        distribution = np.convolve(distribution, own)
        reach += size * number
    sums = np.arange(-reach, reach + 1)
    return min(1.0, float(distribution[np.abs(sums) >= abs(int(differences.sum()))].sum()))


def _fair_coins(number: int) -> np.ndarray:
    """Chances of 0 to `number` heads."""
    heads = np.arange(number + 1)
    # Binomial coefficients by logarithms, as they leave the floats at 1,030; scipy.stats costs half
    # a second to import.
    logs = -betaln(number - heads + 1, heads + 1) - np.log(number + 1)
    return np.exp(logs - number * np.log(2))


def _result(study: TargetStudy, cell: CellResult, records: Records, task: str) -> TaskResult:
    own = _answers(cell, records, task)
    groups = _groups(cell, records, task)
    change, p_value = None, None
    if cell.baseline is not None and not cell.is_baseline:
        other = _answers(study.cells[cell.baseline], records, task)
        seeds = sorted(own.keys() & other.keys())
        if seeds:
            paired = np.stack([own[seed] - other[seed] for seed in seeds])
            change = two_way_interval(by_group(paired, groups), level=study.level)
            sums = np.bincount(np.unique(groups, return_inverse=True)[1], paired.sum(axis=0))
            p_value = sign_flip_p(np.rint(sums).astype(int))
    losses = [record["tasks"][task]["choice_loss"] for record in records_of(cell, records)]
    answers = np.stack(list(own.values()))
    accuracy = two_way_interval(by_group(answers, groups), level=study.level)
    return TaskResult(
        cell=cell,
        accuracy=accuracy,
        choice_loss=float(np.mean(losses)),
        change=change,
        p_value=p_value,
        items=answers.shape[1],
        seeds=len(own),
    )


def _answers(cell: CellResult, records: Records, task: str) -> dict[int, np.ndarray]:
    """1.0 for every item that is right, by seed: float [items]."""
    return {
        int(record["seed"]): np.array([float(c) for c in record["tasks"][task]["correct"]])
        for record in records_of(cell, records)
    }


def _groups(cell: CellResult, records: Records, task: str) -> np.ndarray:
    """Group of every item [items]: the record's `group` of the task; its own where it has none."""
    found = records_of(cell, records)[0]["tasks"][task]
    return np.array(found["group"]) if "group" in found else np.arange(len(found["correct"]))
