"""Tables of what a study found: losses, the reference law, minima, controls, boundaries."""

from collections.abc import Sequence
from dataclasses import replace

from replay_jax.analysis.advice.cautions import other_rate
from replay_jax.analysis.runs.records import fraction_words
from replay_jax.analysis.statistics.efficiency import LAW_TITLES
from replay_jax.analysis.study.selection import (
    group_words,
    loss_of,
    recipe_words,
    shown_fits,
)
from replay_jax.analysis.study.study import CellResult, TargetStudy, replays
from replay_jax.report.elements.blocks import Column, Line, Table
from replay_jax.report.elements.lines import (
    against_baselines,
    compared_with_nothing,
    protocol_words,
)
from replay_jax.report.elements.picks import Picks
from replay_jax.report.elements.words import NONE, between, number, share, signed, times
from replay_jax.report.tables.training_columns import training_columns

RIGHT = "right"
# So many losses tables stand open in the page; the rest are folded.
_OPEN_TABLES = 4
# Its interval is the answer's (`answer.settled`).
_FREED = ", but that of the best schedule that replays, which is freed of it as in the answer"


def losses_tables(study: TargetStudy) -> tuple[Table, ...]:
    """A table for every baseline: its losses, and those of what is compared with it.

    A last one holds what can be compared with nothing.
    """
    groups = against_baselines(study)
    tables = [_losses_table(study, baseline, (baseline, *cells)) for baseline, cells in groups]
    alone = compared_with_nothing(study)
    if alone:
        tables.append(_losses_table(study, None, alone))
    return tuple(
        replace(table, folded=number >= _OPEN_TABLES) for number, table in enumerate(tables)
    )


def _losses_table(
    study: TargetStudy, baseline: CellResult | None, cells: Sequence[CellResult]
) -> Table:
    best = min(cells, key=loss_of)
    mixed = len({cell.key.protocol for cell in cells}) > 1
    budgets = len({cell.key.target_tokens for cell in cells}) > 1
    more = any(_tuned_words(cell) for cell in cells)
    title = "Held-out losses of runs that can be compared with nothing"
    against = ""
    law = baseline is not None and study.curve is not None
    if baseline is not None:
        title = f"Held-out losses at {group_words(study, baseline.key)}"
        recipe = f"{recipe_words(baseline)}, {baseline.chosen.target_epochs:g} epochs"
        against = f" Baseline: {recipe}."
    if law:
        freed = _FREED if any(map(replays, cells)) else ""
        against = (
            f" Worth: how many times the target data, against this table's baseline, {recipe}, as "
            f"measured, with the luck of the pick{freed}; † rests on the law outside the measured "
            "budgets."
        )
    columns = [
        (Column("schedule", drop=7), lambda c: protocol_words(c.key), mixed),
        (Column("target tokens", RIGHT), lambda c: f"{c.key.target_tokens:,}", budgets),
        (Column("ρ", RIGHT), _replay_words, True),
        (Column("α", RIGHT, drop=5), lambda c: f"{c.key.allocation:g}", True),
        (Column("epochs", RIGHT, drop=4), lambda c: f"{c.chosen.target_epochs:g}", True),
        (Column("target loss", RIGHT), lambda c: between(c.target_loss, ".3f"), True),
        (
            Column("generic loss", RIGHT, drop=2, generic=True),
            lambda c: between(c.generic_loss, ".3f"),
            True,
        ),
        (Column("worth", RIGHT), _worth, law),
        *training_columns(baseline, cells),
        (Column("seeds", RIGHT, drop=6), lambda c: str(len(c.chosen.run_ids)), True),
        (Column("also", "left wrap", drop=3), _tuned_words, more),
    ]
    shown = [(column, words) for column, words, there in columns if there]
    return Table(
        title=title,
        columns=tuple(column for column, _ in shown),
        rows=tuple(
            Line(tuple(words(cell) for _, words in shown), strong=cell is best) for cell in cells
        ),
        words=f"Nats per token, with {_level(study)} intervals, at the best setting."
        f"{_bits_words(study)}{against} Bold: the lowest target loss.",
        target=study.target,
    )


def _bits_words(study: TargetStudy) -> str:
    if study.bits_per_nat is None:
        return ""
    return (
        f" One nat per token of held-out {study.target} is {study.bits_per_nat:.3f} bits per byte."
    )


def _replay_words(cell: CellResult) -> str:
    return "mixed" if cell.key.protocol == "uniform" else fraction_words(cell.key.replay_fraction)


def _worth(cell: CellResult) -> str:
    return "baseline" if cell.is_baseline else times(cell.multiplier)


def _tuned_words(cell: CellResult) -> str:
    """Tuned values other than epochs in words; empty if there are none."""
    return ", ".join(
        f"{name.split('.')[-1].replace('_', ' ')} {value:g}"
        if isinstance(value, float)
        else f"{name.split('.')[-1].replace('_', ' ')} {value}"
        for name, value in cell.chosen.tuned
        if not name.endswith("target_epochs")
    )


