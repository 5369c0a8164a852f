"""Tables of the advice: the answer of every group, and the runs to add."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.runs.records import fraction_words
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.study import TargetStudy
from replay_jax.report.elements.blocks import Column, Line, Table
from replay_jax.report.elements.lines import CONSTANT, axes_words, protocol_words
from replay_jax.report.elements.words import share, signed, times

Settings = Mapping[str, Any]
_SEEDS = ("seed", "data_seed")
_MIXTURE = ("schedule.protocol", "uniform")


def groups_table(study: TargetStudy, found: Sequence[Recommendation]) -> Table:
    """The answer for every budget, protocol and further axis, one line for each."""
    keys = {each.best: study.cells[each.best].key for each in found}
    several = len({key.protocol for key in keys.values()}) > 1
    axes = any(key.axes for key in keys.values())
    law = study.curve is not None
    columns: list[tuple[Column, Callable[[Recommendation], str], bool]] = [
        (Column("target tokens", "right"), lambda f: f"{f.target_tokens:,}", True),
        (Column("protocol"), lambda f: protocol_words(keys[f.best]), several),
        (Column("also", "left wrap"), lambda f: axes_words(keys[f.best]), axes),
        (Column("verdict"), lambda f: f.verdict, True),
        (Column("ρ", "right"), lambda f: fraction_words(keys[f.best].replay_fraction), True),
        (Column("against", "left wrap"), lambda f: _against(f.rival.words), True),
        (Column("worth", "right"), lambda f: times(f.multiplier), law),
        (Column("target loss", "right"), lambda f: signed(_negative(f.gain)), True),
        (
            Column("generic loss", "right", drop=1, generic=True),
            lambda f: signed(f.generic_cost),
            True,
        ),
    ]
    shown = [(column, words) for column, words, there in columns if there]
    return Table(
        title="Every answer",
        columns=tuple(column for column, _ in shown),
        rows=tuple(
            Line(tuple(words(each) for _, words in shown), strong=each is found[0])
            for each in sorted(found, key=lambda f: (f.target_tokens, f is not found[0]))
        ),
        words="Nats per token, against the schedule named: the best without replay at the row's "
        f"budget{' and settings, so worth is not for comparing settings' if axes else ''}. Generic "
        "loss is at equal epochs where both ran them. Usual recipe: ρ = 0, α = 1. Bold: answered "
        "in full.",
        target=study.target,
    )


def _against(words: str) -> str:
    """A rival's words without articles, and without what the table says of it once."""
    return words.removeprefix("a ").removeprefix("the ").replace(" (ρ = 0, α = 1)", "")


def _negative(value: Interval) -> Interval:
    """The interval of the opposite number."""
    ends = [None if x is None else -x for x in (value.value, value.high, value.low)]
    return replace(value, value=ends[0], low=ends[1], high=ends[2])


def next_table(found: Recommendation) -> Table | None:
    """The runs to add, by what they are for, most useful first; None if there are none.

    A row is one schedule with all its seeds, so no row can be read as runs that nobody suggests.
    """
    if not found.next_runs:
        return None
    runs = [overrides for option in found.next_runs for overrides in option.runs]
    shared = {
        key: value
        for key, value in runs[0].items()
        if key not in _SEEDS and all(key in other and other[key] == value for other in runs)
    }
    all_with = f"All: {_settings_words(shared)}. " if any(_said(shared)) else ""
    return Table(
        title="Runs that would say more, most useful first",
        columns=(
            Column("why", "left wrap"),
            Column("runs", "right"),
            Column("settings", "left wrap"),
            Column("interval then", "right"),
        ),
        rows=tuple(
            row
            for option in found.next_runs
            for row in _option_rows(option.runs, shared, option.why, share(option.width_ratio))
        ),
        words=(
            f"{all_with}Interval then: expected width of the multiplier's "
            "interval with these runs, as a share of its width now; a dash where they "
            "settle a doubt instead."
        ),
        target=found.target,
    )


def _option_rows(option: Sequence[Settings], shared: Settings, why: str, then: str) -> list[Line]:
    """A row for every schedule of an option; what the option is for stands in the first alone."""
    seeds: dict[str, list[Settings]] = {}
    for overrides in option:
        own = {key: value for key, value in overrides.items() if key not in shared}
        seeds.setdefault(_settings_words(own), []).append(own)
    rows: list[Line] = []
    for words, runs in seeds.items():
        said = [words, *(
            f"{key} {', '.join(_plain(run[key]) for run in runs)}"
            for key in _SEEDS
            if all(key in run for run in runs)
        )]  # fmt: skip
        settings = "; ".join(filter(None, said))
        rows.append(Line((why, str(len(runs)), settings, then)))
        why = then = ""
    return rows


def _settings_words(settings: Settings) -> str:
    return "; ".join(_said(settings))


def _said(settings: Settings) -> list[str]:
    """Settings but the seeds, in words; what a constant mixture has no value of is left out."""
    return [
        CONSTANT if (key, value) == _MIXTURE else f"{key} {_plain(value)}"
        for key, value in settings.items()
        if value is not None and key not in _SEEDS
    ]


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
