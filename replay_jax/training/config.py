"""What a run is trained with: frozen, validated settings, free of JAX so that planning is quick."""

import math
from dataclasses import dataclass
from pathlib import Path

from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig
from replay_jax.training.mesh.config import nearest_divisor


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with global-norm clipping; learning rates come from the schedule.

    Defaults are those of arXiv 2603.04964 (Levanter's AdamConfig): decay is decoupled,
    multiplied by the learning rate and skips norms and embeddings. Raises UserError for values
    outside their ranges.
    """

    b1: float = 0.9
    b2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("b1", "b2"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise UserError(f"optimizer.{name} is {value}; it must be in [0, 1).")
        for name in ("epsilon", "clip_norm"):
            value = getattr(self, name)
            if not (value > 0.0 and math.isfinite(value)):
                raise UserError(f"optimizer.{name} is {value}; it must be positive and finite.")
        if not (self.weight_decay >= 0.0 and math.isfinite(self.weight_decay)):
            raise UserError(
                f"optimizer.weight_decay is {self.weight_decay}; it must be finite and at least 0."
            )


@dataclass(frozen=True)
class TrainingConfig:
    """Sizes of one update and how often the loop reports.

    `batch_size` counts sequences per update, `seq_len` labels per sequence; `accumulation` is
    the number of equal microbatches whose gradients are summed. `loss_weights` are (source,
    weight) pairs; a source that is not named counts 1. `log_every` and `evaluate_every` count
    steps; `evaluate_every` 0 evaluates only where a run ends.
    """

    batch_size: int
    seq_len: int
    accumulation: int = 1
    document_mask: bool = False
    loss_weights: tuple[tuple[str, float], ...] = ()
    log_every: int = 10
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "seq_len", "accumulation", "log_every"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.evaluate_every < 0:
            raise UserError(f"training.evaluate_every is {self.evaluate_every}; use 0 or more.")
        if self.batch_size % self.accumulation:
            near = nearest_divisor(self.batch_size, self.accumulation)
            raise UserError(
                f"training.batch_size {self.batch_size} is not a multiple of training.accumulation "
                f"{self.accumulation}; {near} is the nearest accumulation that divides it."
            )
        names = [name for name, _ in self.loss_weights]
        if len(set(names)) != len(names):
            raise UserError(f"training.loss_weights names a source twice: {', '.join(names)}.")
        for name, weight in self.loss_weights:
            if not (weight >= 0.0 and math.isfinite(weight)):
                raise UserError(f"training.loss_weights gives {name} {weight}; use 0 or more.")


@dataclass(frozen=True)
class EvaluationConfig:
    """The fixed held-out set of each source: how many sequences, and how many at a time."""

    sequences: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("sequences", "batch_size"):
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"evaluation.{name} is {value}; it must be at least 1.")


@dataclass(frozen=True)
class CheckpointConfig:
    """Periodic saves within a run: every how many steps (0 = none), and how many are kept."""

    every: int = 0
    keep: int = 1

    def __post_init__(self) -> None:
        if self.every < 0:
            raise UserError(f"checkpoint.every is {self.every}; it must be 0 (none) or more.")
        if self.keep < 1:
            raise UserError(f"checkpoint.keep is {self.keep}; it must be at least 1.")


@dataclass(frozen=True)
class LoggingConfig:
    """Where metrics go besides the JSON lines: TensorBoard event files, a W&B project ("" none)."""

    tensorboard: bool
    wandb_project: str


@dataclass(frozen=True)
class StepShape:
    """All that a compiled step depends on besides its mesh; equal shapes share one program.

    `batch_size` counts sequences over all hosts, `sources` is the number of data sources.
    """

    model: ModelConfig
    batch_size: int
    seq_len: int
    sources: int
    accumulation: int = 1
    document_mask: bool = False


@dataclass(frozen=True)
class Profile:
    """Trace the updates `first` to `last - 1` into a directory, for xprof."""

    first: int
    last: int
    directory: Path
