"""The gain of replay along every axis of the study, as tables."""

from replay_jax.analysis.advice.along import Axis, GainAt, axes_of
from replay_jax.analysis.runs.records import fraction_words
from replay_jax.analysis.study.axes import TOKENS
from replay_jax.analysis.study.selection import short
from replay_jax.analysis.study.study import Study
from replay_jax.report.elements.blocks import Column, Line, Table
from replay_jax.report.elements.words import NONE, level_words, number, signed, times


def along_tables(study: Study) -> tuple[Table, ...]:
    """One table for every axis along which gains can be compared, folded."""
    return tuple(_table(axis, study.level) for axis in axes_of(study))


def _table(axis: Axis, level: float) -> Table:
    several = len(axis.lines) > 1
    return Table(
        title=f"What replay gains, by {short(axis.key)}",
        columns=(
            *((Column("with", "left wrap"),) if several else ()),
            Column(short(axis.key), "right"),
            Column("no replay", "right"),
            Column("best replay", "right"),
            Column("ρ", "right"),
            Column("gain", "right"),
            Column("worth", "right"),
        ),
        rows=tuple(
            Line(
                (
                    *((line.label,) if several else ()),
                    _value(axis.key, each),
                    number(each.baseline_loss, ".3f"),
                    number(each.replay_loss, ".3f"),
                    fraction_words(each.replay_fraction),
                    signed(each.gain),
                    NONE if each.multiplier is None else times(each.multiplier),
                )
            )
            for line in axis.lines
            for each in line.gains
        ),
        words=(
            f"Target losses and gains in nats per token, with {level_words(level)}s where the "
            "study has them. Both sides have the same allocation and all else; along a tuned key "
            "both are at the best of what both ran there."
        ),
        folded=True,
    )


def _value(key: str, each: GainAt) -> str:
    return f"{int(each.value):,}" if key == TOKENS else each.value
