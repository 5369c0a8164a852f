"""What a run is trained with: frozen, validated settings, free of JAX so that planning is quick."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig
from replay_jax.model.trained import base_bytes, parameter_bytes, trained_bytes, trained_counts
from replay_jax.training.mesh.config import nearest_divisor

OPTIMIZERS = ("adamw", "muon", "lion", "adafactor")
_MOMENT_BYTES = {"float32": 4, "bfloat16": 2}
# A bfloat16 keeps 8 bits: an average that takes in 1 - b of a value does not move towards one
# nearer than a share of 2^-8 / (1 - b), at .95 8 %, at .99 39 %, at .999 four times itself.
_BFLOAT16_MOST_B = 0.99


@dataclass(frozen=True)
class OptimizerKind:
    """What of an optimizer is compiled in: its rule and how its moments are kept."""

    name: str = "adamw"
    moments_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS and not re.fullmatch(r"[\w.]+:\w+", self.name):
            raise UserError(
                f"optimizer.name is '{self.name}'; use {', '.join(OPTIMIZERS)}, or module:function "
                "for one of your own."
            )
        if self.moments_dtype not in _MOMENT_BYTES:
            raise UserError(
                f"optimizer.moments_dtype is '{self.moments_dtype}'; use float32 or bfloat16."
            )

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the user's own."""
        return ":" in self.name

    def state_bytes(self, model: ModelConfig) -> int:
        """Bytes kept of a model's trained parameters: counters aside exact for AdamW, Muon, Lion.

        Adafactor has at most one number per parameter; one of the user's own counts as AdamW.
        """
        counts = trained_counts(model)
        norms = model.embed_dim * (2 * model.num_layers + 1)
        one_each, muon = counts.total, 2 * counts.total - (counts.body - norms)
        numbers = {"lion": one_each, "adafactor": one_each, "muon": muon}
        return _MOMENT_BYTES[self.moments_dtype] * numbers.get(self.name, 2 * counts.total)

    def training_bytes(self, model: ModelConfig) -> int:
        """Bytes of a model's parameters, of the gradients of those trained, and beside them."""
        return parameter_bytes(model) + trained_bytes(model) + self.state_bytes(model)


