"""Records of imagined sweeps with a known truth, as results.jsonl would hold them.

Tests and tools/calibrate_intervals.py ask the analysis for what went into them.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
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


def sweep(
    *,
    worth: Callable[[float], float],
    replay_fractions: Sequence[float] = (0.0, 0.25, 0.5, 0.75),
    epochs: Sequence[float] = (8.0, 16.0, 32.0),
    budgets: Sequence[int] = (1024, 2048, 4096, 8192, 16384),
    budget: int = 4096,
    seeds: Sequence[int] = (0, 1, 2),
    noise: float = 0.01,
    shared: float = 0.02,
    epoch_penalty: float = 0.05,
    baseline_penalty: float = 0.05,
    allocations: Sequence[float] = (1.0,),
    generic_gain: float = 0.6,
    draw: int = 0,
) -> list[dict[str, Any]]:
    """Reference runs (uniform) at `budgets`, and rho x epochs at `budget`, for every seed.

    A schedule with rho has the loss of `worth(rho)` times its budget on the true law; other epochs
    than 16 cost `epoch_penalty` nats per factor of two, at rho = 0 `baseline_penalty`; rho lowers
    generic loss by `generic_gain * rho`.
    """
    rng = np.random.default_rng(draw)
    luck = shared * rng.standard_normal(len(seeds))
    records = []

    def add(loss: float, **fields: Any) -> None:
        for seed, offset in zip(seeds, luck, strict=True):
            own = noise * rng.standard_normal(2)
            generic = fields.get("generic_loss", GENERIC_LOSS) + own[1]
            records.append(
                record(
                    **{**fields, "generic_loss": generic},
                    seed=seed,
                    target_loss=loss + float(offset) + float(own[0]),
                )
            )

    for tokens in budgets:
        for count in epochs:
            add(
                law(tokens) + epoch_penalty * abs(math.log2(count / BEST_EPOCHS)),
                protocol="uniform",
                replay_fraction=1 - count * tokens / _RUN_TOKENS,
                target_tokens=tokens,
                target_epochs=count,
            )
    for alpha, rho, count in itertools.product(allocations, replay_fractions, epochs):
        steepness = epoch_penalty if rho > 0 else baseline_penalty
        penalty = steepness * abs(math.log2(count / BEST_EPOCHS))
        add(
            law(budget * worth(rho) * alpha**0.1) + penalty,
            replay_fraction=rho,
            allocation=alpha,
            target_tokens=budget,
            target_epochs=count,
            generic_loss=GENERIC_LOSS + 0.9 - generic_gain * rho,
        )
    return records
