"""One run, completely: the frozen configuration that everything inside is built from.

Each room owns its own dataclass; this file only composes them, checks what concerns several at
once, and says which of it is the run's identity.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from replay_jax.analysis.study.records import AnalysisConfig
from replay_jax.config.execution import ExecutionConfig
from replay_jax.data.tokens.config import DataConfig
from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig
from replay_jax.schedule.protocols import ScheduleConfig
from replay_jax.strict import from_plain, to_plain
from replay_jax.training.config import (
    CheckpointConfig,
    EvaluationConfig,
    LoggingConfig,
    MeshConfig,
    OptimizerConfig,
    TrainingConfig,
)

# What may differ between two runs with one result: how a run is carried out and looked at.
_NOT_IDENTITY = ("name", "data", "mesh", "checkpoint", "logging", "execution", "analysis")
_NOT_IDENTITY_TRAINING = ("log_every", "evaluate_every")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything about one run.

    Attributes:
        name: decoration for people; never identity.
        seed: model initialisation; only a label where training starts from `initial_weights`.
        data_seed: which rows a budget holds and the order of all rows.
        initial_weights: a folder (or Hugging Face id) with the Llama model that training starts
            from; "" for parameters drawn from the seed.
        data: sources, tokenizer, where stores are kept, which source is generic, which target.
        tasks: (name, file) pairs of multiple-choice tasks that every run is scored on
            (`judging.tasks`).
        schedule: what is drawn when, and at which learning rate.
        model: the decoder.
        optimizer: AdamW.
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
        names = [name for name, _ in self.tasks]
        if len(set(names)) != len(names):
            raise UserError(f"tasks must have different names, not {', '.join(names)}")


def resolve(plain: Mapping[str, Any]) -> ExperimentConfig:
    """The frozen configuration of complete nested dicts.

    Raises:
        UserError: a key is missing, unknown or of the wrong type, or values do not fit together.
    """
    return from_plain(ExperimentConfig, plain, path="config")


def result_identity(
    config: ExperimentConfig,
    fingerprints: Mapping[str, str],
    *,
    weights: str | None,
    tasks: Mapping[str, str],
) -> str:
    """The run's id: 16 hex digits of a hash over all that changes its result, and nothing else.

    Args:
        config: the run.
        fingerprints: source name to the fingerprint of its store (or of its declaration, where
            the data is not prepared), for the generic and target sources and any other in use.
        weights: fingerprint of the model that training starts from, None for one of the seed.
        tasks: digests of the files of tasks, by name.
    """
    facts = {key: value for key, value in to_plain(config).items() if key not in _NOT_IDENTITY}
    facts["training"] = {
        key: value for key, value in facts["training"].items() if key not in _NOT_IDENTITY_TRAINING
    }
    # Named only where they are used, so that runs of before they existed keep their ids.
    del facts["initial_weights"], facts["tasks"]
    if tasks:
        facts["tasks"] = dict(tasks)
    if weights is not None:
        del facts["seed"]
        facts["weights"] = weights
    facts["roles"] = {"generic": config.data.generic, "target": config.data.target}
    facts["fingerprints"] = dict(fingerprints)
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
