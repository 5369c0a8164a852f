"""The report as a page of blocks: the answer first, then the evidence, then how it was made."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from replay_jax.analysis.advice.along import axes_of
from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.study.selection import Records, group_words
from replay_jax.analysis.study.study import Study, TargetStudy
from replay_jax.report.advice import Advice
from replay_jax.report.answer import answers, next_runs, reasons, settled
from replay_jax.report.elements.blocks import Block, Bullets, Code, Figure, Note, Page, Section
from replay_jax.report.elements.inputs import PlanSummary, TimeRow
from replay_jax.report.elements.picks import Picks, picks
from replay_jax.report.elements.words import count
from replay_jax.report.figures.along_figures import along_figures
from replay_jax.report.figures.loss_figures import loss_figures
from replay_jax.report.figures.replay_figures import replay_figures
from replay_jax.report.figures.run_figures import boundary_figures, pareto_figures, training_figures
from replay_jax.report.figures.study_figures import heatmap_figures, quadratic_figure
from replay_jax.report.figures.worth_figure import efficiency_figure
from replay_jax.report.published.figure import published_figures
from replay_jax.report.published.table import published_table
from replay_jax.report.published.values import best_cells, choices
from replay_jax.report.tables.along_tables import along_tables
from replay_jax.report.tables.boundary_tables import boundary_table
from replay_jax.report.tables.run_tables import (
    configuration,
    generic_sources_table,
    ledger_tables,
    model_note,
    runs_table,
    settings_table,
    time_table,
    versions_table,
)
from replay_jax.report.tables.study_tables import (
    controls_table,
    laws_table,
    losses_tables,
    minima_table,
    reference_table,
)
from replay_jax.report.tables.task_tables import task_tables

Blocks = Iterable[Block | None]


def build_page(
    records: Sequence[Mapping[str, Any]],
    study: Study,
    advice: Advice,
    *,
    plan_summary: PlanSummary,
    time_rows: Sequence[TimeRow],
    rerun_command: str,
) -> Page:
    """Return everything that the report shows; sections without content are left out."""
    by_id: Records = {record["id"]: record for record in records}
    study = settled(study, advice)
    shown = shown_of(study, advice)
    every = partial(each_target, study, shown)
    sections = [
        section("why", "Why", reasons(study, advice)),
        section("next", "What to run next", next_runs(study, advice)),
        section("doubts", "What to doubt", doubts(study, advice, plan_summary)),
        every("efficiency", "What replay is worth", efficiency_blocks),
        section("published", "Beside the paper", _published(study, records)),
        every("replay", "How much replay", lambda s, own: replay_blocks(s, own, records)),
        section("along", "What the gain depends on", [*along_figures(study), *along_tables(study)]),
        section("alone", "What tuning gives without a stage that replays", _alone(study, records)),
        every("tasks", "On tasks", lambda s, _: task_tables(s, records)),
        every("cost", "What it costs elsewhere", cost_blocks),
        every("boundary", "At the stage boundary", lambda s, own: _boundary(s, own, by_id)),
        every("training", "Along the runs", lambda s, own: training_figures(s, own, by_id)),
        section("runs", "What was run", _runs(records, study, shown, by_id, plan_summary)),
        section("time", "Where the time went", _time(time_rows, plan_summary)),
        section("again", "How to run it again", _again(records, plan_summary, rerun_command)),
    ]
    return Page(
        title=plan_summary.name,
        question=plan_summary.question,
        targets=tuple(target.target for target in study.targets),
        answers=answers(study, advice),
        lead=lead_figures(study, shown),
        sections=tuple(part for part in sections if part.blocks),
        footer=(
            f"Written by replay-jax from {count(len(records), 'finished run')}. Losses are nats "
            f"per token on held-out text; intervals have level {100 * study.level:g} %. The "
            "figures are also in the folder figures beside this file, as PNG and SVG."
        ),
    )


def _published(study: Study, records: Sequence[Mapping[str, Any]]) -> Blocks:
    tables = (published_table(target, records) for target in study.targets)
    return [*published_figures(study, records), *tables]


def _alone(study: Study, records: Sequence[Mapping[str, Any]]) -> Blocks:
    """Axes along which nothing shows a gain, because nothing there replays."""
    gains = {axis.key for axis in axes_of(study)}
    chosen = choices(records)
    return [each for target in study.targets for each in loss_figures(target, gains, chosen)]


def section(anchor: str, title: str, blocks: Blocks) -> Section:
    """A section of the blocks that there are."""
    return Section(anchor, title, tuple(block for block in blocks if block is not None))


def each_target(
    study: Study,
    shown: Mapping[str, Picks],
    anchor: str,
    title: str,
    make: Callable[[TargetStudy, Picks], Blocks],
) -> Section:
    """A section of what `make` gives for every target and what is shown of its answers."""
    blocks = [block for target in study.targets for block in make(target, shown[target.target])]
    return section(anchor, title, blocks)


def shown_of(study: Study, advice: Advice) -> dict[str, Picks]:
    """For every target what figures and tables show of its answers."""
    return {target.target: picks(target, advice[target.target]) for target in study.targets}


def lead_figures(study: Study, shown: Mapping[str, Picks]) -> tuple[Figure, ...]:
    """The figure beside each answer: what replay is worth, or without a law how losses lie."""
    leads = []
    for target in study.targets:
        own = shown[target.target]
        figures = [efficiency_figure(target, own), *replay_figures(target, own)[:1]]
        if target.curve is None:
            figures.reverse()
        leads += [figure for figure in figures if figure is not None][:1]
    return tuple(leads)


def doubts(study: Study, advice: Advice, plan: PlanSummary) -> Blocks:
    """Everything that weakens the answer, in words; nothing is hidden in a footnote."""
    blocks: list[Block] = []
    if plan.missing_runs:
        found = f"{len(plan.missing_runs)} of {plan.planned_runs}"
        title = f"{found} planned runs have no result"
        blocks.append(Bullets(title, plan.missing_runs, tone="caution"))
    for target in study.targets:
        lines = [*target.notes]
        if target.curve is None:
            lines.insert(0, f"No reference law, so no multiplier: {target.curve_problem}.")
        lines += _edges(target)
        lines += _beyond(target, advice[target.target])
        lines += _absent(target, "missing" if plan.missing_runs else "not among the planned runs")
        if lines:
            blocks.append(Bullets("", tuple(lines), target.target))
    return blocks


def _edges(study: TargetStudy) -> list[str]:
    """Tuned values at the end of their grid, the same words said once with how often they hold."""
    places: dict[str, list[str]] = {}
    for cell in study.cells:
        for edge in cell.at_edge:
            places.setdefault(edge.words, []).append(cell.label)
    return _once(places, "group", f" of {len(study.cells)}")


def _beyond(study: TargetStudy, found: Sequence[Recommendation] | str) -> list[str]:
    """Where the best replay fraction is the last one compared, in the words of the advice."""
    places: dict[str, list[str]] = {}
    for each in () if isinstance(found, str) else found:
        for caution in each.cautions:
            if caution.kind in ("largest", "dropped"):
                place = group_words(study, study.cells[each.best].key)
                places.setdefault(caution.words, []).append(place)
    return _once(places, "answer", f" of {len(found)}")


def _absent(study: TargetStudy, absent: str) -> list[str]:
    """Runs that others lead one to expect, by what they lack."""
    places: dict[str, list[str]] = {}
    for words in study.missing:
        place, _, lacking = words.rpartition(": ")
        places.setdefault(f"{absent}: {lacking}", []).append(place)
    return _once(places, "group")


def _once(places: Mapping[str, Sequence[str]], noun: str, of: str = "") -> list[str]:
    """The same words said once, with how often they hold and the first place where they do."""
    return [
        f"{words} (in {count(len(own), noun)}{of}, e.g. {own[0]})" for words, own in places.items()
    ]


def efficiency_blocks(study: TargetStudy, shown: Picks) -> Blocks:
    """What replay is worth, and the reference it is worth it by."""
    if study.curve is None:
        words = f"No reference law could be fitted: {study.curve_problem}."
        yield Note(words, study.target, "caution")
        if replay_figures(study, shown):
            yield efficiency_figure(study, shown)
    yield from losses_tables(study)
    yield reference_table(study)
    yield laws_table(study)


def replay_blocks(study: TargetStudy, shown: Picks, records: Sequence[Mapping[str, Any]]) -> Blocks:
    """How losses lie over replay fractions and allocations."""
    if study.curve is not None:
        yield from replay_figures(study, shown)[:1]
    yield from heatmap_figures(study, shown, best_cells(records, study.target))
    yield quadratic_figure(study)
    yield minima_table(study)
    yield controls_table(study, shown)


def cost_blocks(study: TargetStudy, shown: Picks) -> Blocks:
    """What the target gains against what generic data loses."""
    yield from pareto_figures(study)
    yield from replay_figures(study, shown)[1:]


def _boundary(study: TargetStudy, shown: Picks, records: Records) -> Blocks:
    yield from boundary_figures(study, shown, records)
    yield boundary_table(study)


def _runs(
    records: Sequence[Mapping[str, Any]],
    study: Study,
    shown: Mapping[str, Picks],
    by_id: Records,
    plan: PlanSummary,
) -> Blocks:
    words = f"{len(records)} of {plan.planned_runs} planned runs are finished."
    if plan.steps_alone and plan.steps_planned:
        saved = 1 - plan.steps_planned / plan.steps_alone
        words += (
            f" Trained one by one they take {plan.steps_alone:,} steps; with what they share "
            f"trained once, {plan.steps_planned:,} ({100 * saved:.0f} % less)."
        )
    yield Note(words)
    yield model_note(records)
    yield settings_table(records)
    for target in study.targets:
        yield from ledger_tables(target, shown[target.target], by_id)
    yield runs_table(records)
    if (sources := generic_sources_table(records)) is not None:
        yield sources


def _time(rows: Sequence[TimeRow], plan: PlanSummary) -> Blocks:
    if rows:
        yield time_table(rows)


def _again(records: Sequence[Mapping[str, Any]], plan: PlanSummary, rerun_command: str) -> Blocks:
    yield Note("Finished runs are skipped, so this also continues a sweep that was interrupted.")
    yield Code(rerun_command)
    yield versions_table(records, plan)
    yield from configuration(records)
