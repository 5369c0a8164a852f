"""From a working directory to its report: what the sweep left there, analysed and written down."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from replay_jax.analysis.analyse import analyse
from replay_jax.analysis.answer import advise
from replay_jax.analysis.records import AnalysisConfig, load_records
from replay_jax.analysis.report import write_report
from replay_jax.analysis.report_inputs import PlanSummary, TimeRow
from replay_jax.analysis.study import Study
from replay_jax.analysis.terminal import terminal_table
from replay_jax.errors import UserError
from replay_jax.strict import from_plain
from replay_jax.sweep.facts import read_fact, write_fact
from replay_jax.sweep.status import sweep_status

# Beside the sweep's own facts: what was asked in words, and the wall time of every `run`.
_RECIPE, _SESSIONS = "recipe.json", "sessions.jsonl"


def remember_recipe(workdir: Path, *, name: str, question: str, plan: Mapping[str, Any]) -> None:
    """Keep the words and totals that a report needs and results do not hold."""
    facts = {
        "name": name,
        "question": question,
        "command": shlex.join(["replay-jax", *sys.argv[1:]]),
        "steps_alone": plan["steps_naive"],
        "steps_planned": plan["steps_planned"],
    }
    write_fact(workdir / _RECIPE, facts)


def remember_session(workdir: Path, seconds: Mapping[str, float], *, workers: int) -> None:
    """Append the wall seconds of one `run` by phase, and how many workers trained side by side."""
    with (workdir / _SESSIONS).open("a") as lines:
        lines.write(json.dumps({"seconds": dict(seconds), "workers": workers}) + "\n")


def study_of(workdir: Path) -> tuple[Study, list[dict[str, Any]]]:
    """The analysed study of a working directory and the records that it rests on.

    Raises:
        UserError: no finished run, or records that cannot be compared.
    """
    records = load_records(workdir / "results.jsonl")
    if not records:
        raise UserError(f"no run of {workdir} has finished: see replay-jax status {workdir}")
    config = from_plain(AnalysisConfig, records[0]["config"]["analysis"], path="analysis")
    return analyse(records, config), records


def report_on(workdir: Path, console: Console) -> None:
    """Analyse, print the table and write results, figures and report.html."""
    study, records = study_of(workdir)
    advice = advise(study)
    recipe = read_fact(workdir / _RECIPE)
    if recipe is None:
        raise UserError(
            f"{workdir} was not made by replay-jax run: give the folder that it printed"
        )
    runs = sweep_status(workdir)["runs"]
    summary = PlanSummary(
        name=recipe["name"],
        question=recipe["question"],
        planned_runs=len(runs),
        missing_runs=tuple(
            f"{run['name']}: {run['reason'] or run['state']}"
            for run in runs
            if run["state"] != "done"
        ),
        steps_alone=recipe["steps_alone"],
        steps_planned=recipe["steps_planned"],
        fingerprints={
            key.removeprefix("data of ").strip("'"): value
            for key, value in records[0]["machine"].items()
            if key.startswith("data of ")
        },
        machine=_machine(),
    )
    paths = write_report(
        records,
        study,
        advice,
        workdir,
        plan_summary=summary,
        time_table=_time_table(records, _sessions(workdir)),
        rerun_command=recipe["command"],
    )
    console.print(terminal_table(study, advice))
    console.print(f"results: {workdir / 'results.jsonl'}", highlight=False)
    console.print(f"report:  {paths[0]}", highlight=False)


def _sessions(workdir: Path) -> list[dict[str, Any]]:
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


def _machine() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {"system": platform.platform(), "cores": str(cores)}
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [x for x in information.read_text().splitlines() if x.startswith("model name")]
        if names:
            machine["processor"] = names[0].split(":", 1)[1].strip()
    return machine
