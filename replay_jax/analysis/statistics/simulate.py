"""Records of imagined sweeps with a known truth, as results.jsonl would hold them.

Tests and tools/calibrate_intervals.py ask the analysis for what went into them.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

GENERIC_LOSS = 4.0  # nats per token
BEST_EPOCHS = 16.0
_SEQUENCE_TOKENS = 128
_STEPS = 512
_RUN_TOKENS = 512 * 32 * _SEQUENCE_TOKENS


def law(target_tokens: float) -> float:
    """True reference loss in nats per token: L = 40 / x^0.5 + 3."""
    return 40.0 / math.sqrt(target_tokens) + 3.0


def record(
    *,
    protocol: str = "two_stage",
    replay_fraction: float = 0.0,
    allocation: float = 1.0,
    target_tokens: int = 4096,
    target_epochs: float = BEST_EPOCHS,
    seed: int = 0,
    target_loss: float,
    generic_loss: float = GENERIC_LOSS,
    **changes: Any,
) -> dict[str, Any]:
    """One result record with every field that analysis reads."""
    requested = None if protocol == "uniform" else replay_fraction
    overrides = {
        "schedule.protocol": protocol,
        "schedule.replay_fraction": requested,
        "schedule.stage2_allocation": None if protocol == "uniform" else allocation,
        "schedule.target_sequences": target_tokens // _SEQUENCE_TOKENS,
        "schedule.target_epochs": target_epochs,
        "seed": seed,
    }
    name = f"{protocol} {replay_fraction} {target_tokens} {target_epochs} {seed}"
    return {
        "id": hashlib.sha256(f"{name} {allocation}".encode()).hexdigest()[:16],
        "name": name,
        "overrides": overrides,
        "seed": seed,
        "protocol": protocol,
        "replay_fraction": {"requested": requested, "realised": replay_fraction},
        "allocation": {
            "requested": None if protocol == "uniform" else allocation,
            "realised": allocation,
        },
        "target_tokens": target_tokens,
        "target_epochs": target_epochs,
        "total_steps": _STEPS,
        "learning_rate": 3e-3,
        "weight_decay": 0.1,
        "losses": {"target": target_loss, "generic": generic_loss},
        "evaluation": "held-out-1",
        "target": "gsm8k",
        "generic": "wiki",
        "curve": [
            {
                "step": _STEPS,
                "target": target_loss,
                "generic": generic_loss,
                "train_target": target_loss - 0.5,
                "train_generic": None,
            }
        ],
        "boundary": None,
        "config": {"schedule": {"learning_rate": {"peak": 3e-3}, "total_steps": _STEPS}},
        **changes,
    }


@dataclass(frozen=True)
class Luck:
    """Standard deviations (nats) of what varies between runs, and what else goes wrong.

    `own` of every run, `shared` of all runs of a seed, `by_budget` of its runs at one budget,
    `by_protocol` of its constant mixtures, its runs with and its runs without replay,
    `by_schedule` of its runs that differ in epochs alone. `uneven`:
    factor on `own` by target tokens and replay fraction (None: constant mixture). Each run is an
    outlier of six deviations with odds `outliers`, and missing with odds `missing`.
    """

    own: float = 0.01
    shared: float = 0.02
    by_budget: float = 0.0
    by_protocol: float = 0.0
    by_schedule: float = 0.0
    uneven: Callable[[int, float | None], float] = lambda tokens, rho: 1.0
    outliers: float = 0.0
    missing: float = 0.0


class _Drawn:
    """The luck of every seed, drawn once, and that of every run."""

    def __init__(self, luck: Luck, seeds: Sequence[int], rng: np.random.Generator) -> None:
        self.luck, self.seeds, self.rng = luck, tuple(seeds), rng
        self.shared = luck.shared * rng.standard_normal(len(self.seeds))
        self._groups: dict[Any, np.ndarray] = {}

    def _of_group(self, name: Any, deviation: float) -> np.ndarray:
        if deviation > 0 and name not in self._groups:
            self._groups[name] = deviation * self.rng.standard_normal(len(self.seeds))
        return self._groups.get(name, np.zeros(len(self.seeds)))

    def runs(
        self, tokens: int, rho: float | None, alpha: float = 1.0
    ) -> Iterator[tuple[int, float, float]]:
        """(seed, deviation of target loss, of generic loss) of the runs that are there."""
        luck = self.luck
        kind = "constant" if rho is None else f"replay {rho > 0}"
        shared = self.shared + self._of_group(tokens, luck.by_budget)
        shared = shared + self._of_group(kind, luck.by_protocol)
        shared = shared + self._of_group((tokens, rho, alpha), luck.by_schedule)
        for seed, offset in zip(self.seeds, shared, strict=True):
            own = luck.own * luck.uneven(tokens, rho) * self.rng.standard_normal(2)
            if luck.outliers and self.rng.random() < luck.outliers:
                own = own + 6 * luck.own
            if not luck.missing or self.rng.random() >= luck.missing:
                yield seed, float(offset + own[0]), float(own[1])


def sweep(
    *,
    worth: Callable[[float], float],
    curve: Callable[[float], float] = law,
    replay_fractions: Sequence[float] = (0.0, 0.25, 0.5, 0.75),
    epochs: Sequence[float] = (8.0, 16.0, 32.0),
    budgets: Sequence[int] = (1024, 2048, 4096, 8192, 16384),
    reference: str = "uniform",
    budget: int = 4096,
    seeds: Sequence[int] = (0, 1, 2),
    noise: float = 0.01,
    shared: float = 0.02,
    luck: Luck | None = None,
    epoch_penalty: float = 0.05,
    baseline_penalty: float = 0.05,
    allocations: Sequence[float] = (1.0,),
    of_allocation: Callable[[float], float] = lambda alpha: alpha**0.1,
    generic_gain: float = 0.6,
    draw: int = 0,
) -> list[dict[str, Any]]:
    """Reference runs at `budgets`, and rho x epochs x allocations at `budget`, for every seed.

    The reference is a constant mixture ("uniform"), or the recipe without replay ("no replay"),
    whose runs at `budget` are the baseline's; then its own loss is `curve`. A schedule with rho and
    allocation has the loss of `worth(rho) * of_allocation(alpha)` times its budget on the true
    `curve`; other epochs than 16 cost `epoch_penalty` nats per factor of two, at rho = 0
    `baseline_penalty`; rho lowers generic loss by `generic_gain * rho`. `noise` and `shared` are
    short for the `luck` of that.
    """
    drawn = _Drawn(luck or Luck(own=noise, shared=shared), seeds, np.random.default_rng(draw))
    steepness = epoch_penalty if reference == "uniform" else baseline_penalty
    records = []
    for tokens, count in itertools.product(budgets, epochs):
        loss = curve(tokens) + steepness * abs(math.log2(count / BEST_EPOCHS))
        if reference == "uniform" or tokens != budget:
            records += _reference_runs(drawn, reference, loss, tokens, count)
    for alpha, rho, count in itertools.product(allocations, replay_fractions, epochs):
        steepness = epoch_penalty if rho > 0 else baseline_penalty
        loss = curve(budget * worth(rho) * of_allocation(alpha))
        loss += steepness * abs(math.log2(count / BEST_EPOCHS))
        for seed, own, generic in drawn.runs(budget, rho, alpha):
            records.append(
                record(
                    replay_fraction=rho,
                    allocation=alpha,
                    target_tokens=budget,
                    target_epochs=count,
                    seed=seed,
                    target_loss=loss + own,
                    generic_loss=GENERIC_LOSS + 0.9 - generic_gain * rho + generic,
                )
            )
    return records


def _reference_runs(
    drawn: _Drawn, reference: str, loss: float, tokens: int, epochs: float
) -> list[dict[str, Any]]:
    constant = reference == "uniform"
    return [
        record(
            protocol="uniform" if constant else "two_stage",
            replay_fraction=1 - epochs * tokens / _RUN_TOKENS if constant else 0.0,
            target_tokens=tokens,
            target_epochs=epochs,
            seed=seed,
            target_loss=loss + own,
            generic_loss=GENERIC_LOSS + generic,
        )
        for seed, own, generic in drawn.runs(tokens, None if constant else 0.0)
    ]
