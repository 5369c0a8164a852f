"""What the held-out sets of a plan cost, beside its training."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

from replay_jax.model.architecture import ModelConfig
from replay_jax.model.flops import flops_per_token
from replay_jax.sweep.plan.measured import HeldOutSet, evaluation_steps, measurements, run_sets
from replay_jax.sweep.plan.run import Run

# A forward pass costs a third of training all parameters on the same tokens (`model.flops`).
_FORWARD = 1 / 3

# Runs that share a span, its first and last state (numbers of updates).
Span = tuple[Sequence[Run], int, int]


def evaluation_flops(spans: Iterable[Span]) -> float:
    """Model FLOPs of every held-out set at every state of the spans, each counted once.

    Multiple-choice tasks and gradient cosines, which are smaller, are not counted, nor adapters.
    """
    seen: set[tuple[str, HeldOutSet]] = set()
    total = 0.0
    for runs, start, stop in spans:
        for measured in measurements(runs, start, stop):
            for item in measured.sets:
                key = (measured.node.digest, item)
                if key not in seen:
                    seen.add(key)
                    total += _flops(runs[0].config.model, item)
    return total


def evaluation_flops_alone(run: Run) -> float:
    """The same of one run that shares nothing."""
    each = sum(_flops(run.config.model, item) for item in run_sets(run))
    return len(evaluation_steps(run)) * each


@functools.cache
def _flops(model: ModelConfig, item: HeldOutSet) -> float:
    """Of measuring a set once."""
    whole = dataclasses.replace(model, lora=None, frozen=())
    each = flops_per_token(whole, item.seq_len, causal_half=False)
    return _FORWARD * each.total * item.sequences * item.seq_len
