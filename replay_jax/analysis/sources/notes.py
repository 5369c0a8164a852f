"""What of a table of runs is left out, is not known, or looks wrong: one sentence each."""

import math
from collections.abc import Iterator, Mapping, Sequence

from replay_jax.analysis.sources.checks import WORST, Record, by_setting, replays, target_loss

# Nats per token between seeds of one setting that need a word.
_FAR_APART = 1.0
_MOST_NAMED = 4
# Decimals of a loss to which two runs may well agree by chance.
_FEW_DIGITS = 4


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
    (domain, *_) = (name for name, loss in record["losses"].items() if (loss or 0) >= WORST)
    return f"their {domain} loss is worse than a guess (above {WORST:.0f} nats per token)"


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
    for runs in by_setting(records, own).values():
        order = sorted(runs, key=target_loss)
        low, high = target_loss(order[0]), target_loss(order[-1])
        if high - low > _FAR_APART:
            yield (
                f"{order[0]['id']} and {order[-1]['id']} differ in their seed only, but in loss by "
                f"{high - low:.2f} nat ({low:.3f} and {high:.3f}): where one diverged, leave it out"
            )


def _copied(records: Sequence[Record], own: Sequence[str]) -> Iterator[str]:
    """Settings with equal losses under different seeds; rounded ones may be equal by chance."""
    several = [runs for runs in by_setting(records, own).values() if len(runs) > 1]
    pairs = [pair for runs in several if (pair := _same_losses(runs)) is not None]
    by_chance = any(len(set(map(target_loss, runs))) > 1 for runs in several) and not any(
        round(target_loss(one), _FEW_DIGITS) != target_loss(one) for one, _ in pairs
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
        other = first.setdefault((target_loss(run), run["losses"]["generic"]), run)
        if other is not run:
            return other, run
    return None


def _unpaired(records: Sequence[Record], own: Sequence[str]) -> Iterator[str]:
    """Where seeds of the two sides do not pair; without repeats no interval rests on seeds."""
    repeated = {r[0]["target"] for r in by_setting(records, own).values() if len(r) > 1}
    for target in sorted(repeated):
        seeds: dict[bool, set[int]] = {True: set(), False: set()}
        for record in (r for r in records if r["target"] == target):
            seeds[replays(record)].add(record["seed"])
        if all(seeds.values()) and not seeds[True] & seeds[False]:
            yield (
                f"{target}: runs with and without replay have no seed in common, so what seeds "
                "share does not cancel and intervals are wider than they need be"
            )


def _alone(records: Sequence[Record]) -> Iterator[str]:
    """Protocols that have runs with replay and none without: as a constant mixture misnamed."""
    without = {record["protocol"] for record in records if not replays(record)}
    for protocol in sorted({r["protocol"] for r in records if replays(r)} - without):
        if without:
            yield (
                f"runs of the protocol {protocol!r} all replay and are compared with nothing; a "
                "constant mixture is called 'constant'"
            )
