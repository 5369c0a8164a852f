"""Columns of a losses table that say what the training of each schedule cost, and gave for it."""

from collections.abc import Callable, Sequence

from replay_jax.analysis.study.spent import amount, spent
from replay_jax.analysis.study.study import CellResult
from replay_jax.report.elements.blocks import Column
from replay_jax.report.elements.words import NONE, signed

# A column, what it says of a cell, and whether there is anything to say.
Shown = tuple[Column, Callable[[CellResult], str], bool]


def training_columns(baseline: CellResult | None, cells: Sequence[CellResult]) -> tuple[Shown, ...]:
    """Training of one run over the baseline's, and the gain for what it was more.

    Both are left out where all were trained alike, and where records do not say.
    """
    compared = {} if baseline is None else {
        id(cell): found
        for cell in cells
        if (found := spent(cell.chosen, baseline.chosen)) is not None
    }  # fmt: skip
    extras = {found.extra: found for found in compared.values()}
    if not any(extras):
        return ()
    most = extras[max(extras)]

    def ratio(cell: CellResult) -> str:
        return f"{compared[id(cell)].ratio:.2f}×" if id(cell) in compared else NONE

    def gained(cell: CellResult) -> str:
        if id(cell) not in compared or compared[id(cell)].extra <= 0 or cell.gain is None:
            return NONE
        return signed(cell.gain.times(most.step / compared[id(cell)].extra))

    paid = most.extra > 0
    title = f"gain per {amount(most.step)} {most.unit} more" if paid else ""
    return (
        (Column(f"{most.unit} of training", "right", drop=8), ratio, True),
        (Column(title, "right", drop=9), gained, paid),
    )
