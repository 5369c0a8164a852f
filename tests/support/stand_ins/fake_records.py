"""Synthetic result records in the shape of a real study, for tests of analysis and report.

The numbers are drawn from stated laws, so a test knows the truth: the reference recipe follows
`loss = offset + scale * (tokens / smallest budget) ** -exponent`, and a schedule is worth a stated
multiple of the target tokens. Nothing here was measured.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Record = dict[str, Any]

SEQ_LEN = 128
BATCH_SIZE = 32
TOTAL_STEPS = 512
BOUNDARY_STEPS = 4  # updates after which the spike is measured
VOCAB_SIZE = 2048


@dataclass(frozen=True)
class FakeTarget:
    """The laws that one synthetic target source obeys; losses in nats per token."""

    name: str
    offset: float
    scale: float
    exponent: float
    best_replay: float  # replay fraction with the lowest loss
    gain: float  # log of the most that replay multiplies the target tokens by
    best_allocation: float
    forgetting: float  # generic loss that the schedule without replay gives away


GSM8K = FakeTarget("gsm8k", 2.9, 1.25, 0.45, 0.6, 0.75, 0.5, 0.62)
BASQUE = FakeTarget("basque", 3.3, 1.05, 0.35, 0.3, 0.12, 1.0, 0.85)


@dataclass(frozen=True)
class FakeStudy:
    """Which runs a synthetic study holds; budgets in tokens."""

    targets: tuple[FakeTarget, ...] = (GSM8K,)
    budgets: tuple[int, ...] = (4096, 8192, 16384, 32768)
    candidate_budgets: tuple[int, ...] = (4096, 8192)
    replay_fractions: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    allocations: tuple[float, ...] = (1.0, 0.5, 0.25)
    epochs: tuple[float, ...] = (8.0, 16.0)
    reference_epochs: tuple[float, ...] = (16.0,)
    seeds: tuple[int, ...] = (0, 1, 2)
    noise: float = 0.02


def fake_records(study: FakeStudy = FakeStudy()) -> list[Record]:
    """Return one result record per run of `study`, uniform reference runs first."""
    return [record for target in study.targets for record in _target_records(study, target)]


def _target_records(study: FakeStudy, target: FakeTarget) -> Iterator[Record]:
    for tokens in study.budgets:
        for epochs in study.reference_epochs:
            for seed in study.seeds:
                yield _record(study, target, "uniform", tokens, epochs, seed, None, None)
    for tokens in study.candidate_budgets:
        for epochs in study.epochs:
            for allocation in study.allocations:
                for rho in study.replay_fractions:
                    for seed in study.seeds:
                        yield _record(
                            study, target, "two_stage", tokens, epochs, seed, rho, allocation
                        )


def target_loss(
    study: FakeStudy,
    target: FakeTarget,
    *,
    tokens: int,
    epochs: float,
    replay_fraction: float | None,
    allocation: float | None,
) -> float:
    """Return the noiseless held-out target loss of a run (replay_fraction None: the reference)."""
    worth = -0.25 * math.log2(epochs / study.epochs[-1]) ** 2
    if replay_fraction is not None and allocation is not None:
        distance = math.log(1 - target.best_replay) - math.log(1 - replay_fraction)
        span = math.log(1 - target.best_replay)
        worth += target.gain * (1 - (distance / span) ** 2)
        worth -= 0.08 * math.log2(allocation / target.best_allocation) ** 2
    units = tokens * math.exp(worth) / study.budgets[0]
    return target.offset + target.scale * units**-target.exponent


def _generic_loss(
    target: FakeTarget, *, epochs: float, replay: float | None, allocation: float | None
) -> float:
    if replay is None or allocation is None:
        return 4.22
    return 4.22 + target.forgetting * (1 - replay) ** 2 * allocation * (epochs / 16)


def _record(
    study: FakeStudy,
    target: FakeTarget,
    protocol: str,
    tokens: int,
    epochs: float,
    seed: int,
    rho: float | None,
    allocation: float | None,
) -> Record:
    schedule = {"protocol": protocol, "replay_fraction": rho, "stage2_allocation": allocation}
    overrides = {
        "schedule.protocol": protocol,
        "schedule.target_sequences": tokens // SEQ_LEN,
        "schedule.target_epochs": epochs,
        "data.target": target.name,
        "seed": seed,
    }
    if rho is not None:
        overrides |= {
            "schedule.replay_fraction": rho,
            "schedule.stage2_allocation": allocation,
        }
    name = f"{target.name}-{protocol}-{tokens}-e{epochs:g}-rho{rho}-alpha{allocation}-s{seed}"
    random = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    shared = np.random.default_rng(seed)
    common, own, own_generic = shared.normal(), random.normal(), random.normal()
    loss = target_loss(
        study,
        target,
        tokens=tokens,
        epochs=epochs,
        replay_fraction=rho,
        allocation=allocation,
    ) + study.noise * (0.7 * common + 0.7 * own)
    generic = _generic_loss(target, epochs=epochs, replay=rho, allocation=allocation)
    generic += study.noise * (0.7 * common + 0.3 * own_generic)
    start = _boundary_step(tokens, epochs, rho, allocation)
    curve, boundary = _course((loss, generic), start, rho, random)
    seconds = 14.0 + 0.4 * random.random()
    record: Record = {
        "id": hashlib.sha256(name.encode()).hexdigest()[:16],
        "name": name,
        "overrides": overrides,
        "seed": seed,
        "protocol": protocol,
        "replay_fraction": {"requested": rho, "realised": _realised_replay(tokens, epochs, rho)},
        "allocation": {
            "requested": allocation,
            "realised": 1.0 if allocation is None else allocation,
        },
        "target_tokens": tokens,
        "target_epochs": epochs,
        "total_steps": TOTAL_STEPS,
        "learning_rate": 3e-3,
        "weight_decay": 0.1,
        "losses": {"target": loss, "generic": generic},
        "bits_per_byte": {"target": loss / 2.31, "generic": generic / 2.48},
        "loss_tokens": {"target": 65536, "generic": 65536},
        "evaluation": hashlib.sha256(target.name.encode()).hexdigest()[:16],
        "target": target.name,
        "generic": "wiki",
        "model": {
            "name": "tiny",
            "body": 787_584,
            "embedding": 262_144,
            "head": 0,
            "total": 1_049_728,
        },
        "curve": curve,
        "boundary": boundary,
        "seconds": seconds,
        "time": {
            "train": 0.88 * seconds,
            "evaluate": 0.05 * seconds,
            "compile": 0.03 * seconds,
            "save": 0.02 * seconds,
            "data_wait": 0.02 * seconds,
        },
        "versions": {"replay_jax": "0.1.0", "jax": "0.10.2", "flax": "0.12.8", "python": "3.12.3"},
        "config": {
            "name": "fake",
            "seed": seed,
            "schedule": schedule | {"total_steps": TOTAL_STEPS, "target_epochs": epochs},
            "model": {"embed_dim": 128, "num_layers": 4, "vocab_size": VOCAB_SIZE},
            "optimizer": {"b1": 0.9, "b2": 0.95, "weight_decay": 0.1},
            "data": {"generic": "wiki", "target": target.name},
        },
    }
    record["ledger"] = _ledger(target.name, tokens, epochs, start, record)
    return record


def _realised_replay(tokens: int, epochs: float, rho: float | None) -> float:
    if rho is not None:
        return rho
    return 1 - tokens * epochs / (TOTAL_STEPS * BATCH_SIZE * SEQ_LEN)


def _boundary_step(
    tokens: int, epochs: float, rho: float | None, allocation: float | None
) -> int | None:
    if rho is None or allocation is None:
        return None
    stage2 = tokens * epochs * allocation / (1 - rho) / (BATCH_SIZE * SEQ_LEN)
    return TOTAL_STEPS - min(TOTAL_STEPS - 8, max(1, round(stage2)))


def _course(
    losses: tuple[float, float], start: int | None, rho: float | None, random: np.random.Generator
) -> tuple[list[dict[str, float | int | None]], Record | None]:
    """Evaluations every 32 steps and about the boundary (the last is the result), and that."""
    steps = set(range(32, TOTAL_STEPS + 1, 32))
    after = TOTAL_STEPS if start is None else min(start + BOUNDARY_STEPS, TOTAL_STEPS)
    if start is not None:
        steps |= {start, after}
    points, held_out = [], {}
    for step in sorted(steps):
        target, generic = _loss_at(losses, start, step)
        if step != TOTAL_STEPS:
            target += 0.01 * random.normal()
            generic += 0.01 * random.normal()
        if start is not None and rho is not None and start < step <= after < TOTAL_STEPS:
            generic += 0.3 * (1 - rho) ** 2
        held_out[step] = {"target": target, "generic": generic}
        seen = start is None or step > start
        points.append(
            {
                "step": step,
                **held_out[step],
                "train_target": target - 0.4 * step / TOTAL_STEPS if seen else None,
                "train_generic": generic - 0.05,
            }
        )
    if start is None or rho is None:
        return points, None
    cosine = 0.12 + 0.5 * rho + 0.03 * random.normal()
    boundary = {"step": start, "before": held_out[start], "after": held_out[after]}
    return points, {**boundary, "gradient_cosine": cosine}


def _loss_at(losses: tuple[float, float], start: int | None, step: int) -> tuple[float, float]:
    """Target and generic loss after `step` updates; the last step gives `losses`."""
    loss, generic = losses
    young = math.exp(-step / 60)
    if step == TOTAL_STEPS:
        return losses
    if start is None:
        special = loss + (math.log(VOCAB_SIZE) - loss) * young + 1.1 * (1 - step / TOTAL_STEPS)
        return special, generic + 3.0 * young
    plateau, base = loss + 1.1, min(generic, 4.25)
    if step <= start:
        return plateau + 2.2 * young, base + 3.0 * young
    share = (step - start) / (TOTAL_STEPS - start)
    return plateau - 1.1 * share**0.5, base + (generic - base) * share**0.3


def _ledger(target: str, tokens: int, epochs: float, start: int | None, record: Record) -> Record:
    """A ledger as `ledger.planned` writes it; row numbers are made up."""
    total, budget = TOTAL_STEPS * BATCH_SIZE, tokens // SEQ_LEN
    shown = round(budget * epochs)
    spans = [("all", 0, total, shown)]
    if start is not None:
        second = round(shown * record["allocation"]["realised"])
        boundary = start * BATCH_SIZE
        spans = [
            ("stage 1", 0, boundary, shown - second),
            ("stage 2", boundary, total - boundary, second),
        ]

    def entry(source: str, count: int) -> Record:
        unique = min(count, budget) if source == target else count
        return {
            "source": source,
            "sequences": count,
            "tokens": count * SEQ_LEN,
            "unique": unique,
            "repeated": count - unique,
            "epochs": count / budget if source == target else None,
            "first_row": 17 if count else None,
            "last_row": 4242 if count else None,
        }

    return {
        "batch_size": BATCH_SIZE,
        "total_steps": TOTAL_STEPS,
        "stages": [
            {
                "name": name,
                "first_sequence": first,
                "sequences": count,
                "entries": [entry("wiki", count - own), entry(target, own)],
            }
            for name, first, count, own in spans
        ],
        "totals": [entry("wiki", total - shown), entry(target, shown)],
        "requested": {
            "protocol": record["protocol"],
            "target_sequences": budget,
            "target_epochs": epochs,
            "replay_fraction": record["replay_fraction"]["requested"],
            "stage2_steps": None,
            "stage2_allocation": record["allocation"]["requested"],
            "placement": "paper",
            "aligned_replay_fraction": None,
        },
        "realised": {
            "replay_fraction": record["replay_fraction"]["realised"],
            "stage2_allocation": record["allocation"]["realised"],
            "stage2_duration": spans[-1][2] / total,
            "target_fraction": shown / total,
            "stage1_target_share": None if start is None else spans[0][3] / spans[0][2],
            "target_epochs": epochs,
            "stage2_steps": spans[-1][2] / BATCH_SIZE,
        },
    }
