"""What a schedule is worth in target data by its task scores, beside what it is worth by its loss.

A task has a reference curve of its own: the reference recipe's loss among choices, or its share of
wrong answers, against target tokens. A schedule's score is inverted through it as its loss is
through the reference law (the same laws, misfit test and noise model). Intervals pair seeds by the
model of the noise; those by accuracy also count which items were asked, alike for all schedules.
Records have no choice loss of single items, so that one's intervals speak of these items only.

Shape legend: C cells, S seeds, R resamples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from replay_jax.analysis.noise.components import Layout
from replay_jax.analysis.noise.documents import DocumentLuck, document_luck
from replay_jax.analysis.noise.resampling import estimate_noise, resample_means
from replay_jax.analysis.statistics.bootstrap import RESAMPLES, Interval
from replay_jax.analysis.statistics.efficiency import (
    ReferencePoints,
    point_weights,
    require_falling,
)
from replay_jax.analysis.statistics.equivalents import Equivalents, equivalents, ratio
from replay_jax.analysis.statistics.inference import CurveFit, fit_curve, residual_noise
from replay_jax.analysis.study.selection import Records, records_of
from replay_jax.analysis.study.study import TargetStudy, replays
from replay_jax.errors import UserError

Measure = Literal["choice loss", "accuracy"]
MEASURES: tuple[Measure, ...] = ("choice loss", "accuracy")


@dataclass(frozen=True)
class ScoreCurve:
    """A task's reference curve by one measure; `curve` None where `problem` says why."""

    task: str
    measure: Measure
    curve: CurveFit | None
    found: Equivalents | None
    problem: str
    level: float

    def multiplier(self, best: int, against: int) -> Interval | None:
        """Target data that cell `best` is worth over that of `against`, by this score."""
        if self.curve is None or self.found is None:
            return None
        return ratio(self.curve, self.found, best, against, level=self.level)

    def to_json(self, best: int, against: int) -> dict[str, Any]:
        """Plain JSON object of the comparison of two cells."""
        multiplier = self.multiplier(best, against)
        return {
            "task": self.task,
            "by": self.measure,
            "multiplier": None if multiplier is None else multiplier.to_json(),
            "why_not": self.problem,
        }


def score_curve(
    study: TargetStudy, records: Records, task: str, measure: Measure, *, seed: int = 0
) -> ScoreCurve:
    """Fit a task's reference curve, every cell at its best setting by target loss.

    The same records and seed give the same curve.
    """
    rng = np.random.default_rng(seed)
    by_seed = _by_seed(study, records, task, measure)
    noise = estimate_noise(by_seed, _layout(study))
    cells = sorted((c.key.target_tokens, i) for i, c in enumerate(study.cells) if c.is_reference)
    places = [i for _, i in cells]
    try:
        points = ReferencePoints(
            x=np.array([float(tokens) for tokens, _ in cells]),
            loss=noise.means[places],
            weights=point_weights(noise.mean[places]) if noise.known else np.ones(len(places)),
        )
        require_falling(points)
    except UserError as error:
        problem = f"the reference recipe's {measure} gives no curve: {error}"
        return ScoreCurve(task, measure, None, None, problem, study.level)
    noise = noise if noise.known else residual_noise(points, by_seed)
    drawn = resample_means(noise, rng, resamples=RESAMPLES)
    luck = _item_luck(study, records, task) if measure == "accuracy" else None
    if luck is not None:
        drawn = drawn + luck.drawn(rng, resamples=RESAMPLES)
    curve = fit_curve(
        points,
        drawn[:, places],
        noise=noise,
        variances=noise.mean[places],
        level=study.level,
        rng=rng,
    )
    return ScoreCurve(task, measure, curve, equivalents(curve, noise.means, drawn), "", study.level)


def _by_seed(study: TargetStudy, records: Records, task: str, measure: Measure) -> np.ndarray:
    """Scores [C, S] that fall as a model learns: nats among choices, or the share of wrong ones."""
    scores = np.full((len(study.cells), len(study.seeds)), np.nan)
    for row, cell in enumerate(study.cells):
        for record in records_of(cell, records):
            column = study.seeds.index(int(record["seed"]))
            found = record["tasks"][task]
            scores[row, column] = (
                found["choice_loss"] if measure == "choice loss" else _wrong(found).mean()
            )
    return scores


def _layout(study: TargetStudy) -> Layout:
    """What the cells' scores share within a seed: as their losses do (layout.py)."""
    keys = [cell.key for cell in study.cells]
    _, budget = np.unique([key.target_tokens for key in keys], return_inverse=True)
    kinds = [f"{cell.key.protocol} {replays(cell)}" for cell in study.cells]
    _, kind = np.unique(kinds, return_inverse=True)
    return Layout(
        effects=(("seed x budget", budget), ("seed x protocol", kind)),
        strata=budget * (kind.max() + 1) + kind,
    )


def _item_luck(study: TargetStudy, records: Records, task: str) -> DocumentLuck | None:
    """The luck of the items, or of their groups, as that of held-out documents is counted."""
    runs = [[record["tasks"][task] for record in records_of(c, records)] for c in study.cells]
    first = runs[0][0]
    items = len(first["correct"])
    groups = np.unique(
        first["group"] if "group" in first else np.arange(items), return_inverse=True
    )[1]
    wrong = [[np.bincount(groups, weights=_wrong(run)) for run in cell] for cell in runs]
    return document_luck(wrong, np.bincount(groups).astype(float))


def _wrong(task: Mapping[str, Any]) -> np.ndarray:
    """1.0 for every item that is wrong, float [items]."""
    return 1.0 - np.array([float(c) for c in task["correct"]])
