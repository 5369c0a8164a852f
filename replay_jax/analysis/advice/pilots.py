"""Choosing a schedule for a large run from small pilots matched in repetitions.

A pilot keeps what decides how often target rows are seen and when: the target share f, the epochs
E, gamma = f E, rho, alpha, and (with the same number of steps) f * steps, the unique target data in
batches. It shrinks the batch and the model. Proxies that repeat the target data another number of
times than the large run pick the wrong mixture (arXiv 2606.07597).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.study.records import look_up
from replay_jax.errors import UserError


@dataclass(frozen=True)
class LargeRun:
    """The run to decide for: sizes in steps and sequences."""

    total_steps: int
    batch_size: int
    target_sequences: int

    @property
    def target_share(self) -> Fraction:
        """f: unique target sequences over all sequences of the run."""
        return Fraction(self.target_sequences, self.total_steps * self.batch_size)


def pilot_sweep(
    large: LargeRun,
    *,
    total_steps: int,
    batch_size: int,
    replay_fractions: Sequence[float],
    target_epochs: Sequence[float],
    seeds: Sequence[int],
    allocation: float = 1.0,
) -> list[dict[str, Any]]:
    """Overrides of the matched pilots: every rho x epochs x seed, rho = 0 included.

    `target_epochs` are those that the large run may use. With `total_steps` = the large run's, the
    number of target batches f * steps is kept too; with fewer steps it shrinks with them.

    Raises:
      UserError: f of the pilot would not be a whole number of sequences; the message names the
        nearest batch sizes that work. Or gamma = f E reaches 1.
    """
    rows = large.target_share * total_steps * batch_size
    if rows.denominator != 1:
        unit = (large.target_share * total_steps).denominator
        below = batch_size // unit * unit
        nearest = f"{below} or {below + unit}" if below else f"{unit}"
        raise UserError(
            f"a pilot of {total_steps} steps x {batch_size} sequences would need {float(rows):g} "
            f"target sequences to keep f = {large.target_share}; use a batch of {nearest}"
        )
    for epochs in target_epochs:
        gamma = float(large.target_share) * epochs
        if not 0 < gamma < 1:
            raise UserError(
                f"{epochs:g} epochs of f = {large.target_share} fill {gamma:.3g} of the run; take "
                "fewer epochs or less target data"
            )
    fractions = sorted({0.0, *replay_fractions})
    return [
        {
            "schedule.total_steps": total_steps,
            "training.batch_size": batch_size,
            "schedule.target_sequences": int(rows),
            "schedule.target_epochs": epochs,
            "schedule.replay_fraction": fraction,
            "schedule.stage2_allocation": allocation,
            "seed": seed,
        }
        for fraction in fractions
        for epochs in target_epochs
        for seed in seeds
    ]


def transfer(
    recommendation: Recommendation,
    large: LargeRun,
    records: Sequence[Mapping[str, Any]],
    *,
    tolerance: float = 0.02,
) -> dict[str, Any]:
    """Overrides of the large run that the pilots recommend.

    `records` are the pilots' result records: their f is compared with the large run's, to
    `tolerance` (relative).

    Raises:
      UserError: the pilots are not matched, with both numbers; or their verdict is "cannot tell".
    """
    if recommendation.verdict == "cannot tell":
        raise UserError(
            f"the pilots cannot tell which replay fraction is best: {recommendation.reasons[0]}"
        )
    for record in records:
        if int(record["target_tokens"]) != recommendation.target_tokens:
            continue
        if record["target"] != recommendation.target:
            continue
        tokens = look_up(record, "training.batch_size") * look_up(record, "training.seq_len")
        share = record["target_tokens"] / (record["total_steps"] * tokens)
        if abs(share / float(large.target_share) - 1) > tolerance:
            raise UserError(
                f"pilot {record['name']} has target share f = {share:.4g}, the large run "
                f"{float(large.target_share):.4g}: plan pilots with the same f, or their target "
                "rows come at another density"
            )
    return {
        "schedule.total_steps": large.total_steps,
        "training.batch_size": large.batch_size,
        "schedule.target_sequences": large.target_sequences,
        "schedule.target_epochs": recommendation.target_epochs,
        "schedule.replay_fraction": recommendation.replay_fraction.value,
        "schedule.stage2_allocation": recommendation.allocation.value,
    }
