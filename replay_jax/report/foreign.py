"""The report on runs that another trainer made: what the table does not hold has no section."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from replay_jax.analysis.study.study import Study
from replay_jax.report.advice import Advice
from replay_jax.report.answer import answers, reasons, settled
from replay_jax.report.elements.blocks import (
    Answer,
    Block,
    Bullets,
    Column,
    Line,
    Page,
    Section,
    Table,
    without_generic,
)
from replay_jax.report.elements.inputs import PlanSummary
from replay_jax.report.elements.words import NONE, count, number
from replay_jax.report.page import (
    cost_blocks,
    doubts,
    each_target,
    efficiency_blocks,
    lead_figures,
    replay_blocks,
    section,
    shown_of,
)
from replay_jax.report.tables.run_tables import runs_table


def foreign_advice(advice: Advice) -> Advice:
    """Advice without what only this project's trainer could run next."""
    return {
        target: given if isinstance(given, str) else tuple(replace(g, next_runs=()) for g in given)
        for target, given in advice.items()
    }


def has_generic(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the generic loss of any run was measured."""
    return any(record["losses"]["generic"] is not None for record in records)


def foreign_page(
    records: Sequence[Mapping[str, Any]],
    study: Study,
    advice: Advice,
    *,
    name: str,
    notes: Sequence[str],
    own: bool = False,
) -> Page:
    """Return the report on a table of runs as a page; `notes` are what its reader left out.

    `own`: they are records of this project, wherever they were found.
    """
    study = settled(study, advice)
    shown = shown_of(study, advice)
    every = partial(each_target, study, shown)
    plan = PlanSummary(name, "", len(records), (), None, None, {}, {})
    about = [Bullets("About the table", tuple(notes), tone="caution")] if notes else []
    sections = [
        section("why", "Why", reasons(study, advice)),
        section("doubts", "What to doubt", [*about, *doubts(study, advice, plan)]),
        every("efficiency", "What replay is worth", efficiency_blocks),
        every(
            "replay", "How much replay", lambda s, o: replay_blocks(s, o, records if own else ())
        ),
        every("cost", "What it costs elsewhere", cost_blocks),
        section("runs", "What was run", [runs_table(records) if own else _runs_table(records)]),
    ]
    page = Page(
        title=name,
        question="",
        targets=tuple(target.target for target in study.targets),
        answers=answers(study, advice),
        lead=lead_figures(study, shown),
        sections=tuple(part for part in sections if part.blocks),
        footer=(
            f"Written by replay-jax analyse from {count(len(records), 'run')}. Losses are nats per "
            f"token on held-out text; intervals have level {100 * study.level:g} %."
        ),
    )
    return page if has_generic(records) else _without_generic(page)


def _without_generic(page: Page) -> Page:
    sections = (
        Section(part.anchor, part.title, tuple(map(_block, part.blocks)))
        for part in page.sections
        if part.anchor != "cost"
    )
    return replace(page, answers=tuple(map(_answer, page.answers)), sections=tuple(sections))


def _block(block: Block) -> Block:
    return without_generic(block) if isinstance(block, Table) else block


def _answer(answer: Answer) -> Answer:
    tiles = tuple(tile for tile in answer.tiles if not tile.generic)
    groups = None if answer.groups is None else without_generic(answer.groups)
    return replace(answer, tiles=tiles, groups=groups)


def _runs_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Every run as it was read, losses in nats per token."""
    own = list(dict.fromkeys(key for record in records for key in record["overrides"]))
    titles = ("run", "target tokens", "ρ", "α", "epochs", "seed", *own, "target loss",
              "generic loss")  # fmt: skip
    return Table(
        title=f"All {count(len(records), 'run')}",
        columns=tuple(
            Column(title, "left" if title == "run" else "right", generic=title == titles[-1])
            for title in titles
        ),
        rows=tuple(
            Line(
                (
                    record["name"],
                    f"{record['target_tokens']:,}",
                    f"{record['replay_fraction']['requested']:g}",
                    f"{record['allocation']['requested']:g}",
                    f"{record['target_epochs']:g}",
                    str(record["seed"]),
                    *(NONE if (v := record["overrides"][key]) is None else f"{v}" for key in own),
                    number(record["losses"]["target"], ".4f"),
                    number(record["losses"]["generic"], ".4f"),
                )
            )
            for record in records
        ),
        words="Losses in nats per token.",
        folded=True,
    )
