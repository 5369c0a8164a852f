"""The answer of a report: per target a verdict, one sentence, four numbers, and what is next."""

from collections.abc import Sequence
from dataclasses import replace

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.advice.verdict import HELPS, HURTS, SAME
from replay_jax.analysis.advice.wording import brief
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.selection import group_words
from replay_jax.analysis.study.study import Study, TargetStudy
from replay_jax.report.advice import Advice
from replay_jax.report.elements.blocks import (
    Answer,
    Block,
    Bullets,
    Column,
    Line,
    Note,
    Table,
    Tile,
)
from replay_jax.report.elements.lines import axes_words, protocol_words
from replay_jax.report.elements.words import (
    EXTRAPOLATED,
    NONE,
    between_words,
    bits_words,
    count,
    level_words,
    number,
    signed,
    times,
)

_UNKNOWN = Interval(None, None, None)
# More groups than this are counted, not told one by one.
_MOST_SENTENCES = 4


def answers(study: Study, advice: Advice) -> tuple[Answer, ...]:
    """Return one answer per target, in the order of the study."""
    return tuple(_answer(target, advice[target.target]) for target in study.targets)


def next_runs(study: Study, advice: Advice) -> list[Block]:
    """Return the runs to add, grouped by what they are for, most useful first."""
    blocks: list[Block] = []
    for target in study.targets:
        found = advice[target.target]
        if isinstance(found, str) or not found[0].next_runs:
            continue
        blocks.append(
            Table(
                title="Runs that would say more, most useful first",
                columns=(
                    Column("why", "left wrap"),
                    Column("runs", "right"),
                    Column("settings", "left wrap"),
                    Column("interval then", "right"),
                ),
                rows=tuple(_next_rows(found[0])),
                words=(
                    f"{_shared_words(found[0])}Interval then: expected width of the multiplier's "
                    "interval with these runs, as a share of its width now; a dash where they "
                    "settle a doubt instead."
                ),
                target=target.target,
            )
        )
    return blocks


def reasons(study: Study, advice: Advice) -> list[Block]:
    """Return why each verdict is what it is, and what to beware of."""
    blocks: list[Block] = []
    for target in study.targets:
        found = advice[target.target]
        if isinstance(found, str):
            blocks.append(Note(found, target.target, "caution"))
            continue
        for each in found:
            lines = tuple(map(_sentence, each.reasons))
            tone = "plain" if tone_of(target, each) == "good" else "caution"
            title = f"At {group_words(target, target.cells[each.best].key)}: {each.verdict}"
            if lines:
                blocks.append(Bullets(title if len(found) > 1 else "", lines, target.target, tone))
    return blocks


def settled(study: Study, advice: Advice) -> Study:
    """The study in which what is recommended has the interval that the answer gives it.

    That one also counts that the schedule was picked for being best, so no figure or table says
    another than the answer. It is the one against the usual recipe, which is the baseline of all
    that stands beside it there; the rival's is in the answer alone.
    """
    targets = []
    for target in study.targets:
        cells = list(target.cells)
        found = advice[target.target]
        for each in () if isinstance(found, str) else found:
            own = cells[each.best]
            if each.usual.against == own.baseline:
                usual = each.usual
                cells[each.best] = replace(own, multiplier=usual.multiplier, gain=usual.gain)
        targets.append(replace(target, cells=tuple(cells)))
    return replace(study, targets=tuple(targets))


def tone_of(study: TargetStudy, found: Recommendation) -> str:
    """How an answer is coloured: "good" only where replay helps and its baselines are tuned."""
    if found.verdict == HELPS:
        compared = (study.cells[each.against] for each in (found.rival, found.usual))
        return "doubt" if any(cell.at_edge for cell in compared) else "good"
    return "plain" if found.verdict in (HURTS, SAME) else "doubt"


def _answer(study: TargetStudy, found: tuple[Recommendation, ...] | str) -> Answer:
    # Cells may share the runs without replay.
    runs = len({id for cell in study.cells for each in cell.settings for id in each.run_ids})
    seeds = count(len(study.seeds), "seed")
    basis = f"{study.target}, with {study.generic} replayed · {count(runs, 'run')} · {seeds}"
    if isinstance(found, str):
        sentence = f"Nothing can be recommended for {study.target}: {found}."
        return Answer(study.target, basis, sentence, "doubt", (), None)
    return Answer(
        target=study.target,
        basis=basis,
        sentence=_unbroken(found[0].claim),
        tone=tone_of(study, found[0]),
        tiles=_tiles(found[0], study.bits_per_nat),
        groups=groups_table(study, found) if len(found) > 1 else None,
        others=tuple(filter(None, [_unbroken(found[0].cost), *_others(study, found[1:])])),
    )


def _others(study: TargetStudy, found: Sequence[Recommendation]) -> tuple[str, ...]:
    """One sentence for each further group; of many, how many say the same."""
    if len(found) <= _MOST_SENTENCES:
        places = [group_words(study, study.cells[each.best].key) for each in found]
        return tuple(
            _unbroken(brief(each.answered, each.verdict, place))
            for each, place in zip(found, places, strict=True)
        )
    verdicts = [each.verdict for each in found]
    told = [f"{verdict} in {verdicts.count(verdict)}" for verdict in dict.fromkeys(verdicts)]
    return (f"Of {len(found)} further groups, listed below: {', '.join(told)}.",)


