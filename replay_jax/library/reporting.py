"""From a working directory to its report: what the sweep left there, analysed and written down."""

import contextlib
import json
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from rich.console import Console

from replay_jax.errors import UserError
from replay_jax.library.gathering import gather
from replay_jax.report.advice import advise
from replay_jax.report.elements.inputs import PlanSummary, TimeRow
from replay_jax.report.terminal import terminal_table
from replay_jax.report.write import write_report
from replay_jax.sweep.drive.leftovers import say_unsent
from replay_jax.sweep.drive.status import sweep_status
from replay_jax.sweep.drive.tracking import send_to_wandb_again
from replay_jax.sweep.store.facts import read_fact, write_text
from replay_jax.sweep.store.workdir import WorkStore

# Beside the sweep's own facts: what was asked in words, and the wall time of every `run`.
_RECIPE, _SESSIONS = "recipe.json", "sessions.jsonl"
_CHANGE = "--config."


def remember_session(workdir: epath.Path, seconds: Mapping[str, float], *, workers: int) -> None:
    """Append the wall seconds of one `run` by phase, and how many workers trained side by side."""
    sessions = [*_sessions(workdir), {"seconds": dict(seconds), "workers": workers}]
    # Written whole: a bucket knows no appending.
    write_text(workdir / _SESSIONS, "".join(json.dumps(each) + "\n" for each in sessions))


def workers_of(workdir: epath.Path) -> int:
    """The most workers side by side of any `run` in a directory; 1 before the first."""
    return max((session["workers"] for session in _sessions(workdir)), default=1)


def report_on(
    workdirs: Sequence[epath.Path], console: Console, *, second_opinion: bool = False,
    early_stopping: bool = False,
) -> None:  # fmt: skip
    """Analyse all finished runs of the directories, print, and write a report into the first."""
    workdir = workdirs[0]
    gathered = gather(workdirs, early_stopping=early_stopping)
    study, records = gathered.study, gathered.records
    recipe = read_fact(workdir / _RECIPE)
    if recipe is None:
        raise UserError(
            f"{workdir} was not made by replay-jax run: give the folder that it printed"
        )
    missing = tuple(
        f"{run['name']}: {run['reason'] or run['state']}"
        for each in workdirs
        for run in sweep_status(each)["runs"]
        if run["state"] != "done"
    )
    advice = advise(study, complete=not missing, second_opinion=second_opinion)
    alone = len(gathered.sources) == 1
    summary = PlanSummary(
        name=recipe["name"],
        question=_introduction(recipe, gathered.sources, gathered.budgets),
        planned_runs=len(records) + len(missing),
        missing_runs=missing,
        steps_alone=recipe["steps_alone"] if alone else None,
        steps_planned=recipe["steps_planned"] if alone else None,
        fingerprints={
            key.removeprefix("data of ").strip("'"): value
            for key, value in records[0]["machine"].items()
            if key.startswith("data of ")
        },
        machine=_machine(records),
    )
    try:
        with _folder_here(workdir) as folder:
            write_report(
                records,
                study,
                advice,
                folder,
                plan_summary=summary,
                time_table=_time_table(records, _sessions(workdir)),
                rerun_command=recipe["command"],
            )
    except OSError as error:
        raise UserError(
            f"the report cannot be written into {workdir}: {error.strerror or error}; copy the "
            "folder to a place that can be written"
        ) from error
    console.print(terminal_table(study, advice, records))
    for line in gathered.budgets:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for each in workdirs:
        fault = send_to_wandb_again(WorkStore(each))
        if fault is not None:
            say_unsent(WorkStore(each), fault, console)
    _say_places(workdir, () if alone else gathered.sources, console)


def _say_places(workdir: epath.Path, sources: Sequence[str], console: Console) -> None:
    """Where what was written lies, and the command that takes the model."""
    for line in sources:
        console.print(line, highlight=False, markup=False)
    places = [f"results: {workdir / 'results.jsonl'}", f"report:  {workdir / 'report.html'}"]
    if (workdir / "ends").exists():
        places.append(f"model:   replay-jax export {workdir} best FOLDER")
    for line in places:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _introduction(recipe: Mapping[str, Any], sources: Sequence[str], budgets: Sequence[str]) -> str:
    """What was asked, a line each: the first paragraph of the config's words, what the command
    changed, budgets, and where runs of several sweeps come from.

    A config that is changed on the command line is asked something else than its words say.
    """
    given = [part for part in shlex.split(recipe["command"]) if part.startswith(_CHANGE)]
    changed = ", ".join(part.removeprefix(_CHANGE) for part in given)
    lines = [
        " ".join(recipe["question"].split("\n\n")[0].split()),
        f"Changed on the command line: {changed}." if changed else "",
        *budgets,
        f"Runs: {'; '.join(sources)}." if len(sources) > 1 else "",
    ]
    return "\n".join(filter(None, lines))


@contextlib.contextmanager
def _folder_here(workdir: epath.Path) -> Iterator[Path]:
    """A folder of this machine, whose files are in the working directory at the end."""
    if "://" not in os.fspath(workdir):
        yield Path(workdir)
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
        for file in sorted(path for path in Path(name).rglob("*") if path.is_file()):
            place = workdir / file.relative_to(name).as_posix()
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())


def _sessions(workdir: epath.Path) -> list[dict[str, Any]]:
    path = workdir / _SESSIONS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _time_table(
    records: Sequence[Mapping[str, Any]], sessions: Sequence[Mapping[str, Any]]
) -> list[TimeRow]:
    """Wall seconds by kind of work; what several workers did at once is divided by their number."""
    kinds = {
        "train": "train steps",
        "evaluate": "evaluate",
        "compile": "compile",
        "save": "save states",
        "data_wait": "wait for data",
    }
    workers = max((session["workers"] for session in sessions), default=1)
    worked = {kind: sum(record["time"][kind] for record in records) / workers for kind in kinds}
    rows = [TimeRow(title, worked[kind], kind != "train") for kind, title in kinds.items()]
    phases: dict[str, float] = {}
    for session in sessions:
        for phase, seconds in session["seconds"].items():
            phases[phase] = phases.get(phase, 0.0) + seconds
    swept = phases.pop("sweep", None)
    if swept is not None:
        idle = max(0.0, swept - sum(worked.values()))
        rows.append(TimeRow("start processes, idle workers", idle, True))
    return rows + [TimeRow(phase, seconds, True) for phase, seconds in phases.items()]


def _machine(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What trained the runs, by kind; all of it where they were trained on several."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for kind, value in record["machine"].items():
            if not kind.startswith("data of ") and value not in ("", "None"):
                found.setdefault(kind, {})[str(value)] = None
    machine = {kind: " and ".join(values) for kind, values in found.items()}
    environments = dict.fromkeys(digest for record in records for digest in record["environments"])
    return {**machine, "environments": " and ".join(digest[:8] for digest in environments)}
