"""Commands about a working directory: status, report, recommend, verify."""

import argparse
import json
from collections.abc import Sequence
from functools import partial
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
        Console(markup=False, emoji=False).print(render_status(found))
    return 0


def report(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Fit all finished runs of working directories and write a report into the first."""
    from replay_jax.library.reporting import report_on

    workdirs = [existing(workdir) for workdir in arguments.workdirs]
    report_on(
        workdirs,
        Console(markup=False, emoji=False),
        second_opinion=arguments.second_opinion,
        early_stopping=arguments.early_stopping,
    )
    return 0


def recommend(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print which replay fraction to use, how sure that is, and what to run next.

    With --json one object for a single target, and an object by target name for several: that of
    the group to act on, with those of all others (budget, protocol, further axes) under `others`.
    A target for which there is nothing to compare has the reason in words as its verdict.
    """
    from replay_jax.library.gathering import gather
    from replay_jax.library.naming import first_run
    from replay_jax.report.advice import advise, beside_loss, by_target
    from replay_jax.report.naming import unnamed
    from replay_jax.sweep.plan.naming import PRESET_NAMES

    workdirs = [existing(workdir) for workdir in arguments.workdirs]
    gathered = gather(workdirs, early_stopping=arguments.early_stopping)
    advice = advise(gathered.study, second_opinion=arguments.second_opinion)
    if arguments.json:
        found = by_target(
            advice,
            value_of=lambda said: unnamed(said, [*gathered.plain, *gathered.tried], PRESET_NAMES),
            beside=beside_loss(gathered.study, gathered.records),
        )
        print(json.dumps(found))
    else:
        console = Console(markup=False, emoji=False)
        # Between words on a screen; lines in a pipe are as long as what they say.
        say = partial(
            console.print, highlight=False, markup=False, soft_wrap=not console.is_terminal
        )
        for target, given in advice.items():
            if isinstance(given, str):
                say(given)
                continue
            say(f"{target}: {_advice_text(given)}")
            if len(arguments.workdirs) == 1:
                id = first_run(gathered.study.target(target), given[0].overrides)
                say(f"the first seed of what is recommended is run {id}: replay-jax export "
                    f"{arguments.workdirs[0]} {id} FOLDER")  # fmt: skip
            for line in _next_lines(given[0]):
                say(line)
        for line in gathered.sources if len(gathered.sources) > 1 else ():
            say(f"from {line}")
    return 0


def verify(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Recompute ledgers and records from what is stored and compare; with --data the text too."""
    from replay_jax.sweep.results.verify import mixed_environments
    from replay_jax.sweep.results.verify import verify as verify_workdir

    workdir = existing(arguments.workdir)
    differences, checked = verify_workdir(workdir)
    for line in (*mixed_environments(workdir), *differences):
        print(line)
    print(f"{checked} runs checked, {len(differences)} differences")
    return 1 if _verify_data(arguments) + len(differences) else 0


def _verify_data(arguments: argparse.Namespace) -> int:
    """Compare the text of all runs, where that is asked for; returns the number of differences."""
    if not arguments.data:
        return 0
    from replay_jax.sweep.results.verify_data import verify_data

    found = verify_data(existing(arguments.workdir))
    for line in found.differences:
        print(line)
    left = f" ({found.uncounted} trained without checksums of tokens)" if found.uncounted else ""
    print(
        f"{len(found.stores)} stores and the tokens of {found.spans - found.uncounted} spans "
        f"checked{left}, {len(found.differences)} differences"
    )
    return len(found.differences)


def _advice_text(given: "Sequence[Recommendation]") -> str:
    lines = []
    for found in given:
        lines += [found.sentence, *(f"- {reason}" for reason in found.reasons)]
    return "\n".join(lines)


def _next_lines(found: "Recommendation") -> list[str]:
    lines = []
    for option in found.next_runs:
        first = ", ".join(f"{key} = {value}" for key, value in option.runs[0].items())
        lines.append(f"next, {option.why}: {len(option.runs)} runs, such as {first}")
    return lines
