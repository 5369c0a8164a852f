"""What makes two runs the same run: all that changes a result, and nothing else."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.schedule.permutation import ORDER
from replay_jax.strict import to_plain
from replay_jax.training.numerics import NUMERICS

# What may differ between two runs with one result: how a run is carried out and looked at.
_NOT_IDENTITY = (
    "name", "data", "mesh", "checkpoint", "logging", "execution", "analysis", "other_tokenizer",
)  # fmt: skip
_NOT_IDENTITY_TRAINING = ("log_every", "evaluate_every")
# Named by content, not by where they lie.
_BY_CONTENT = ("initial_weights", "tasks")
# Fields with a value that stands for "as if there were no such field". At that value they are left
# out, so that a new field with a line here leaves the identity of every stored run as it was. A
# value of this table never changes.
NEUTRAL: Mapping[str, Any] = {
    "schedule.stage2_steps": None,
    "schedule.aligned_replay_fraction": None,
    "schedule.arithmetic": "exact",
    "schedule.stage2_learning_rate": None,
    "schedule.stages": [],
    "schedule.batch_sizes": [],
    "model.tied_embeddings": False,
    "model.initialization": "normal",
    "model.matmul_precision": "highest",
    "model.variant": None,
    "model.lora": None,
    "model.frozen": [],
    "optimizer.name": "adamw",
    "optimizer.moments_dtype": "float32",
    "training.loss_weights": [],
    "training.objective": "tokens",
    "training.generic_objective": "next_token",
    "training.average_last": 0.0,
    "training.dropout": 0.0,
}


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
    left_out = (*_NOT_IDENTITY, *_BY_CONTENT)
    facts = {key: value for key, value in to_plain(config).items() if key not in left_out}
    facts["training"] = {
        key: value for key, value in facts["training"].items() if key not in _NOT_IDENTITY_TRAINING
    }
    if set(config.schedule.batch_sizes) == {config.training.batch_size}:
        facts["schedule"] = {**facts["schedule"], "batch_sizes": []}
    facts = without_neutral(facts)
    facts["numerics"], facts["order"] = NUMERICS, ORDER
    if tasks:
        facts["tasks"] = dict(tasks)
    if weights is not None:
        # Adapters are drawn from the seed, and so is what is dropped.
        if config.model.lora is None and not config.training.dropout:
            del facts["seed"]
        facts["weights"] = weights
    facts["roles"] = {"generic": config.data.generic, "target": config.data.target}
    if config.data.held_out_generic:
        facts["roles"]["held_out_generic"] = config.data.held_out_generic
    facts["fingerprints"] = dict(fingerprints)
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_neutral(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values less those that are neutral; `prefix` is the dotted key of the whole."""
    found = {}
    for key, value in plain.items():
        name = prefix + key
        if isinstance(value, Mapping):
            found[key] = without_neutral(value, name + ".")
        elif name not in NEUTRAL or value != NEUTRAL[name]:
            found[key] = value
    return found
