"""Commands about a working directory: status, report, recommend, verify."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from replay_jax.sweep.store.places import existing

if TYPE_CHECKING:
    from replay_jax.analysis.advice.recommend import Recommendation


def status(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Say of every run where it stands."""
    from replay_jax.sweep.drive.status import render_status, sweep_status

    found = sweep_status(existing(arguments.workdir))
    if arguments.json:
        print(json.dumps(found))
    else:
        Console().print(render_status(found))
    return 0


def report(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Fit the finished runs of a working directory and write its report."""
    from replay_jax.library.reporting import report_on

    report_on(existing(arguments.workdir), Console())
    return 0


def recommend(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print which replay fraction to use, how sure that is, and what to run next.

    With --json one object for a single target, and an object by target name for several; a target
    for which there is nothing to compare has the reason in words in place of its object.
    """
    from replay_jax.library.reporting import study_of
    from replay_jax.report.answer import advise

    study, _records = study_of(existing(arguments.workdir))
    advice = advise(study)
    if arguments.json:
        found = {
            target: given.to_json() if not isinstance(given, str) else {"verdict": given}
            for target, given in advice.items()
        }
        print(json.dumps(found if len(found) > 1 else next(iter(found.values()))))
    else:
        for target, given in advice.items():
            print(f"{target}: {given if isinstance(given, str) else _advice_text(given)}")
    return 0


def verify(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Recompute ledgers from the stored configurations and compare with what was counted."""
    from replay_jax.sweep.store.verify import verify as verify_workdir

    differences, checked = verify_workdir(existing(arguments.workdir))
    for line in differences:
        print(line)
    print(f"{checked} runs checked, {len(differences)} differences")
    return 1 if differences else 0


def _advice_text(given: "Recommendation") -> str:
    lines = [given.sentence, *(f"- {reason}" for reason in given.reasons)]
    for option in given.next_runs:
        first = ", ".join(f"{key} = {value}" for key, value in option.runs[0].items())
        lines.append(f"next, {option.why}: {len(option.runs)} runs, such as {first}")
    return "\n".join(lines)
