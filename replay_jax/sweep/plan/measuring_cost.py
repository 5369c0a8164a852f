"""What the held-out sets of a plan cost, beside its training."""

import functools
from collections.abc import Iterable, Sequence

from replay_jax.model.architecture import ModelConfig
from replay_jax.model.flops import forward_flops_per_token
from replay_jax.sweep.plan.measured import HeldOutSet, evaluation_steps, run_sets
from replay_jax.sweep.plan.run import Run

# Numbers of runs that share a span, its first and last state (numbers of updates).
Span = tuple[Sequence[int], int, int]


class MeasuringCost:
    """Model FLOPs of the held-out sets of a sweep's runs.

    Multiple-choice tasks and gradient cosines, which are smaller, are not counted, nor adapters.
    """

    def __init__(self, runs: Sequence[Run]):
        self._runs = runs
        self._sets = [run_sets(run) for run in runs]
        self._steps = [evaluation_steps(run) for run in runs]

    def alone(self) -> float:
        """Of every run as if it shared nothing."""
        return sum(
            len(steps) * sum(_flops(run.config.model, item) for item in sets)
            for run, sets, steps in zip(self._runs, self._sets, self._steps, strict=True)
        )

    def once(self, spans: Iterable[Span]) -> float:
        """Of every held-out set at every state of the spans, each counted once."""
        seen: set[tuple[str, HeldOutSet]] = set()
        total = 0.0
        for numbers, start, stop in spans:
            owner = self._runs[numbers[0]]
            steps_of: dict[tuple[HeldOutSet, ...], set[int]] = {}
            for number in numbers:
                steps_of.setdefault(self._sets[number], set()).update(self._steps[number])
            for sets, steps in steps_of.items():
                states = [owner.node(step).digest for step in steps if start <= step <= stop]
                for item in sets:
                    new = {(state, item) for state in states} - seen
                    seen |= new
                    total += len(new) * _flops(owner.config.model, item)
        return total


@functools.cache
def _flops(model: ModelConfig, item: HeldOutSet) -> float:
    """Of measuring a set once."""
    each = forward_flops_per_token(model, item.seq_len, causal_half=False)
    return each * item.sequences * item.seq_len
