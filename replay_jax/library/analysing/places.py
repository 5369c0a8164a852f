"""Anybody's runs, from a table or an experiment tracker, as a study with what was left out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath

from replay_jax.analysis.sources.files import read_table
from replay_jax.analysis.sources.frame import runs_of_frame
from replay_jax.analysis.sources.logged import Logged, table_of
from replay_jax.analysis.sources.wandb_runs import read_wandb
from replay_jax.analysis.study.study import Study
from replay_jax.errors import UserError
from replay_jax.library.analysing.own_runs import gathered_again, is_records, logged_records
from replay_jax.sweep.store.places import place as known_place


@dataclass(frozen=True)
class Spoken:
    """What the user says of the runs: the arguments of `runs_of_frame` beside the frame."""

    reference: Mapping[str, Any] | None = None
    tuned: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    columns: Mapping[str, str] | None = None
    level: float | None = None


@dataclass(frozen=True)
class Analysed:
    """A study of runs that were found somewhere.

    Attributes:
        name: of the place.
        folder: where a report on them goes.
        records: of the runs that are compared; `plain`: with swept tables of values as they are.
        notes: what was left out or assumed, one sentence each.
        own: whether they are replay-jax's own, with all that it records.
    """

    name: str
    folder: Path
    study: Study
    records: tuple[Mapping[str, Any], ...]
    plain: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    own: bool


def analyse_place(place: str, spoken: Spoken) -> Analysed:
    """Analyse a table of runs, a sweep's results.jsonl, or a TensorBoard folder.

    Raises:
        UserError: it is none of these, or its runs cannot be compared.
    """
    if re.match(r"https?://", place):
        raise UserError(f"{place} is not on this machine: download it, and give the file")
    root = known_place(place)
    try:
        return _read(root, place, spoken)
    except OSError as error:
        raise UserError(
            f"{error.filename or place} cannot be read: {error.strerror or error}"
        ) from error


def _read(root: epath.Path, place: str, spoken: Spoken) -> Analysed:
    path, here = Path(root), "://" not in place
    beside = _beside(path) if here else Path(f"{root.name}_report")
    if here and path.suffix == ".jsonl" and path.is_file() and is_records(path):
        return _of_logged(logged_records(path), spoken, path.name, beside, ())
    if here and not path.is_dir():
        return _of_table(read_table(path), spoken, path.name, beside, ())
    if (root / "workdir.json").exists() and (root / "results.jsonl").exists():
        raise UserError(
            f"{place} is a working directory of replay-jax: say replay-jax recommend {place}"
        )
    # Its messages take most of a second to import, which a table does not need.
    from replay_jax.analysis.sources.tensorboard import read_tensorboard

    return _of_logged(read_tensorboard(root), spoken, place, beside, ())


def analyse_wandb(project: str, spoken: Spoken) -> Analysed:
    """Analyse the finished runs of a W&B project, ENTITY/PROJECT; raises as `analyse_place`."""
    runs, notes = read_wandb(project)
    return _of_logged(runs, spoken, project, Path(f"{project.split('/')[1]}_report"), notes)


def _beside(path: Path) -> Path:
    absolute = path.resolve()
    if absolute == absolute.parent:
        raise UserError(f"{path} has no folder around it for a report: give the folder of the runs")
    return absolute.with_name(f"{absolute.stem}_report") if path.name in ("", "..") else (
        path.with_name(f"{path.stem}_report")
    )  # fmt: skip


def _of_table(
    table: Any, spoken: Spoken, name: str, folder: Path, notes: Sequence[str]
) -> Analysed:
    runs = runs_of_frame(
        table,
        reference=spoken.reference,
        tuned=spoken.tuned,
        axes=spoken.axes,
        ignore=spoken.ignore,
        columns=spoken.columns,
        level=0.9 if spoken.level is None else spoken.level,
    )
    return Analysed(
        name=name,
        folder=folder,
        study=runs.study(),
        records=runs.records,
        plain=runs.records,
        notes=(*notes, *runs.notes),
        own=False,
    )


def _of_logged(
    runs: Sequence[Logged], spoken: Spoken, name: str, folder: Path, notes: Sequence[str]
) -> Analysed:
    own = [run for run in runs if run.record is not None]
    if not own:
        table = table_of(
            runs,
            named=spoken.columns or {},
            own=(*spoken.tuned, *spoken.axes),
            ignore=spoken.ignore,
        )
        # They have the names of docs/analyse.md now.
        spoken = Spoken(spoken.reference, spoken.tuned, spoken.axes, level=spoken.level)
        return _of_table(table, spoken, name, folder, notes)
    if len(own) < len(runs):
        other = next(run.name for run in runs if run.record is None)
        raise UserError(
            f"{len(own)} of the {len(runs)} runs of {name} were sent by replay-jax with their "
            f"records and the others, such as {other}, were not: analyse the two kinds apart"
        )
    if spoken != Spoken():
        raise UserError(
            f"the runs of {name} are replay-jax's own and say themselves what is compared: leave "
            "out --reference, --tuned, --axes, --ignore, --column and --level"
        )
    found = gathered_again(own, name)
    return Analysed(
        name=name,
        folder=folder,
        study=found.study,
        records=tuple(found.records),
        plain=tuple(found.plain),
        notes=(*notes, *(line for line in found.sources if line.startswith("left out"))),
        own=True,
    )
