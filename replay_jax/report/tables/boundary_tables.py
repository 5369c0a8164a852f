"""What happened at the stage boundary, and how far runs over-fitted, as a table."""

from collections.abc import Callable

from replay_jax.analysis.runs.records import fraction_words
from replay_jax.analysis.study.selection import rows_of_replay, schedules
from replay_jax.analysis.study.study import CellResult, TargetStudy
from replay_jax.report.elements.blocks import Column, Line, Table
from replay_jax.report.elements.lines import axes_words, protocol_words
from replay_jax.report.elements.words import number

RIGHT = "right"


def boundary_table(study: TargetStudy) -> Table | None:
    """What happened at the stage boundary and how far training loss fell below held-out loss.

    For every budget, protocol and further axis each replay fraction at its best allocation.
    """
    cells = [
        cell
        for cells in rows_of_replay(study).values()
        for cell in cells
        if cell.boundary.step is not None or cell.boundary.gap is not None
    ]
    if not cells:
        return None
    keys = [cell.key for cell in cells]
    columns: list[tuple[Column, Callable[[CellResult], str], bool]] = [
        (Column("target tokens", RIGHT), lambda c: f"{c.key.target_tokens:,}", True),
        (Column("protocol"), lambda c: protocol_words(c.key), len({k.protocol for k in keys}) > 1),
        (Column("also", "left wrap"), lambda c: axes_words(c.key), any(k.axes for k in keys)),
        (Column("ρ", RIGHT), lambda c: fraction_words(c.key.replay_fraction), True),
        (
            Column("α", RIGHT),
            lambda c: f"{c.key.allocation:g}",
            len({c.key.allocation for c in schedules(study)}) > 1,
        ),
        (Column("stage 2 from step", RIGHT), lambda c: number(c.boundary.step, ",.0f"), True),
        (Column("generic jump", RIGHT), lambda c: _change(c.boundary.generic_spike), True),
        (Column("target jump", RIGHT), lambda c: _change(c.boundary.target_spike), True),
        (
            Column("gradient cosine", RIGHT),
            lambda c: _change(c.boundary.gradient_cosine, "+.2f"),
            True,
        ),
        (Column("held out − training", RIGHT), lambda c: _change(c.boundary.gap), True),
    ]
    shown = [(column, words) for column, words, there in columns if there]
    return Table(
        title="Boundary and over-fitting, mean over seeds",
        columns=tuple(column for column, _ in shown),
        rows=tuple(Line(tuple(words(cell) for _, words in shown)) for cell in cells),
        words=(
            "Jumps: held-out loss a few updates into stage 2 less the loss where it begins, nats "
            "per token. Last column: final held-out less training loss on target rows, over as "
            "many last steps in every run."
        ),
        target=study.target,
        folded=True,
    )


def _change(value: float | None, form: str = "+z.3f") -> str:
    return number(value, form).replace("-", "−")
