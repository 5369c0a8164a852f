"""What a table of runs may not hold, and what of it is left out or has to be said."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from replay_jax.analysis.runs.records import find, text
from replay_jax.analysis.sources.columns import column_called, plain
from replay_jax.errors import UserError

Record = Mapping[str, Any]
Setting = tuple[Any, ...]
_CONSTANT = ("uniform", "constant", "mixture", "mixed", "mix", "constant_mixture", "constant_mix")
# Columns by which a reference may be told, beside the user's own.
_REFERENCES = ("replay_fraction", "allocation", "protocol", "target_epochs", "generic")
# Bits over nats; between seeds of one setting no real spread is like it.
_BITS_RATIO = 1 / math.log(2)
# With a gain or a harm of up to a tenth beside it.
_BITS_BAND = (0.9 * _BITS_RATIO, 1.1 * _BITS_RATIO)
# Nats per token that a uniform guess among 2^28 tokens has: more than any vocabulary is worth.
_WORST = 28 * math.log(2)
# Nats per token between seeds of one setting that need a word.
_FAR_APART = 1.0
_MOST_NAMED = 4
# Decimals of a loss to which two runs may well agree by chance.
_FEW_DIGITS = 4


def protocol_called(words: str) -> str:
    """The protocol that a table means: "uniform" for a constant mixture, else the words."""
    return "uniform" if plain(words) in _CONSTANT else words


def comparable(records: Sequence[Record]) -> list[Record]:
    """Runs whose losses are finite, and no worse than a guess; None is one that nobody measured.

    Raises:
        UserError: there is none, or most losses are so large that they are no nats per token.
    """
    finite = [r for r in records if all(map(math.isfinite, _measured(r)))]
    if not finite:
        raise UserError(f"none of the {len(records)} runs has finite losses: nothing to analyse")
    kept = [r for r in finite if max(_measured(r)) < _WORST]
    if 2 * len(kept) <= len(finite):
        large = next(max(_measured(r)) for r in finite if r not in kept)
        raise UserError(
            f"losses such as {large:g} are no nats per token, which {_WORST:.0f} would be for a "
            "guess among all words there are: give the logarithm of a perplexity, or the mean of a "
            "sum over tokens"
        )
    return kept


def refuse_duplicates(records: Sequence[Record], own: Sequence[str]) -> None:
    """Raise UserError where two rows have one seed and the same settings."""
    seen: dict[Setting, Record] = {}
    for record in records:
        place = (*_setting(record, own), record["seed"])
        if place not in seen:
            seen[place] = record
            continue
        first, shares = seen[place], [_fraction(r) for r in (seen[place], record)]
        if shares[0] != shares[1]:
            raise UserError(
                f"{first['id']} and {record['id']} are constant mixtures of equal budget and "
                f"epochs, which only their generic shares tell apart ({shares[0]:g} and "
                f"{shares[1]:g}): repeat the share in a column of another name, and name that as "
                "tuned"
            )
        raise UserError(
            f"{first['id']} and {record['id']} are one run, of seed {record['seed']} and the "
            "same settings: drop one, or name the column in which they differ as an axis"
        )


def refuse_mixed_units(records: Sequence[Record], own: Sequence[str]) -> None:
    """Raise UserError where losses that should be alike differ as bits and nats do.

    Between seeds of one setting, and between the best with and without replay at every budget.
    """
    for runs in _by_setting(records, own).values():
        order = sorted(runs, key=_target_loss)
        low, high = _target_loss(order[0]), _target_loss(order[-1])
        if low > 0 and abs(high / low / _BITS_RATIO - 1) < 0.04:
            raise UserError(
                f"{order[0]['id']} and {order[-1]['id']} differ in their seed only, but by the "
                f"factor {high / low:.2f} in loss ({low:.3f} and {high:.3f}): one seems to be in "
                "nats and one in bits; add a column loss_unit"
            )
    pairs = list(_best_pairs(records))
    for words, turned in (("with", 1), ("without", -1)):
        ratios = [(mine / other) ** turned for mine, other in pairs if min(mine, other) > 0]
        if ratios and all(_BITS_BAND[0] < ratio < _BITS_BAND[1] for ratio in ratios):
            raise UserError(
                f"at every budget the best loss {words} replay is {min(ratios):.2f} times the "
                "other or more, about as bits are to nats: add a column loss_unit, which says what "
                "each run is in"
            )


def checked_reference(
    reference: Mapping[str, Any], records: Sequence[Record], own: Sequence[str]
) -> dict[str, Any]:
    """The reference by the names that records have.

    Raises:
        UserError: a name is no column, or no run has the value.
    """
    found = {}
    for name, value in reference.items():
        ours = name if name in own else column_called(name)
        if ours is None:
            known = [*_REFERENCES, *own]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise UserError(f"the reference names no column: {name!r}; the nearest is {near!r}")
        if ours not in (*_REFERENCES, *own):
            raise UserError(f"the reference cannot be told by {ours}: use {', '.join(_REFERENCES)}")
        if ours == "protocol":
            value = protocol_called(str(value))
        there = dict.fromkeys(str(find(record, ours)) for record in records)
        if not any(_alike(find(record, ours), value) for record in records):
            some = ", ".join(list(there)[:8])
            raise UserError(f"no run has the {name} {value!r} of the reference; there are {some}")
        found[ours] = value
    return found


def notes(
    records: Sequence[Record],
    kept: Sequence[Record],
    columns: Mapping[str, str],
    own: Sequence[str],
) -> tuple[str, ...]:
    """What was left out, is not known, or looks wrong, one sentence each."""
    lines = []
    compared = {r["id"] for r in kept}
    left_out: dict[str, list[str]] = {}
    for record in records:
        if record["id"] not in compared:
            left_out.setdefault(_why_left_out(record), []).append(record["id"])
    lines += [f"left out, because {why}: {', '.join(ids)}" for why, ids in left_out.items()]
    if "target_epochs" not in columns:
        lines.append("no column target_epochs: epochs are shown as 1 and nothing is known of them")
    if "generic_loss" not in columns:
        lines.append("no column generic_loss: nothing can be said of what replay saves elsewhere")
    elif unmeasured := [r["id"] for r in kept if r["losses"]["generic"] is None]:
        lines.append(_unmeasured(unmeasured, len(kept)))
    lines += _far_apart(kept, own)
    lines += _copied(kept, own)
    lines += _unpaired(kept, own)
    lines += _alone(kept)
    return tuple(lines)


def _why_left_out(record: Record) -> str:
    for domain, loss in record["losses"].items():
        if loss is not None and not math.isfinite(loss):
            return f"their {domain} loss is no finite number"
    (domain, *_) = (name for name, loss in record["losses"].items() if (loss or 0) >= _WORST)
    return f"their {domain} loss is worse than a guess (above {_WORST:.0f} nats per token)"


def _unmeasured(ids: Sequence[str], runs: int) -> str:
    """What the runs without a generic loss leave unsaid."""
    if len(ids) == runs:
        return "generic_loss is empty everywhere: what replay saves elsewhere is unknown"
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    return (
        f"generic_loss is empty in {len(ids)} of {runs} runs ({', '.join(ids[:_MOST_NAMED])}"
        f"{more}): what replay saves elsewhere is told only where both sides have it"
    )


def _far_apart(records: Sequence[Record], own: Sequence[str]) -> Iterator[str]:
    for runs in _by_setting(records, own).values():
        order = sorted(runs, key=_target_loss)
        low, high = _target_loss(order[0]), _target_loss(order[-1])
        if high - low > _FAR_APART:
            yield (
                f"{order[0]['id']} and {order[-1]['id']} differ in their seed only, but in loss by "
                f"{high - low:.2f} nat ({low:.3f} and {high:.3f}): where one diverged, leave it out"
            )


def _copied(records: Sequence[Record], own: Sequence[str]) -> Iterator[str]:
    """Settings with equal losses under different seeds; rounded ones may be equal by chance."""
    several = [runs for runs in _by_setting(records, own).values() if len(runs) > 1]
    pairs = [pair for runs in several if (pair := _same_losses(runs)) is not None]
    by_chance = any(len(set(map(_target_loss, runs))) > 1 for runs in several) and not any(
        round(_target_loss(one), _FEW_DIGITS) != _target_loss(one) for one, _ in pairs
    )
    if pairs and not by_chance:
        some = "a setting" if len(pairs) == 1 else f"{len(pairs)} settings"
        yield (
            f"runs of {some} have the same loss to the last digit under different seeds (as "
            f"{pairs[0][0]['id']} and {pairs[0][1]['id']}): where they are one run, the trainer "
            "ignores its seed or losses are rounded, intervals are too narrow"
        )


def _same_losses(runs: Sequence[Record]) -> tuple[Record, Record] | None:
    first: dict[tuple[float, float | None], Record] = {}
    for run in runs:
        other = first.setdefault((_target_loss(run), run["losses"]["generic"]), run)
        if other is not run:
            return other, run
    return None


def _unpaired(records: Sequence[Record], own: Sequence[str]) -> Iterator[str]:
    """Where seeds of the two sides do not pair; without repeats no interval rests on seeds."""
    repeated = {r[0]["target"] for r in _by_setting(records, own).values() if len(r) > 1}
    for target in sorted(repeated):
        seeds: dict[bool, set[int]] = {True: set(), False: set()}
        for record in (r for r in records if r["target"] == target):
            seeds[_replays(record)].add(record["seed"])
        if all(seeds.values()) and not seeds[True] & seeds[False]:
            yield (
                f"{target}: runs with and without replay have no seed in common, so what seeds "
                "share does not cancel and intervals are wider than they need be"
            )


def _alone(records: Sequence[Record]) -> Iterator[str]:
    """Protocols that have runs with replay and none without: as a constant mixture misnamed."""
    without = {record["protocol"] for record in records if not _replays(record)}
    for protocol in sorted({r["protocol"] for r in records if _replays(r)} - without):
        if without:
            yield (
                f"runs of the protocol {protocol!r} all replay and are compared with nothing; a "
                "constant mixture is called 'constant'"
            )


def _best_pairs(records: Sequence[Record]) -> Iterator[tuple[float, float]]:
    """The best losses with and without replay, wherever a target and budget has both."""
    best: dict[tuple[str, int], dict[bool, float]] = {}
    for record in records:
        there = best.setdefault((record["target"], record["target_tokens"]), {})
        side = _replays(record)
        there[side] = min(_target_loss(record), there[side] if side in there else math.inf)
    return ((both[True], both[False]) for both in best.values() if len(both) == 2)


def _by_setting(records: Sequence[Record], own: Sequence[str]) -> dict[Setting, list[Record]]:
    settings: dict[Setting, list[Record]] = {}
    for record in records:
        settings.setdefault(_setting(record, own), []).append(record)
    return settings


def _setting(record: Record, own: Sequence[str]) -> Setting:
    return (
        record["target"], record["evaluation"], record["protocol"], record["target_tokens"],
        *((0.0, 1.0) if _is_constant(record) else _schedule(record)),
        record["target_epochs"], *(text(record["overrides"][name]) for name in own),
    )  # fmt: skip


def _is_constant(record: Record) -> bool:
    """A study tells constant mixtures by their epochs: their shares follow from these."""
    return bool(record["protocol"] == "uniform")


def _replays(record: Record) -> bool:
    return _fraction(record) > 0 and not _is_constant(record)


def _schedule(record: Record) -> tuple[float, float]:
    return _fraction(record), float(record["allocation"]["requested"])


def _fraction(record: Record) -> float:
    return float(record["replay_fraction"]["requested"])


def _target_loss(record: Record) -> float:
    return float(record["losses"]["target"])


def _measured(record: Record) -> list[float]:
    return [loss for loss in record["losses"].values() if loss is not None]


def _alike(value: Any, wanted: Any) -> bool:
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return math.isclose(value, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return bool(value == wanted)
