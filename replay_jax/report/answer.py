"""The answer of a report: per target a verdict, one sentence, four numbers, and what is next."""

from collections.abc import Mapping

from replay_jax.analysis.advice.recommend import Recommendation, recommend
from replay_jax.analysis.advice.wording import HELPS, HURTS
from replay_jax.analysis.study.study import Study, TargetStudy
from replay_jax.errors import UserError
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
from replay_jax.report.elements.words import (
    EXTRAPOLATED,
    NONE,
    between_words,
    count,
    level_words,
    number,
    times,
)

# Target to its recommendation, or in words why there is none.
Advice = Mapping[str, Recommendation | str]


def advise(study: Study) -> dict[str, Recommendation | str]:
    """Return for every target its recommendation, or in words why nothing can be recommended."""
    advice: dict[str, Recommendation | str] = {}
    for target in study.targets:
        try:
            advice[target.target] = recommend(study, target=target.target)
        except UserError as error:
            advice[target.target] = str(error)
    return advice


def answers(study: Study, advice: Advice) -> tuple[Answer, ...]:
    """Return one answer per target, in the order of the study."""
    return tuple(_answer(target, advice[target.target]) for target in study.targets)


def next_runs(study: Study, advice: Advice) -> list[Block]:
    """Return the runs to add, grouped by what they are for, most useful first."""
    blocks: list[Block] = []
    for target in study.targets:
        found = advice[target.target]
        if isinstance(found, str) or not found.next_runs:
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
                rows=tuple(_next_rows(found)),
                words=(
                    f"{_shared_words(found)}Interval then: expected width of the multiplier's "
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
        elif found.reasons:
            tone = "plain" if found.verdict == HELPS else "caution"
            blocks.append(Bullets("", tuple(map(_sentence, found.reasons)), target.target, tone))
    return blocks


def _answer(study: TargetStudy, found: Recommendation | str) -> Answer:
    runs = sum(len(setting.run_ids) for cell in study.cells for setting in cell.settings)
    seeds = count(len(study.seeds), "seed")
    basis = f"{study.target}, with {study.generic} replayed · {count(runs, 'run')} · {seeds}"
    if isinstance(found, str):
        sentence = f"Nothing can be recommended for {study.target}: {found}."
        return Answer(study.target, basis, sentence, "doubt", ())
    tones = {HELPS: "good", HURTS: "plain"}
    return Answer(
        target=study.target,
        basis=basis,
        sentence=found.sentence.replace(" %", "\u00a0%"),
        tone=tones[found.verdict] if found.verdict in tones else "doubt",
        tiles=_tiles(found),
    )


def _tiles(found: Recommendation) -> tuple[Tile, ...]:
    level = level_words(found.level)
    rho = found.replay_fraction
    spread = between_words(rho, ".2g")
    worth = found.multiplier
    marked = " · extrapolated" if worth is not None and worth.extrapolated else ""
    gain, cost = found.gain, found.generic_cost
    loss = None if gain.value is None else -gain.value
    return (
        Tile(
            "replay fraction ρ",
            number(rho.value, "g"),
            (f"plausible {spread}, " if spread else "")
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
                   None if gain.low is None else -gain.low),
        ),
        Tile(
            f"generic loss against {found.rival.words}",
            _signed(cost.value),
            _range(cost.low, cost.high),
        ),
    )  # fmt: skip


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "nats per token, noise unknown"
    return f"{_signed(low)} to {_signed(high)} nats per token"


def _signed(value: float | None) -> str:
    return number(value, "+.3f").replace("-", "−")


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
    """Words that begin with a capital letter and end with a full stop."""
    words = words[:1].upper() + words[1:]
    return words if words.endswith((".", "!", "?")) else f"{words}."
