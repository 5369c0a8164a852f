"""Complete configurations to start a recipe from; a recipe changes what it studies.

Settings are those of arXiv 2603.04964 (section 3.4 and appendices, as read in the authors' code)
unless a comment says otherwise.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict, FieldReference

from replay_jax.hub.folder import pretrained_config
from replay_jax.model.architecture import ModelConfig
from replay_jax.model.lora import MATRICES
from replay_jax.model.presets import preset, scanned, shape_model
from replay_jax.strict import to_plain


def sized_model(name_or_shape: str) -> ModelConfig:
    """The model of a preset ("150m") or of a shape ("D,F,L,H,KV,VOCAB")."""
    return shape_model(name_or_shape) if "," in name_or_shape else preset(name_or_shape)


def model_sizes(name_or_shape: str) -> ConfigDict:
    """The same as config values."""
    return ConfigDict(to_plain(sized_model(name_or_shape)))


def pretrained_model(name: str) -> ConfigDict:
    """The model of a folder or Hugging Face id, for `config.model` beside `initial_weights`.

    Computed in bfloat16, layers scanned and only matrix products kept, as the larger presets are.
    Fetches the model's files where the hub's cache lacks them.
    """
    found = pretrained_config(name, download=True)
    return ConfigDict(to_plain(scanned(dataclasses.replace(found, compute_dtype="bfloat16"))))


def lora(rank: int = 16, alpha: float = 32.0, matrices: tuple[str, ...] = MATRICES) -> ConfigDict:
    """Adapters for `config.model.lora`, beside every matrix of a layer unless some are named."""
    return ConfigDict({"rank": rank, "alpha": alpha, "matrices": matrices})


def source(kind: str, path: str = "", **changes: Any) -> ConfigDict:
    """One source of documents, with 5 % of the documents held out unless changed."""
    values = {
        "kind": kind,
        "path": path,
        "text_field": "text",
        "split": "train",
        "separator": "",
        "validation_fraction": 0.05,
        "validation_path": "",
        "train_fraction": 1.0,
        "max_documents": None,
        "bad_documents": "refuse",
        "template": "",
        "loss_fields": (),
        "loss_on": "assistant",
        "max_tokens": None,
        "truncate": False,
    }
    return ConfigDict({**values, **changes})


def tokenizer(kind: str, **changes: Any) -> ConfigDict:
    """The tokenizer that all sources share: "bytes", "bpe" or "file"."""
    values = {
        "kind": kind,
        "path": "",
        "eos_token": "",
        "bos_token": "",
        "vocab_size": 4096,
        "train_sources": (),
        "train_bytes": 32 * 2**20,
        "chat_template": "",
    }
    return ConfigDict({**values, **changes})


def warmup_stable_decay(peak: float, decay_fraction: float = 0.1) -> ConfigDict:
    """Warmup over 1 % of the span, constant, then linear to zero (the paper's mid-training)."""
    return _learning_rate(peak, "linear", decay_fraction)


def cosine(peak: float) -> ConfigDict:
    """Warmup over 1 % of the span, then a cosine to zero (the paper's fine-tuning)."""
    return _learning_rate(peak, "cosine", None)


def continual_schedule(learning_rate: ConfigDict) -> ConfigDict:
    """Going on from a finished model with target data alone: a recipe adds replay and sizes."""
    schedule = two_stage_schedule(None, learning_rate)
    schedule.protocol = "continual"
    return schedule


def base_schedule(
    generic: str, target: str, total_steps: int, learning_rate: ConfigDict
) -> ConfigDict:
    """A base to go on from: generic text alone in one stage; the target is only measured."""
    schedule = two_stage_schedule(total_steps, learning_rate)
    stage = {
        "steps": float(total_steps),
        "shares": [[generic, 1.0, 1.0], [target, 0.0, 0.0]],
        "learning_rate": None,
        "optimizer_start": "continue",
    }
    unused = ("target_sequences", "target_epochs", "replay_fraction", "stage2_allocation")
    schedule.update({"protocol": "stages", "stages": [stage], **dict.fromkeys(unused)})
    return schedule


def two_stage_schedule(total_steps: int | None, learning_rate: ConfigDict) -> ConfigDict:
    """The no-replay mid-training baseline: one batch of target rows is set by the recipe."""
    return ConfigDict(
        {
            "protocol": "two_stage",
            "total_steps": total_steps,
            "target_sequences": 1024,
            "target_epochs": 32.0,
            "replay_fraction": 0.0,
            "stage2_steps": None,
            "stage2_allocation": 1.0,
            "placement": "paper",
            "aligned_replay_fraction": None,
            "arithmetic": "exact",
            "learning_rate": learning_rate,
            "stage2_learning_rate": None,
            "stage2_optimizer": "continue",
            "stages": (),
            "batch_sizes": (),
        }
    )


def paper_config() -> ConfigDict:
    """The paper's mid-training at 150M: 1024 steps of 1024 x 4096 tokens, 4M target tokens.

    The sources are the files that the paper names, expected under `data/`: Dolma v1.7's C4,
    StarCoder and Flan parts and FineMath-3plus, of each about what is drawn and held out at most;
    the tokenizer is Llama 3.1's, with a token that begins and one that ends every document, as the
    authors' library puts them.
    """
    return ConfigDict(
        {
            "name": "paper",
            "seed": 0,
            "data_seed": 42,
            "initial_weights": "",
            "other_tokenizer": "",
            "data": {
                "sources": {
                    "c4": _paper_source("jsonl", "dolma-v1_7/c4-*.json.gz", 0.035),
                    "finemath": _paper_source("parquet", "finemath-3plus/*.parquet", 0.004),
                    "starcoder": _paper_source("jsonl", "dolma-v1_7/starcoder-*.json.gz", 0.001),
                    "flan": _paper_source("jsonl", "dolma-v1_7/tulu_flan-*.json.gz", 0.008),
                },
                "tokenizer": tokenizer(
                    "file",
                    path="meta-llama/Llama-3.1-8B",
                    eos_token="<|end_of_text|>",
                    bos_token="<|begin_of_text|>",
                ),
                "store_dir": "data/stores",
                # A name, or weights by name.
                "generic": FieldReference("c4", field_type=object),
                "target": "finemath",
                "held_out_generic": "",
                "repeat_generic": False,
                "drop_copies": "none",
            },
            "tasks": {},
            "schedule": two_stage_schedule(1024, warmup_stable_decay(3e-3)),
            "model": model_sizes("150m"),
            "optimizer": adamw(),
            "training": _paper_training(),
            "evaluation": {"sequences": 10_240, "batch_size": 1024},
            "mesh": {"replica": 0, "fsdp": 0, "tensor": 1},
            "checkpoint": {"every": 128, "keep": 1},
            "logging": {"tensorboard": True, "wandb_project": ""},
            "execution": local_execution(),
            "analysis": analysis({"protocol": "uniform"}),
        }
    )


def _paper_training() -> ConfigDict:
    return ConfigDict(
        {
            "batch_size": 1024,
            "seq_len": 4096,
            "accumulation": 1,
            "document_mask": True,
            "loss_weights": {},
            "objective": "tokens",
            "generic_objective": "next_token",
            "average_last": 0.0,
            "dropout": 0.0,
            "log_every": 1,
            "evaluate_every": 52,
        }
    )


def _paper_source(kind: str, files: str, train_fraction: float) -> ConfigDict:
    """A corpus of which a share is tokenized.

    C4 has 134.1B tokens, and 1024 steps draw 4.3B; a held-out set has 42M. The fraction held out
    is the same everywhere, so no source trains on a copy of what another holds out.
    """
    return source(kind, f"data/{files}", validation_fraction=0.004, train_fraction=train_fraction)


def adamw() -> ConfigDict:
    """AdamW as in the paper (appendix; Levanter's defaults)."""
    return ConfigDict(
        {
            "name": "adamw",
            "moments_dtype": "float32",
            "b1": 0.9,
            "b2": 0.95,
            "epsilon": 1e-8,
            "weight_decay": 0.1,
            "clip_norm": 1.0,
        }
    )


def local_execution() -> ConfigDict:
    """This machine, with workers and threads chosen by the sweep's own rule."""
    return ConfigDict(
        {
            "executor": "local",
            "workers": 0,
            "threads": 0,
            "keep_states": False,
            "ray_resources": (),
            "ray_slice": None,
            "population": 1,
            "keep_ends": True,
        }
    )


def analysis(reference: dict[str, Any]) -> ConfigDict:
    """What is compared: the reference runs, epochs tuned everywhere, 90 % intervals, no margin.

    `reference` maps record fields to the value that marks a reference run, such as
    {"protocol": "uniform"} or {"replay_fraction": 0.0}.
    """
    return ConfigDict(
        {
            "reference": reference,
            "tuned": ("schedule.target_epochs",),
            "level": 0.9,
            "margin": 0.0,
            "published": "",
            "early_stopping": False,
            "axes": (),
        },
        allow_dotted_keys=True,
    )


def _learning_rate(peak: float, shape: str, decay_fraction: float | None) -> ConfigDict:
    return ConfigDict(
        {
            "peak": peak,
            "shape": shape,
            "warmup_fraction": 0.01,
            "decay_fraction": decay_fraction,
            "final_ratio": 0.0,
        }
    )