def reference_table(study: TargetStudy) -> Table | None:
    """The reference curve: what was measured at every budget, and what the law says there.

    None without runs of it, or with one budget and so no curve.
    """
    cells = study.reference_cells
    if not cells or (study.curve is None and len(cells) == 1):
        return None
    recipes = {recipe_words(cell) for cell in cells}
    said = f" Recipe: {recipes.pop()}." if len(recipes) == 1 else ""
    laws: list[float | bool | None] = [None] * len(cells)
    if study.curve is not None:
        laws = [row["loss"] for row in study.band([float(c.key.target_tokens) for c in cells])]
    return Table(
        title="Reference curve",
        columns=(
            Column("target tokens", RIGHT),
            Column("target loss", RIGHT),
            Column("law", RIGHT),
            Column("epochs", RIGHT, drop=2),
            Column("seeds", RIGHT, drop=3),
            *(() if said else (Column("recipe", drop=1),)),
        ),
        rows=tuple(
            Line(
                (
                    f"{cell.key.target_tokens:,}",
                    between(cell.target_loss, ".3f"),
                    number(law, ".3f"),
                    f"{cell.chosen.target_epochs:g}",
                    str(len(cell.chosen.run_ids)),
                    *(() if said else (recipe_words(cell),)),
                )
            )
            for cell, law in zip(cells, laws, strict=True)
        ),
        words=f"Nats per token with their {_level(study)} interval.{said}",
        target=study.target,
    )


def laws_table(study: TargetStudy) -> Table | None:
    """Every law that was tried on the reference curve, and how it was judged."""
    curve = study.curve
    if curve is None:
        return None
    shares = curve.name_shares
    return Table(
        title="Laws tried on the reference curve",
        columns=(
            Column("law"),
            Column("residual", RIGHT),
            Column("leave-one-out error", RIGHT),
            Column("AICc", RIGHT),
            Column("chosen in resamples", RIGHT),
        ),
        rows=tuple(
            Line(
                (
                    LAW_TITLES[score.name],
                    number(score.residual, ".4f"),
                    number(score.leave_one_out, ".4f"),
                    number(score.aicc, ".1f"),
                    share(shares[score.name]) if score.name in shares else NONE,
                ),
                strong=score.name == curve.name,
            )
            for score in curve.scores
        ),
        words=(
            "Errors in nats per token. The law in bold has the least leave-one-out error; the "
            "choice is made anew in every resample, so doubt about the law is in every interval. "
            f"Its coefficients: {curve.why}."
        ),
        target=study.target,
        folded=True,
    )


def minima_table(study: TargetStudy) -> Table | None:
    """The minimum of the quadratic fit in −ln(1 − ρ), for every shown row."""
    fits = shown_fits(study)
    if not fits:
        return None
    return Table(
        title="Minimum of the quadratic fit",
        columns=(Column("target tokens"), Column("best ρ", RIGHT), Column("remark", "left wrap")),
        rows=tuple(
            Line((label, between(fit.minimum, ".2f"), fit.note or NONE))
            for label, fit in fits.items()
        ),
        words=f"With {_level(study)} intervals.",
        target=study.target,
    )


def controls_table(study: TargetStudy, shown: Picks) -> Table | None:
    """Schedules against the constant mixture of their budget; None if there is none."""
    best = {id(pick.best) for pick in shown.values()}
    rows = []
    for control in study.controls:
        cell = study.cells[control.cell]
        cells = (
            f"{cell.key.target_tokens:,}",
            fraction_words(cell.key.replay_fraction),
            f"{cell.key.allocation:g}",
            f"{control.target_epochs:g}",
            signed(control.difference),
        )
        rows.append(Line(cells, strong=id(cell) in best))
    if not rows:
        return None
    rates = {other_rate(study, each.cell, each.constant) for each in study.controls} - {""}
    return Table(
        title="Against a constant mixture, each at its best setting",
        columns=(
            Column("target tokens", RIGHT),
            Column("ρ", RIGHT),
            Column("α", RIGHT),
            Column("epochs", RIGHT),
            Column("difference in target loss", RIGHT),
        ),
        rows=tuple(rows),
        words=(
            f"Nats per token as measured, luck of the pick and all, with {_level(study)} "
            "intervals: schedule less constant mixture. Below zero: two stages helped. Epochs: "
            "those of the constant mixture."
            + " Bold: the schedule of the answer." * any(row.strong for row in rows)
            + f" The mixture had another learning rate over the steps: {'; '.join(sorted(rates))}."
            * bool(rates)
        ),
        target=study.target,
        folded=len(rows) > 8,
    )


def _level(study: TargetStudy) -> str:
    return f"{100 * study.level:g} %"
