"""What a span of training is given: updates, compiled programs, and what its caller does."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh

from replay_jax.training.averaging import Averager
from replay_jax.training.config import OptimizerConfig
from replay_jax.training.metrics import StepRecord
from replay_jax.training.step import StepProgram, TrainState


@dataclass(frozen=True)
class Span:
    """Which updates to make: numbers `start` to `stop - 1` of a run.

    `learning_rates` and `resets` are indexed by the update's number in the run; a reset happens
    before its update. `points` are the numbers of completed updates at which the caller wants
    the state (evaluations, checkpoints). Updates from number `average_start` on are averaged;
    None: none is.
    """

    start: int
    stop: int
    learning_rates: np.ndarray
    resets: np.ndarray
    optimizer: OptimizerConfig
    source_names: tuple[str, ...]
    points: frozenset[int] = frozenset()
    average_start: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop <= min(len(self.learning_rates), len(self.resets)):
            raise ValueError(
                f"A span from {self.start} to {self.stop} needs {self.stop} learning rates and "
                f"resets, not {len(self.learning_rates)} and {len(self.resets)}."
            )


@dataclass(frozen=True)
class Programs:
    """The compiled step and optimizer reset on their mesh (`step.compile_train_step`, …).

    `kl_step` makes the updates of a run whose numbers are in `kl_updates`, where there are any.
    `average` is `averaging.compile_average`, None where no span averages.
    """

    mesh: Mesh
    step: StepProgram
    reset: Callable[[TrainState], TrainState]
    average: Averager | None = None
    kl_step: StepProgram | None = None
    kl_updates: frozenset[int] = frozenset()

    def update(self, index: int) -> StepProgram:
        """The program of update `index`."""
        if index not in self.kl_updates:
            return self.step
        assert self.kl_step is not None
        return self.kl_step


@dataclass(frozen=True)
class Hooks:
    """What the caller does along the way.

    `on_step` gets every update's record, in order, one step late. `on_point` gets the number of
    completed updates and the state, which it must not keep: the next update consumes it; every
    record up to there has been given out and found finite. `should_stop` is asked before each
    update, with the number of completed ones; several hosts must answer alike.
    """

    on_step: Callable[[StepRecord], None]
    on_point: Callable[[int, TrainState], None]
    should_stop: Callable[[int], bool]