def _unbroken(words: str) -> str:
    """Words of which no line ends between a number and what belongs to it."""
    return words.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")


def groups_table(study: TargetStudy, found: Sequence[Recommendation]) -> Table:
    """The answer for every budget, protocol and further axis, one line for each."""
    shown = sorted(found, key=lambda each: (each.target_tokens, each is not found[0]))
    protocols = {study.cells[each.best].key.protocol for each in found}
    axes = any(study.cells[each.best].key.axes for each in found)
    return Table(
        title="Every answer",
        columns=(
            Column("target tokens", "right"),
            *((Column("protocol"),) if len(protocols) > 1 else ()),
            *((Column("also", "left wrap"),) if axes else ()),
            Column("verdict"),
            Column("ρ", "right"),
            Column("worth", "right"),
            Column("target loss", "right"),
            Column("generic loss", "right", drop=1, generic=True),
        ),
        rows=tuple(
            Line(
                (
                    f"{each.target_tokens:,}",
                    *((protocol_words(key),) if len(protocols) > 1 else ()),
                    *((axes_words(key),) if axes else ()),
                    each.verdict,
                    f"{key.replay_fraction:.4g}",
                    times(each.multiplier),
                    signed(_negative(each.gain)),
                    signed(each.generic_cost),
                ),
                strong=each is found[0],
            )
            for each in shown
            for key in [study.cells[each.best].key]
        ),
        words="Worth and changes of loss, nats per token, are against the best schedule of the "
        "same budget that does not replay. Bold: the one answered in full.",
        target=study.target,
    )


def _negative(value: Interval) -> Interval:
    """The interval of the opposite number."""
    ends = [None if x is None else -x for x in (value.value, value.high, value.low)]
    return replace(value, value=ends[0], low=ends[1], high=ends[2])


def _tiles(found: Recommendation, bits_per_nat: float | None) -> tuple[Tile, ...]:
    level = level_words(found.level)
    rho = found.replay_fraction
    spread = between_words(rho, ".2g")
    worth = found.multiplier
    marked = " · extrapolated" if worth is not None and worth.extrapolated else ""
    gain, cost = found.gain, found.generic_cost or _UNKNOWN
    loss = None if gain.value is None else -gain.value
    return (
        Tile(
            "replay fraction ρ",
            number(rho.value, ".4g"),
            (f"plausible {_open(rho, spread)}, " if spread else "")
            + f"α {number(found.allocation.value, 'g')}, {found.target_epochs:g} epochs",
        ),
        Tile(
            "worth in target data",
            times(worth, bounds=False).rstrip(EXTRAPOLATED),
            "no reference law" if worth is None else f"{between_words(worth, '.2f')} ({level})"
            + marked,
        ),
        Tile(
            f"target loss against {found.rival.words}",
            _signed(loss),
            _range(None if gain.high is None else -gain.high,
                   None if gain.low is None else -gain.low) + bits_words(loss, bits_per_nat),
        ),
        Tile(
            f"generic loss against {found.rival.words}{_at_epochs(found)}",
            _signed(cost.value),
            _range(cost.low, cost.high),
            generic=True,
        ),
    )  # fmt: skip


def _at_epochs(found: Recommendation) -> str:
    """At which epochs the generic cost was told, where each side's best are others."""
    own, other = found.rival.epochs
    if own == other:
        return ""
    both = found.rival.generic_cost != found.rival.cost_at_best
    return f", {own:g} epochs each" if both else f", {own:g} epochs against {other:g}"


def _open(rho: Interval, spread: str) -> str:
    """The range of the replay fraction, open where nothing larger was run."""
    return f"from {rho.low:.2g} up" if rho.high is None and rho.low is not None else spread


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "nats per token, noise unknown"
    return f"{_signed(low)} to {_signed(high)} nats per token"


def _signed(value: float | None) -> str:
    return number(value, "+z.3f").replace("-", "−")


def _next_rows(found: Recommendation) -> list[Line]:
    shared = _shared(found)
    rows = []
    for option in found.next_runs:
        values: dict[str, dict[str, None]] = {}
        for overrides in option.runs:
            for key, value in overrides.items():
                if key not in shared:
                    values.setdefault(key, {})[_plain(value)] = None
        settings = "; ".join(f"{key} {', '.join(tried)}" for key, tried in values.items())
        ratio = option.width_ratio
        width = NONE if ratio is None else f"{100 * ratio:.0f} %"
        rows.append(Line((option.why, str(len(option.runs)), settings, width)))
    return rows


def _shared(found: Recommendation) -> dict[str, str]:
    """Settings that every suggested run has."""
    runs = [overrides for option in found.next_runs for overrides in option.runs]
    return {
        key: _plain(value)
        for key, value in runs[0].items()
        if all(key in other and other[key] == value for other in runs)
    }


def _shared_words(found: Recommendation) -> str:
    shared = "; ".join(f"{key} {value}" for key, value in _shared(found).items())
    return f"All with {shared}. " if shared else ""


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentence(words: str) -> str:
    """Words that begin with a capital letter, which ρ has not, and end with a full stop."""
    words = (words[:1].upper() if words[:1].isascii() else words[:1]) + words[1:]
    return words if words.endswith((".", "!", "?")) else f"{words}."
