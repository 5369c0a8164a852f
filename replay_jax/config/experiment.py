"""One run, completely: the frozen configuration that everything inside is built from.

Each room owns its own dataclass; this file only composes them, checks what concerns several at
once, and refuses what does not go together (`identity` says which of it is the run).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.config.execution import ExecutionConfig
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.config import DataConfig
from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig
from replay_jax.model.trained import base_bytes
from replay_jax.schedule.protocols import ScheduleConfig
from replay_jax.strict import from_plain, nearest
from replay_jax.training.config import (
    CheckpointConfig,
    EvaluationConfig,
    LoggingConfig,
    OptimizerConfig,
    TrainingConfig,
)
from replay_jax.training.mesh.config import MeshConfig


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything about one run.

    Attributes:
        name: decoration for people; never identity.
        seed: model initialisation, and what dropout drops; where training starts from
            `initial_weights` it draws adapters (`model.lora`) alone, and is a label without either.
        data_seed: which rows a budget holds and the order of all rows.
        initial_weights: a folder (or Hugging Face id) with the model that training starts from;
            "" for parameters drawn from the seed.
        other_tokenizer: the beginning of the fingerprint of the data's tokenizer, where it is
            meant to be another than that of `initial_weights`; "" where it is not.
        data: sources, tokenizer, where stores are kept, which source is generic, which target.
        tasks: (name, file) pairs of multiple-choice tasks that every run is scored on
            (`judging.tasks`).
        schedule: what is drawn when, and at which learning rate.
        model: the decoder.
        optimizer: the rule of updates and its hyperparameters.
        training: batch and sequence length, in sequences and tokens.
        evaluation: the fixed held-out sets.
        mesh: how devices share the work.
        checkpoint: periodic saves inside an edge.
        logging: where metrics go besides the JSON lines.
        execution: processes and machines.
        analysis: which runs are the reference, what was tuned, the level of intervals.
    """

    name: str
    seed: int
    data_seed: int
    initial_weights: str
    other_tokenizer: str
    data: DataConfig
    tasks: tuple[tuple[str, str], ...]
    schedule: ScheduleConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    mesh: MeshConfig
    checkpoint: CheckpointConfig
    logging: LoggingConfig
    execution: ExecutionConfig
    analysis: AnalysisConfig

    def __post_init__(self) -> None:
        if self.training.seq_len > self.model.max_seq_len:
            raise UserError(
                f"training.seq_len {self.training.seq_len} is longer than model.max_seq_len "
                f"{self.model.max_seq_len}: shorten the one or raise the other"
            )
        if self.model.lora is not None:
            self._check_adapters()
        if self.holds_generic_to_base:
            self._check_base()
        sources = dict(self.data.sources)
        for name, _ in self.training.loss_weights:
            if name not in sources:
                raise UserError(
                    f"training.loss_weights names '{name}', which is no source: "
                    f"{nearest(name, sources)}"
                )
        for name, source in self.data.sources:
            self._check_whole_documents(name, source)
        names = [name for name, _ in self.tasks]
        if len(set(names)) != len(names):
            raise UserError(f"tasks must have different names, not {', '.join(names)}")

    @property
    def holds_generic_to_base(self) -> bool:
        """Whether a label of a generic row costs its KL to the model that training starts from."""
        return self.training.generic_objective == "kl"

    @property
    def training_bytes(self) -> int:
        """Bytes of parameters, gradients, moments, an average, and a base that lies beside them."""
        carried = self.holds_generic_to_base and self.model.lora is None
        beside = base_bytes(self.model) if carried else 0
        own = self.optimizer.kind.training_bytes(self.model)
        return own + self.training.average_bytes(self.model) + beside

    def _check_base(self) -> None:
        """Refuse to hold rows to a model that is not there, or as lanes, which have no room."""
        if not self.initial_weights:
            raise UserError(
                "training.generic_objective 'kl' compares with the model that training starts "
                "from: name one in initial_weights, or use 'next_token'"
            )
        if self.execution.population > 1:
            raise UserError(
                f"execution.population {self.execution.population} trains several models as one "
                "program, which has no place for the one that training.generic_objective 'kl' "
                "compares with: set it to 1"
            )

    def _check_adapters(self) -> None:
        """Refuse adapters beside nothing, and a rule of updates that is for whole matrices."""
        if not self.initial_weights:
            raise UserError(
                "model.lora adapts a model that is there: name one in initial_weights, or set "
                "model.lora to None"
            )
        if self.optimizer.name == "muon":
            raise UserError(
                "optimizer.name is muon, which is for whole matrices, and model.lora trains none: "
                "use adamw or lion"
            )

    def _check_whole_documents(self, name: str, source: SourceConfig) -> None:
        """Refuse rows that cannot hold the documents of a source, or would mix them."""
        if not source.masked:
            return
        assert source.max_tokens is not None
        if source.max_tokens > self.training.seq_len + 1:
            raise UserError(
                f"source '{name}' has max_tokens {source.max_tokens}, but a row holds "
                f"training.seq_len + 1 = {self.training.seq_len + 1} tokens, and its documents are "
                "not cut: lower the one or raise the other"
            )
        if not self.training.document_mask:
            raise UserError(
                f"rows of source '{name}' hold several whole documents, which must not see each "
                "other: set training.document_mask to True"
            )


def resolve(plain: Mapping[str, Any]) -> ExperimentConfig:
    """The frozen configuration of complete nested dicts.

    Raises:
        UserError: a key is missing, unknown or of the wrong type, or values do not fit together.
    """
    return from_plain(ExperimentConfig, plain, path="config")
