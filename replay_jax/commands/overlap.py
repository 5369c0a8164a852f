"""`overlap`: how much of what runs are judged by is in the rows that they train on."""

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import load_recipe, parse_overrides
from replay_jax.data.judging.overlap import (
    Judged,
    Overlap,
    held_out_rows,
    right_answers,
    window_tokens,
)
from replay_jax.data.judging.overlap import (
    overlap as look,
)
from replay_jax.data.judging.tasks import load_task, task_rows
from replay_jax.data.reading.views import SourceView, view_rows
from replay_jax.errors import UserError
from replay_jax.library.preparing import Prepared, preparation_shown, prepare_all
from replay_jax.sweep.plan.plan import Plan, plan_sweep
from replay_jax.sweep.plan.work import Done

# Of the longest passage, as an example.
_SHOWN_CHARACTERS = 160
# Columns of the table that hold no numbers.
_WORDS = ("judged", "trained on")


@dataclasses.dataclass(frozen=True)
class _Found:
    """An overlap and the text of its longest passage."""

    overlap: Overlap
    example: str

    def to_json(self) -> dict[str, object]:
        plain = dataclasses.asdict(self.overlap)
        return {**plain, "share": self.overlap.share, "longest_text": self.example}


def overlap(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Compare every held-out set and task of a config with the rows that its runs train on."""
    if arguments.bytes < 1:
        raise UserError(f"--bytes={arguments.bytes} must be at least 1; 50 is usual")
    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    experiments = experiments_of(recipe)
    # Only the result goes to the output with --json.
    console = Console(stderr=arguments.json, markup=False, emoji=False)
    with preparation_shown(console) as progress:
        prepared = prepare_all(configs_of(experiments), progress)
    plan = plan_sweep(experiments, found=prepared, done=Done())
    found = list(_compare(plan, prepared, arguments.bytes))
    if arguments.json:
        print(json.dumps([each.to_json() for each in found]))
    else:
        console.print(_table(found, arguments.bytes), *_examples(found), sep="\n")
    return 0


def _compare(plan: Plan, prepared: Prepared, text_bytes: int) -> Iterator[_Found]:
    drawn = _drawn_rows(plan)
    config = plan.runs[0].config
    tokenizer = prepared.stores[config.data.target].tokenizer
    for judged in _judged(config, prepared, list(drawn)):
        for name, numbers in drawn.items():
            store = prepared.stores[name]
            rows = store.rows("train", config.training.seq_len)
            result = look(judged, rows, numbers, window=window_tokens(store, text_bytes))
            start, row = result.longest_start, result.longest_row
            passage = judged.tokens[row, start : start + result.longest].tolist()
            yield _Found(result, tokenizer.decode(passage))


def _drawn_rows(plan: Plan) -> dict[str, np.ndarray]:
    """By source, the rows that any run of a plan trains on, each once."""
    views: dict[str, dict[bytes, tuple[SourceView, int]]] = {}
    for run in plan.runs:
        for name, view in run.views.items():
            count = min(run.schedule.sequences(name), view.rows or 0)
            known = views.setdefault(name, {}).get(view.digest())
            if known is None or known[1] < count:
                views[name][view.digest()] = view, count
    # A view's first rows are all different: it begins to repeat when it has given all.
    return {
        name: np.unique(np.concatenate([view_rows(v, np.arange(n)) for v, n in own.values()]))
        for name, own in views.items()
    }


def _judged(config: ExperimentConfig, prepared: Prepared, names: Sequence[str]) -> Iterator[Judged]:
    for name in names:
        yield held_out_rows(
            prepared.stores[name],
            seq_len=config.training.seq_len,
            sequences=config.evaluation.sequences,
        )
    tokenizer = prepared.stores[names[0]].tokenizer
    mask = config.training.document_mask
    for name, task in prepared.tasks.items():
        yield right_answers(name, task_rows(load_task(task), tokenizer, document_mask=mask))


def _table(found: Sequence[_Found], text_bytes: int) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title="Judged text that stands word for word in rows that are trained on",
        caption=f"Passages of about {text_bytes} bytes or more, in rows that any run of the sweep "
        "trains on. Covered: share of the judged tokens. Copies: judged rows of which more than "
        "half is covered.",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("judged", "trained on", "rows", "window", "covered", "copies"):
        table.add_column(
            column,
            justify="left" if column in ("judged", "trained on") else "right",
            overflow="fold",
        )
    for each in found:
        result = each.overlap
        table.add_row(
            result.judged,
            result.training,
            f"{result.training_rows:,}",
            f"{result.window} tokens",
            f"{100 * result.share:.1f} %",
            f"{result.rows_mostly_covered:,} of {result.rows:,}",
        )
    return table


def _examples(found: Sequence[_Found]) -> Iterator[Text]:
    """The longest passage of every pair that has one."""
    for each in found:
        result = each.overlap
        if result.longest:
            text = " ".join(each.example.split())
            shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
            words = f"longest of {result.judged} in {result.training}, {result.longest} tokens: "
            yield Text(words, style="bold") + Text(shown, style="not bold")
