"""One run of a working directory against the best that does not replay: a gate for a model team."""

from collections.abc import Sequence

from etils import epath

from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.advice.shipping import Shipping
from replay_jax.analysis.advice.shipping import ship as ship_cell
from replay_jax.analysis.study.study import TargetStudy
from replay_jax.errors import UserError
from replay_jax.library.gathering import Record, analysed, gather
from replay_jax.library.naming import BEST, find_run
from replay_jax.sweep.store.places import existing


def ship(
    workdir: epath.PathLike,
    run: str,
    *,
    margin: float = 0.0,
    generic_margin: float | None = None,
    target: str | None = None,
) -> Shipping:
    """Say whether a run's recipe is better than the best that does not replay, worse, or unknown.

    The recipe is that of all seeds trained like the run.

    Args:
        workdir: the folder that `run` printed.
        run: an id, how an id begins, a name; or "best", the recommended schedule.
        margin: least gain in target loss, nats per token.
        generic_margin: largest rise of generic loss, nats per token; None: it is not judged.
        target: of "best", where there are several.

    Examples:
        >>> rj.ship("runs/quickstart", "best", generic_margin=0.05).verdict  # doctest: +SKIP

    Raises:
        UserError: no such directory, run or target, or nothing to compare it with.
    """
    gathered = gather([existing(workdir)])
    asked = {"margin": margin, "generic_margin": generic_margin}
    if run == BEST:
        found = gathered.study.target(target)
        best = recommend_every_group(gathered.study, found.target)[0].best
        return ship_cell(found, best, run=BEST, **asked)  # type: ignore[arg-type]
    records = gathered.records
    names = [(str(record["id"]), str(record["name"])) for record in records]
    own = records[find_run(names, run, where=str(workdir))]
    if target not in (None, own["target"]):
        raise UserError(f"run {own['id']} is of target {own['target']!r}, not {target!r}")
    found = gathered.study.target(str(own["target"]))
    cell, chosen = _place(found, str(own["id"]))
    if not chosen:
        # Another setting of its cell is better: this one is judged by itself.
        left = _without_siblings(found, cell, str(own["id"]), records)
        found = analysed(left).target(str(own["target"]))
        cell, _ = _place(found, str(own["id"]))
    return ship_cell(found, cell, run=str(own["id"]), **asked)  # type: ignore[arg-type]


def _place(found: TargetStudy, run: str) -> tuple[int, bool]:
    """The cell of a run, and whether its setting is the cell's best."""
    return next(
        (index, run in cell.chosen.run_ids)
        for index, cell in enumerate(found.cells)
        if any(run in setting.run_ids for setting in cell.settings)
    )


def _without_siblings(
    found: TargetStudy, cell: int, run: str, records: Sequence[Record]
) -> list[Record]:
    """The records without the other settings of a run's cell."""
    others = {
        other
        for setting in found.cells[cell].settings
        if run not in setting.run_ids
        for other in setting.run_ids
    }
    return [record for record in records if str(record["id"]) not in others]
