"""The answer of a report: per target a verdict, one sentence, four numbers, and what is next."""

from collections.abc import Sequence
from dataclasses import replace

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.advice.verdict import HELPS, HURTS, SAME
from replay_jax.analysis.advice.wording import brief
from replay_jax.analysis.runs.records import fraction_form, fraction_words
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.selection import group_words
from replay_jax.analysis.study.study import Study, TargetStudy
from replay_jax.report.advice import Advice
from replay_jax.report.elements.blocks import (
    Answer,
    Block,
    Bullets,
    Note,
    Tile,
)
from replay_jax.report.elements.words import (
    EXTRAPOLATED,
    between_words,
    bits_words,
    count,
    level_words,
    number,
    times,
)
from replay_jax.report.tables.advice_tables import groups_table, next_table

_UNKNOWN = Interval(None, None, None)
# More groups than this are counted, not told one by one.
_MOST_SENTENCES = 4


def answers(study: Study, advice: Advice) -> tuple[Answer, ...]:
    """Return one answer per target, in the order of the study."""
    return tuple(_answer(target, advice[target.target]) for target in study.targets)


def next_runs(study: Study, advice: Advice) -> list[Block | None]:
    """Return the runs to add for every target."""
    found = (advice[target.target] for target in study.targets)
    return [next_table(each[0]) for each in found if not isinstance(each, str)]


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
        sentence = f"{found[0].upper()}{found[1:]}."
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


def _use(found: Recommendation) -> Tile:
    """The schedule to use."""
    rho, epochs = found.replay_fraction, f"{found.target_epochs:g} epochs"
    if rho.value is None:
        return Tile("schedule", found.rival.words, epochs)
    form = fraction_form(rho.low, rho.high, digits=2)
    spread = between_words(rho, form)
    if rho.high is None and rho.low is not None:  # nothing larger was run
        spread = f"from {rho.low:{form}} up"
    plausible = f"plausible {spread}, " if spread else ""
    allocation = number(found.allocation.value, "g")
    return Tile(
        "replay fraction ρ",
        number(rho.value, fraction_form(rho.value)),
        f"{plausible}α {allocation}, {epochs}",
    )


def _tiles(found: Recommendation, bits_per_nat: float | None) -> tuple[Tile, ...]:
    level = level_words(found.level)
    worth = found.multiplier
    marked = " · extrapolated" if worth is not None and worth.extrapolated else ""
    gain, cost = found.gain, found.generic_cost or _UNKNOWN
    loss = None if gain.value is None else -gain.value
    of, rival = _of(found), _unbroken(found.rival.words)
    return (
        _use(found),
        Tile(
            f"worth{of} in target data",
            times(worth, bounds=False).rstrip(EXTRAPOLATED),
            "no reference law" if worth is None else f"{between_words(worth, '.2f')} ({level})"
            + marked,
        ),
        Tile(
            f"target loss{of} against {rival}",
            _signed(loss),
            _range(None if gain.high is None else -gain.high,
                   None if gain.low is None else -gain.low) + bits_words(loss, bits_per_nat),
        ),
        Tile(
            f"generic loss{of} against {rival}{_at_epochs(found)}",
            _signed(cost.value),
            _range(cost.low, cost.high),
            generic=True,
        ),
    )  # fmt: skip


def _of(found: Recommendation) -> str:
    """Which replay fraction was compared, where another schedule is the one to use."""
    own = found.answered.own
    shown = (found.replay_fraction.value, found.allocation.value)
    same = shown == (own.replay_fraction, own.allocation)
    return "" if same else _unbroken(f" of ρ = {fraction_words(own.replay_fraction)}")


def _at_epochs(found: Recommendation) -> str:
    """At which epochs the generic cost was told, where each side's best are others."""
    own, other = found.rival.epochs
    if own == other:
        return ""
    both = found.rival.generic_cost != found.rival.cost_at_best
    return f", {own:g} epochs each" if both else f", {own:g} epochs against {other:g}"


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "nats per token, noise unknown"
    return f"{_signed(low)} to {_signed(high)} nats per token"


def _signed(value: float | None) -> str:
    return number(value, "+z.3f").replace("-", "−")


def _sentence(words: str) -> str:
    """Words that begin with a capital letter, which ρ has not, and end with a full stop."""
    words = (words[:1].upper() if words[:1].isascii() else words[:1]) + words[1:]
    return words if words.endswith((".", "!", "?")) else f"{words}."
