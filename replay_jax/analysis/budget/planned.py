"""A planned sweep as a budget sees it: its cells before they have losses, and what runs cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.study.groups import Cell, CellKey, group_records
from replay_jax.analysis.study.selection import competes
from replay_jax.errors import UserError

# Of the spans of training that a run needs, each with its cost; spans are shared between runs.
Path = tuple[tuple[Any, float], ...]


@dataclass(frozen=True)
class PlannedSetting:
    """One tuned setting: its values, and the ids of its runs by seed."""

    tuned: tuple[tuple[str, Any], ...]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class PlannedCell:
    """One (protocol, budget, alpha, rho) of the config; settings in the order of tuned values."""

    key: CellKey
    settings: tuple[PlannedSetting, ...]
    is_reference: bool


@dataclass(frozen=True)
class Question:
    """Cells that one answer compares: those that replay, and those that do not.

    `usual` is the rival with all target data at the end. All index `Grid.cells`.
    """

    replaying: tuple[int, ...]
    rivals: tuple[int, ...]
    usual: int


@dataclass(frozen=True)
class Grid:
    """All that a config defines: cells, what they answer, and the cost of every run's spans."""

    cells: tuple[PlannedCell, ...]
    questions: tuple[Question, ...]
    paths: Mapping[str, Path]

    def cost(self, runs: Iterable[str]) -> float:
        """Of training these runs together, what they share once."""
        return sum({span: cost for run in runs for span, cost in self.paths[run]}.values())

    @property
    def seeds(self) -> int:
        """The most runs that one setting has."""
        return max(len(s.runs) for cell in self.cells for s in cell.settings)

    def places(self, cell: int) -> tuple[tuple[int, int], ...]:
        """All settings of a cell."""
        return tuple((cell, s) for s in range(len(self.cells[cell].settings)))

    def references(self, target: str) -> tuple[int, ...]:
        """Reference cells of a target by growing budget."""
        found = [
            i
            for i, cell in enumerate(self.cells)
            if cell.is_reference and cell.key.target == target
        ]
        return tuple(sorted(found, key=lambda i: self.cells[i].key.target_tokens))


def grid_of(
    planned: Sequence[Mapping[str, Any]], config: AnalysisConfig, paths: Mapping[str, Path]
) -> Grid:
    """The cells and questions of planned runs, given as records whose losses stand for nothing.

    Raises:
        UserError: nothing can be drawn from it in portions: one run, one seed, or no budget with
            runs both with and without replay.
    """
    if len(planned) < 2:
        raise UserError("the sweep has one run: a budget chooses among several; leave it out")
    cells = tuple(
        _planned(cell) for group in group_records(planned, config) for cell in group.cells
    )
    grid = Grid(cells, _questions(cells), paths)
    if not grid.questions:
        raise UserError(
            "the sweep has no budget with runs both with and without replay (replay_fraction 0), "
            "so no verdict can end it: add the missing ones, or leave --budget and --until out"
        )
    if grid.seeds < 2:
        raise UserError(
            "the sweep has one seed, so no interval can be known: give it two at least (three are "
            "better), or leave --budget and --until out"
        )
    return grid


def _planned(cell: Cell) -> PlannedCell:
    settings = tuple(
        PlannedSetting(s.tuned, tuple(str(record["id"]) for record in s.records))
        for s in cell.settings
    )
    return PlannedCell(cell.key, settings, cell.is_reference)


def _questions(cells: Sequence[PlannedCell]) -> tuple[Question, ...]:
    """One for every target, protocol, budget and axes with runs with and without replay.

    What does not replay competes as in an answer (`advice.compare.rivals`).
    """
    rows: dict[tuple[Any, ...], list[int]] = {}
    for i, cell in enumerate(cells):
        if cell.key.protocol != "uniform":
            rows.setdefault(_row(cell.key), []).append(i)
    found = []
    for members in rows.values():
        replaying = tuple(i for i in members if cells[i].key.replay_fraction > 0)
        staged = [i for i in members if cells[i].key.replay_fraction == 0]
        if replaying and staged:
            own = cells[staged[0]].key
            beside = [i for i, cell in enumerate(cells) if _is_rival_beside(cell.key, own)]
            usual = max(staged, key=lambda i: cells[i].key.allocation)
            found.append(Question(replaying, (*staged, *beside), usual))
    return tuple(found)


def _row(key: CellKey) -> tuple[Any, ...]:
    return key.target, key.protocol, key.target_tokens, key.axes


def _is_rival_beside(key: CellKey, own: CellKey) -> bool:
    """Whether a cell of another row does not replay and competes: a constant mixture, or knobs."""
    without = key.target == own.target and key.replay_fraction == 0
    return without and competes(key, own) and _row(key) != _row(own)


def middle(cell: PlannedCell) -> int:
    """The setting nearest to the middle of every tuned grid; of two middles the smaller."""
    columns = list(zip(*(s.tuned for s in cell.settings), strict=True))
    orders = [list(dict.fromkeys(sorted(column, key=_order))) for column in columns]

    def distance(place: int) -> float:
        tuned = cell.settings[place].tuned
        return sum(
            abs(order.index(value) - (len(order) - 1) // 2)
            for value, order in zip(tuned, orders, strict=True)
        )

    return min(range(len(cell.settings)), key=distance)


def neighbours(cell: PlannedCell, place: int) -> tuple[int, ...]:
    """Settings that differ from one in a single tuned key by one step of what was planned."""
    own, found = cell.settings[place].tuned, []
    for position in range(len(own)):
        line = [
            i
            for i, other in enumerate(cell.settings)
            if all(
                mine == theirs
                for p, (mine, theirs) in enumerate(zip(own, other.tuned, strict=True))
                if p != position
            )
        ]
        here = line.index(place)
        found += line[max(0, here - 1) : here] + line[here + 1 : here + 2]
    return tuple(found)


def is_edge(cell: PlannedCell, place: int) -> bool:
    """Whether a setting lies at an end of one of its tuned grids."""
    own = cell.settings[place].tuned
    tried = [sorted({_order(s.tuned[p]) for s in cell.settings}) for p in range(len(own))]
    return any(
        len(values) > 1 and _order(own[p]) in (values[0], values[-1])
        for p, values in enumerate(tried)
    )


def _order(tuned: tuple[str, Any]) -> tuple[int, float, str]:
    value = tuned[1]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, float(value), "")
    return (1, 0.0, str(value))
