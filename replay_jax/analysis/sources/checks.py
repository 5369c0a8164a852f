"""What a table of runs may not hold, and which of its runs are compared."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from replay_jax.analysis.runs.records import find, text
from replay_jax.analysis.sources.columns import also_called, column_called, nearest, plain
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
WORST = 28 * math.log(2)


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
    kept = [r for r in finite if max(_measured(r)) < WORST]
    if 2 * len(kept) <= len(finite):
        large = next(max(_measured(r)) for r in finite if r not in kept)
        raise UserError(
            f"losses such as {large:g} are no nats per token, which {WORST:.0f} would be for a "
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


def refuse_different_sets(records: Sequence[Record]) -> None:
    """Raise UserError where runs of one target were judged on different held-out texts."""
    first: dict[str, Record] = {}
    for record in records:
        other = first.setdefault(record["target"], record)
        if record["evaluation"] != other["evaluation"]:
            raise UserError(
                f"{other['id']} and {record['id']} were evaluated on different sets "
                f"({other['evaluation']!r} and {record['evaluation']!r}), so their losses do not "
                "compare: analyse the runs of each set alone"
            )


def refuse_mixed_units(records: Sequence[Record], own: Sequence[str]) -> None:
    """Raise UserError where losses that should be alike differ as bits and nats do.

    Between seeds of one setting, and between the best with and without replay at every budget.
    """
    for runs in by_setting(records, own).values():
        for domain in ("target", "generic"):
            _refuse_bits_beside_nats(runs, domain)
    pairs = list(_best_pairs(records))
    for words, turned in (("with", 1), ("without", -1)):
        ratios = [(mine / other) ** turned for mine, other in pairs if min(mine, other) > 0]
        if ratios and all(_BITS_BAND[0] < ratio < _BITS_BAND[1] for ratio in ratios):
            raise UserError(
                f"at every budget the best loss {words} replay is {min(ratios):.2f} times the "
                "other or more, about as bits are to nats: add a column loss_unit, which says what "
                "each run is in"
            )


def _refuse_bits_beside_nats(runs: Sequence[Record], domain: str) -> None:
    order = sorted((r["losses"][domain], r["id"]) for r in runs if r["losses"][domain] is not None)
    if not order:
        return
    (low, one), (high, other) = order[0], order[-1]
    if low > 0 and abs(high / low / _BITS_RATIO - 1) < 0.04:
        raise UserError(
            f"{one} and {other} differ in their seed only, but by the factor {high / low:.2f} in "
            f"{domain} loss ({low:.3f} and {high:.3f}): one seems to be in nats and one in bits; "
            "add a column loss_unit"
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
        mine = [key for key in own if plain(key) == plain(name)]
        ours = mine[0] if mine else column_called(name)
        if ours is None:
            near = nearest(name, [*_REFERENCES, *also_called(_REFERENCES), *own])
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


def _best_pairs(records: Sequence[Record]) -> Iterator[tuple[float, float]]:
    """The best losses with and without replay, wherever a target and budget has both."""
    best: dict[tuple[str, int], dict[bool, float]] = {}
    for record in records:
        there = best.setdefault((record["target"], record["target_tokens"]), {})
        side = replays(record)
        there[side] = min(target_loss(record), there[side] if side in there else math.inf)
    return ((both[True], both[False]) for both in best.values() if len(both) == 2)


def by_setting(records: Sequence[Record], own: Sequence[str]) -> dict[Setting, list[Record]]:
    """Runs that differ in their seed only, by what they share."""
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


def replays(record: Record) -> bool:
    """Whether a run mixes generic data into its last stage; a constant mixture does not count."""
    return _fraction(record) > 0 and not _is_constant(record)


def _schedule(record: Record) -> tuple[float, float]:
    return _fraction(record), float(record["allocation"]["requested"])


def _fraction(record: Record) -> float:
    return float(record["replay_fraction"]["requested"])


def target_loss(record: Record) -> float:
    """Nats per token."""
    return float(record["losses"]["target"])


def _measured(record: Record) -> list[float]:
    return [loss for loss in record["losses"].values() if loss is not None]


def _alike(value: Any, wanted: Any) -> bool:
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return math.isclose(value, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return bool(value == wanted)
