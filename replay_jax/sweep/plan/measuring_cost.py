"""What the held-out sets of a plan cost, beside its training."""

import dataclasses
from collections.abc import Iterable, Sequence

from replay_jax.model.flops import flops_per_token
from replay_jax.sweep.plan.measured import measurements
from replay_jax.sweep.plan.run import Run

# A forward pass costs a third of training all parameters on the same tokens (`model.flops`).
_FORWARD = 1 / 3

# Runs that share a span, its first and last state (numbers of updates).
Span = tuple[Sequence[Run], int, int]


def evaluation_flops(spans: Iterable[Span]) -> float:
    """Model FLOPs of every held-out set at every state of the spans, each counted once.

    Multiple-choice tasks and gradient cosines, which are smaller, are not counted, nor adapters.
    """
    seen: set[str] = set()
    total = 0.0
    for runs, start, stop in spans:
        for measured in measurements(runs, start, stop):
            for item in measured.sets:
                key = item.key(measured.node.digest)
                if key not in seen:
                    seen.add(key)
                    model = dataclasses.replace(runs[0].config.model, lora=None, frozen=())
                    each = flops_per_token(model, item.seq_len, causal_half=False)
                    total += _FORWARD * each.total * item.sequences * item.seq_len
    return total