ADAMW = OptimizerKind()


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer with global-norm clipping; learning rates come from the schedule.

    Defaults are those of arXiv 2603.04964 (Levanter's AdamConfig). Raises UserError for values
    outside their ranges.

    Attributes:
        b1: decay of the average of gradients; Muon's momentum too; Adafactor has none.
        b2: decay of the average of squared gradients; Adafactor has none.
        epsilon: added to the root of that average; Adafactor has none.
        weight_decay: decoupled, multiplied by the learning rate; skips norms and embeddings.
        clip_norm: the norm of all gradients together is cut to at most this.
        name: "adamw", "muon", "lion", "adafactor", or module:function of one of your own, which is
            given clipped gradients and the learning rate alone.
        moments_dtype: of the averages that are kept, "float32" or "bfloat16".
    """

    b1: float = 0.9
    b2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    name: str = "adamw"
    moments_dtype: str = "float32"

    @property
    def kind(self) -> OptimizerKind:
        """What of it is compiled in."""
        return OptimizerKind(self.name, self.moments_dtype)

    def __post_init__(self) -> None:
        if self.kind.moments_dtype == "bfloat16" and max(self.b1, self.b2) > _BFLOAT16_MOST_B:
            raise UserError(
                f"optimizer.b1 {self.b1} or b2 {self.b2} is too near 1 for optimizer.moments_dtype "
                f"bfloat16, which cannot follow so slow an average; use at most {_BFLOAT16_MOST_B}."
            )
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


OBJECTIVES = ("tokens", "rows")
GENERIC_OBJECTIVES = ("next_token", "kl")


@dataclass(frozen=True)
class TrainingConfig:
    """Sizes of one update and how often the loop reports.

    Attributes:
        batch_size: sequences per update; `schedule.batch_sizes` may give stages others.
        seq_len: labels per sequence.
        accumulation: equal microbatches whose gradients are summed to one update.
        document_mask: whether a token attends to its own document only.
        loss_weights: (source, weight) pairs; a source that is not named counts 1.
        objective: what a source's share of the loss is where not all labels count: that of its
            labels that do ("tokens": each weighs the same), or that of its rows ("rows": a label
            weighs more the fewer of a row count, by the average row of its source).
        generic_objective: what a label of a generic row costs: the nats of its next token
            ("next_token"), or the KL in nats from the model that training starts from to the one
            that is trained, over all that could come next ("kl"; target rows keep next tokens).
        average_last: share of a run's updates, at its end, over whose parameters it is averaged: it
            is measured and kept as their mean (`averaging`); 0: as its last.
        dropout: rate at which numbers of embeddings, and of what attention and MLP add, are zeroed
            in training (`layers.dropped`); 0: none.
        log_every: steps between two lines of metrics.
        evaluate_every: steps between two held-out evaluations; 0: only where a run ends.
    """

    batch_size: int
    seq_len: int
    accumulation: int = 1
    document_mask: bool = False
    loss_weights: tuple[tuple[str, float], ...] = ()
    objective: str = "tokens"
    generic_objective: str = "next_token"
    average_last: float = 0.0
    dropout: float = 0.0
    log_every: int = 10
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "seq_len", "accumulation", "log_every"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.evaluate_every < 0:
            raise UserError(f"training.evaluate_every is {self.evaluate_every}; use 0 or more.")
        self._check_shares()
        if self.batch_size % self.accumulation:
            near = nearest_divisor(self.batch_size, self.accumulation)
            raise UserError(
                f"training.batch_size {self.batch_size} is not a multiple of training.accumulation "
                f"{self.accumulation}; {near} is the nearest accumulation that divides it."
            )
        for name, known in (("objective", OBJECTIVES), ("generic_objective", GENERIC_OBJECTIVES)):
            value = getattr(self, name)
            if value not in known:
                raise UserError(f"training.{name} is {value!r}; use one of {', '.join(known)}.")
        names = [name for name, _ in self.loss_weights]
        if len(set(names)) != len(names):
            raise UserError(f"training.loss_weights names a source twice: {', '.join(names)}.")
        for name, weight in self.loss_weights:
            if not (weight >= 0.0 and math.isfinite(weight)):
                raise UserError(f"training.loss_weights gives {name} {weight}; use 0 or more.")

    def _check_shares(self) -> None:
        """Refuse shares of updates and of numbers that are none."""
        if not 0.0 <= self.average_last <= 1.0:
            raise UserError(
                f"training.average_last is {self.average_last}; it is a share of the updates, from "
                "0 (no average) to 1."
            )
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(
                f"training.dropout is {self.dropout}; it must be in [0, 1), such as 0.1."
            )

    def accumulation_of(self, batch_size: int) -> int:
        """Microbatches of a batch of another size: the fewest of no more rows than others have."""
        rows = self.batch_size // self.accumulation
        least = range(math.ceil(batch_size / rows), batch_size + 1)
        return next(n for n in least if batch_size % n == 0)

    def average_start(self, steps: int) -> int:
        """Updates before the first whose parameters are averaged, of a run of `steps`.

        `steps` itself where nothing is; a share that is not 0 averages one update at least.
        """
        return steps - (max(1, round(self.average_last * steps)) if self.average_last else 0)

    def average_bytes(self, model: ModelConfig) -> int:
        """Bytes of the average of a model's trained parameters; 0 where there is none."""
        return trained_bytes(model) if self.average_last else 0


@dataclass(frozen=True)
class EvaluationConfig:
    """The fixed held-out set of each source.

    Attributes:
        sequences: how many it has.
        batch_size: how many are evaluated at a time.
    """

    sequences: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("sequences", "batch_size"):
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"evaluation.{name} is {value}; it must be at least 1.")


@dataclass(frozen=True)
class CheckpointConfig:
    """Periodic saves within a run.

    Attributes:
        every: steps between two; 0: none.
        keep: how many of the newest are kept.
    """

    every: int = 0
    keep: int = 1

    def __post_init__(self) -> None:
        if self.every < 0:
            raise UserError(f"checkpoint.every is {self.every}; it must be 0 (none) or more.")
        if self.keep < 1:
            raise UserError(f"checkpoint.keep is {self.keep}; it must be at least 1.")


@dataclass(frozen=True)
class LoggingConfig:
    """Where metrics go besides the JSON lines.

    Attributes:
        tensorboard: whether event files are written.
        wandb_project: of Weights & Biases; "" for none.
    """

    tensorboard: bool
    wandb_project: str


@dataclass(frozen=True)
class StepShape:
    """All that a compiled step depends on besides its mesh; equal shapes share one program.

    `batch_size` counts sequences over all hosts, `sources` is the number of data sources;
    `kl_sources` are the numbers of those whose rows are held to the base model (`model.kl`).
    """

    model: ModelConfig
    batch_size: int
    seq_len: int
    sources: int
    accumulation: int = 1
    document_mask: bool = False
    optimizer: OptimizerKind = OptimizerKind()
    dropout: float = 0.0
    kl_sources: tuple[int, ...] = ()

    @property
    def carries_base(self) -> bool:
        """Whether a base model lies beside the state; with adapters it is the frozen part of it."""
        return bool(self.kl_sources) and self.model.lora is None

    def training_bytes(self, *, average: bool) -> int:
        """Bytes of all that training keeps of the model: state, gradients, a base, an average."""
        base = base_bytes(self.model) if self.carries_base else 0
        kept = trained_bytes(self.model) if average else 0
        return self.optimizer.training_bytes(self.model) + base + kept


@dataclass(frozen=True)
class Profile:
    """Trace the updates `first` to `last - 1` into a directory, for xprof."""

    first: int
    last: int
    directory: Path
