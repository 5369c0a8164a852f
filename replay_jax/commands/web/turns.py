"""The commands `turns` and `score`: web records to training text, predictions to scores."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields

from rich import box
from rich.console import Console
from rich.table import Table

from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.data.web.budgets import Budgets
from replay_jax.data.web.predictions import read_predictions
from replay_jax.data.web.reading import read_turns
from replay_jax.errors import UserError
from replay_jax.library.web.converting import convert
from replay_jax.library.web.scoring import WebScores
from replay_jax.library.web.scoring import score as score_turns


def turns(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Write the conversations of records and say how long they are."""
    budgets = Budgets(**{field.name: getattr(arguments, field.name) for field in fields(Budgets)})
    made = convert(arguments.records, arguments.out, tokenizer=arguments.tokenizer, budgets=budgets)
    lacking = f"; {made.without_element:,} steps have no right element" * bool(made.without_element)
    print(
        f"{arguments.out}: {made.turns:,} turns, {made.prompt_tokens:,} tokens of prompts and "
        f"{made.action_tokens:,} of actions, at most {made.longest:,} a turn before the chat "
        f"template{lacking}"
    )
    return 0


def score(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print the scores of predictions by split, and their changes against others."""
    if not 0 < arguments.level < 1:
        raise UserError(f"--level={arguments.level} must lie between 0 and 1; 0.9 is usual")
    records = read_turns(arguments.records)
    against = arguments.against
    found = score_turns(
        read_predictions(arguments.predictions, records),
        records,
        against=None if against is None else read_predictions(against, records),
        level=arguments.level,
    )
    if arguments.json:
        print(json.dumps(found.to_json()))
        return 0
    console = Console(markup=False, emoji=False)
    for name, part in found.parts.items():
        changes = found.changes[name] if name in found.changes else {}
        title = f"{name}: {part.turns:,} turns of {part.demos:,} demonstrations or tasks"
        console.print(_table(title, part.scores, changes))
    for words in _notes(found):
        console.print(words)
    return 0


def _table(title: str, scores: Mapping[str, Interval], changes: Mapping[str, Interval]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("score, of 100")
    table.add_column("value", justify="right")
    if changes:
        table.add_column("change", justify="right")
    for name, value in scores.items():
        change = [_words(changes[name], "+")] if changes else []
        table.add_row(name.replace("_", " "), _words(value, ""), *change)
    return table


def _words(value: Interval, sign: str) -> str:
    if value.value is None:
        return value.note
    if value.low is None or value.high is None:
        return f"{100 * value.value:{sign}.2f} ({value.note})"
    ends = f"{100 * value.low:{sign}.2f} to {100 * value.high:{sign}.2f}"
    return f"{100 * value.value:{sign}.2f} ({ends})"


def _notes(found: WebScores) -> list[str]:
    """What a reader must know beside the numbers."""
    said = (
        (found.unread, "predictions have no action that can be read"),
        (found.left_out, "turns are left out, as the benchmark leaves them out"),
        (
            found.judged_by_uid,
            "turns have no box of their right element: only that very element scores",
        ),
        (
            found.numbers,
            "turns have a number for their text, which the benchmark's reader scores 0",
        ),
    )
    notes = [f"{count:,} {words}" for count, words in said if count]
    if found.seeds == 1:
        notes.append("one seed: intervals know the demonstrations' chance, not the training's")
    return notes
