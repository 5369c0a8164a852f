"""What an analysed sweep says: plain results, one `TargetStudy` for each target source.

Losses are nats per token; amounts are target tokens; intervals have level `Study.level`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.analysis.noise.components import Component
from replay_jax.analysis.runs.boundary import BoundaryResult
from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.statistics.inference import CurveFit
from replay_jax.analysis.study.frames import cell_columns, draw_columns, html_table
from replay_jax.analysis.study.groups import CellKey, describe
from replay_jax.errors import UserError


@dataclass(frozen=True)
class SettingResult:
    """One tuned setting of a cell; losses by seed [S], nan where there is no run.

    `target_loss` and `generic_loss` are means over seeds, by least squares over the whole study
    where runs are missing: a setting that lacks an unlucky seed gains nothing by it. The generic
    one is nan where none of its runs measured it.
    `steps` (updates) and `flops` of one run are None where records do not say.
    `overrides` are those of its runs without the seed: what to repeat in a next run.
    `learning_rate`: fields of its first stage's schedule, empty where records do not say.
    """

    tuned: tuple[tuple[str, Any], ...]
    target_epochs: float
    target_by_seed: np.ndarray
    generic_by_seed: np.ndarray
    target_loss: float
    generic_loss: float
    steps: float | None
    flops: float | None
    run_ids: tuple[str, ...]
    overrides: Mapping[str, Any]
    learning_rate: Mapping[str, Any]


@dataclass(frozen=True)
class Edge:
    """A tuned number whose best value is the largest tried, or the smallest.

    `further` is the value to try next; None where there is none beyond (below 0).
    """

    key: str
    value: float
    largest: bool
    further: float | None

    @property
    def words(self) -> str:
        """The edge with what to try."""
        end = "largest" if self.largest else "smallest"
        step = "" if self.further is None else f"; try {self.further:g}"
        return f"{self.key}: best at {self.value:.12g}, the {end} tried{step}"


@dataclass(frozen=True)
class CellResult:
    """One (protocol, budget, alpha, rho), represented by its best tuned setting.

    `best` indexes `settings` (`tried` only chose these, and are not compared); `best_share` is the
    share of resamples in which it stays best.
    `at_edge`: the tuned values that lie at an end of their grid. `gain` is baseline minus own
    target loss, `generic_cost` own minus baseline generic loss (negative: replay saved some);
    `multiplier` is x(own) / x(baseline) through the reference law. They are None where there is no
    baseline, or no law (then `note` says why). `better` is the share of resamples with a lower
    target loss than the baseline.
    """

    key: CellKey
    settings: tuple[SettingResult, ...]
    best: int
    best_share: float
    target_loss: Interval
    generic_loss: Interval
    at_edge: tuple[Edge, ...]
    is_reference: bool
    is_baseline: bool
    baseline: int | None  # index into TargetStudy.cells
    equivalent_tokens: Interval | None
    multiplier: Interval | None
    gain: Interval | None
    generic_cost: Interval | None
    better: float | None
    boundary: BoundaryResult
    note: str
    tried: tuple[SettingResult, ...] = ()

    @property
    def ever(self) -> tuple[SettingResult, ...]:
        """All settings that were run, compared or not."""
        return (*self.settings, *self.tried)

    @property
    def chosen(self) -> SettingResult:
        """The best tuned setting."""
        return self.settings[self.best]

    @property
    def label(self) -> str:
        """The cell in words."""
        return describe(self.key)


@dataclass(frozen=True)
class Dropped:
    """A schedule of which no run is compared, and its settings: they were tried on few seeds."""

    key: CellKey
    settings: tuple[SettingResult, ...]


@dataclass(frozen=True)
class ReplayFit:
    """Quadratic in t = -ln(1 - rho) through the tuned target losses of one row of rho.

    (As the authors plot.) `minimum` is the predicted best rho, None unless the curve is convex, its
    minimum lies within 20 % beyond the sampled range of t, and the losses are a parabola within
    their noise; an end beyond that range is None: it is no bound.
    """

    cells: tuple[int, ...]  # indices into TargetStudy.cells, rho increasing
    coefficients: tuple[float, float, float]  # of t^2, t, 1
    minimum: Interval | None
    note: str

    def loss(self, replay_fraction: np.ndarray) -> np.ndarray:
        """Fitted target loss in nats per token at rho."""
        return np.polyval(np.array(self.coefficients), -np.log1p(-replay_fraction))


@dataclass(frozen=True)
class Control:
    """A cell against the constant mixture of its budget, each at its own best setting.

    `target_epochs`: of the constant mixture. `difference`: the cell's target loss less its.
    """

    cell: int
    constant: int
    target_epochs: float
    difference: Interval


@dataclass(frozen=True)
class Draws:
    """Resampled losses [R, cells]: target tuned anew in each, generic of the setting in the data.

    Target losses are freed of the luck of the winner, `luck` [cells] nats on average.
    `generic_settings`: generic losses [R, k] of all settings of every cell. `log_equivalent`
    [R, cells]: None without a reference law. Without known noise every row equals the observation.
    """

    target: np.ndarray
    luck: np.ndarray
    generic: np.ndarray
    generic_settings: tuple[np.ndarray, ...]
    log_equivalent: np.ndarray | None


@dataclass(frozen=True)
class TargetStudy:
    """Everything about one target source.

    `curve` is None when no law could be fitted; `curve_problem` then says why. `noise` and
    `generic_noise` are standard deviations of one run's loss, None when unknown. `front` maps a
    budget to the cells that no other cell beats on both target and generic loss. `documents`: how
    many held-out target documents have their luck in the intervals, None where records do not say.
    `margin`: changes of target loss below it are none, nats per token.
    `bits_per_nat`: bits per byte of a nat per token of held-out target text, None where unknown.
    `components` and `generic_components` say what that noise is made of; empty when unknown.
    `dropped`: schedules that were tried and are not compared (`study/tried.py`).
    `data_seeds`: the data seed of each seed, where the sweep varies it.
    """

    target: str
    generic: str
    seeds: tuple[int, ...]
    data_seeds: Mapping[int, int]
    level: float
    margin: float
    bits_per_nat: float | None
    cells: tuple[CellResult, ...]
    curve: CurveFit | None
    curve_problem: str
    noise: float | None
    generic_noise: float | None
    seed_noise_known: bool
    replay_fits: tuple[ReplayFit, ...]
    front: Mapping[int, tuple[int, ...]]
    controls: tuple[Control, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    documents: int | None
    components: tuple[Component, ...]
    generic_components: tuple[Component, ...]
    draws: Draws
    dropped: tuple[Dropped, ...] = ()

    @property
    def reference_cells(self) -> tuple[CellResult, ...]:
        """Points of the reference curve, by budget."""
        return tuple(cell for cell in self.cells if cell.is_reference)

    @property
    def budgets(self) -> tuple[int, ...]:
        """Budgets (target tokens) with at least one cell that replays, increasing."""
        found = {c.key.target_tokens for c in self.cells if replays(c)}
        return tuple(sorted(found))

    def band(
        self, tokens: Sequence[float], *, since: float | None = None
    ) -> list[dict[str, float | bool | None]]:
        """The reference law at `tokens`: {tokens, loss, low, high, extrapolated} for a chart.

        The band is that of a loss; with `since` (target tokens) that of the change of loss from
        there on, which is what a comparison with a schedule of that worth rests on. It is drawn
        about the law and closes at `since`.

        Raises:
          UserError: there is no law (see `curve_problem`).
        """
        if self.curve is None:
            raise UserError(f"no reference law: {self.curve_problem}")
        log_x = np.log(np.asarray(tokens, dtype=float))
        value = self.curve.law.loss(log_x)[0]
        drawn = self.curve.resampled.loss(log_x)
        if since is not None:
            origin = np.log([since])
            moved = self.curve.law.loss(origin) - self.curve.resampled.loss(origin)
            drawn = drawn + moved
        first, last = self.curve.points.x[0], self.curve.points.x[-1]
        rows: list[dict[str, float | bool | None]] = []
        for column, x in enumerate(tokens):
            low, high = interval(drawn[:, column], level=self.level)
            rows.append(
                {
                    "tokens": float(x),
                    "loss": _finite(value[column]),
                    "low": _finite(low),
                    "high": _finite(high),
                    "extrapolated": not bool(first <= x <= last),
                }
            )
        return rows


@dataclass(frozen=True)
class Study:
    """All targets of a sweep; `notes`: what a reader of anybody's table left out or doubts."""

    targets: tuple[TargetStudy, ...]
    level: float
    notes: tuple[str, ...] = ()

    @property
    def cells(self) -> dict[str, list[Any]]:
        """Columns with a row per cell, for pandas or polars (`frames.cell_columns`)."""
        return cell_columns(self.targets)

    @property
    def draws(self) -> dict[str, np.ndarray]:
        """Columns with a row per cell and resample (`frames.draw_columns`)."""
        return draw_columns(self.targets)

    def _repr_html_(self) -> str:
        return html_table(self.cells, self.notes)

    def target(self, name: str | None = None) -> TargetStudy:
        """The study of one target; without a name the only one.

        Raises:
          UserError: no such target, or several and none named.
        """
        names = [study.target for study in self.targets]
        if name is None:
            if len(names) > 1:
                raise UserError(f"there are {len(names)} targets; name one of {', '.join(names)}")
            return self.targets[0]
        if name not in names:
            raise UserError(f"no target {name!r} in these results; there are: {', '.join(names)}")
        return self.targets[names.index(name)]


def replays(cell: CellResult) -> bool:
    """Whether a cell mixes generic data into its second stage (constant mixtures do not count)."""
    return cell.key.protocol != "uniform" and cell.key.replay_fraction > 0


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
