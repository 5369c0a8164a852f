"""The command `analyse`: anybody's runs in, the answer and a report out; no JAX."""

import argparse
import csv
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from replay_jax.errors import UserError
from replay_jax.library.analysing.places import Analysed, Spoken, analyse_place, analyse_wandb
from replay_jax.report.advice import Advice, advise, beside_loss, by_target
from replay_jax.report.drawing import draw_figures
from replay_jax.report.foreign import foreign_advice, foreign_page, has_generic
from replay_jax.report.html import render_page, write_pictures, write_whole
from replay_jax.report.naming import unnamed
from replay_jax.report.terminal import terminal_table
from replay_jax.strict import literal
from replay_jax.sweep.plan.naming import PRESET_NAMES


def analyse(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print the answer (or its JSON) and write a report into a folder beside the runs."""
    found = _analysed(arguments)
    advice: Advice = advise(
        found.study, complete=not found.own, second_opinion=arguments.second_opinion
    )
    if not found.own:
        advice = foreign_advice(advice)
    _write_report(found, advice)
    if arguments.json:
        print(json.dumps(_plain(found, advice)))
        return 0
    console = Console(markup=False, emoji=False)
    console.print(
        terminal_table(found.study, advice, found.records, generic=has_generic(found.records))
    )
    for note in found.notes:
        console.print(f"note: {note}", highlight=False)
    console.print(f"report:  {found.folder / 'report.html'}", highlight=False, soft_wrap=True)
    return 0


def _analysed(arguments: argparse.Namespace) -> Analysed:
    spoken = Spoken(
        reference=_pairs("reference", arguments.reference),
        tuned=_list(arguments.tuned),
        axes=_list(arguments.axes),
        ignore=_list(arguments.ignore),
        columns=_pairs("column", arguments.column, plain=str),
        level=arguments.level,
    )
    if (arguments.runs is None) == (arguments.wandb is None):
        raise UserError("give one place of runs: a file, a TensorBoard folder, or --wandb")
    if arguments.wandb is not None:
        return analyse_wandb(arguments.wandb, spoken)
    return analyse_place(arguments.runs, spoken)


def _plain(found: Analysed, advice: Advice) -> dict[str, Any]:
    return by_target(
        advice,
        value_of=lambda said: unnamed(said, found.plain, PRESET_NAMES),
        beside=beside_loss(found.study, found.records),
    )


def _write_report(found: Analysed, advice: Advice) -> None:
    page = foreign_page(
        found.records,
        found.study,
        advice,
        name=found.name,
        notes=found.notes,
        own=found.own,
    )
    try:
        drawings = draw_figures(page.figures())
        write_pictures(drawings, found.folder / "figures")
        write_whole(found.folder / "report.html", render_page(page, drawings).encode())
    except OSError as error:
        raise UserError(
            f"the report cannot be written into {found.folder}: {error.strerror}"
        ) from error


def _pairs(option: str, given: Sequence[str] | None, plain: Any = literal) -> dict[str, Any] | None:
    """`column=value` words as a mapping; None for none."""
    if not given:
        return None
    found: dict[str, Any] = {}
    for word in given:
        column, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--{option}={word} is not of the form column=value")
        found[column] = plain(value)
    return found


def _list(words: str) -> tuple[str, ...]:
    """Names between commas; one that has a comma itself stands in quotes."""
    names = next(csv.reader([words], skipinitialspace=True), [])
    return tuple(name for name in names if name.strip())
