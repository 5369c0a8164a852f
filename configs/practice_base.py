"""A small Qwen3-shaped model of generic English to go on from: the base of the practice studies.

A million parameters, one warmup-stable-decay schedule; conversations are only measured, which
gives the exported folder their template. The files are expected under `data/`, the tokenizer is
that of tools/chat_tokenizer.py (experiments/practice_instructions says which).

    python tools/chat_tokenizer.py data/generic.jsonl.gz runs/practice_tokenizer --vocab_size=2048
    replay-jax run configs/practice_base.py
    replay-jax export runs/practice_base practice_base runs/practice_base/model --dtype=float32
"""

import dataclasses

from ml_collections import ConfigDict

from replay_jax.config.defaults import (
    analysis,
    base_schedule,
    model_sizes,
    paper_config,
    source,
    tokenizer,
    warmup_stable_decay,
)
from replay_jax.model.architecture import Variant

TOKENIZER = "runs/practice_tokenizer"
BATCH, SEQ_LEN = 16, 384
VOCABULARY = 2050  # 2,048 and the two tokens around a turn
VALIDATION = 0.02


def generic(path: str) -> ConfigDict:
    """English text of public repositories."""
    return source("jsonl", path, validation_fraction=VALIDATION)


def conversations(path: str, **changes: object) -> ConfigDict:
    """Conversations that fit a row; longer ones are passed over and counted."""
    usual = {"max_tokens": SEQ_LEN + 1, "bad_documents": "pass_over", "validation_fraction": 0.1}
    return source("conversations", path, **{**usual, **changes})


def get_config(
    data_generic: str = "data/generic.jsonl.gz",
    data_target: str = "runs/practice/chats.jsonl",
    steps: int = 700,
) -> ConfigDict:
    """Generic text alone, in one stage."""
    config = paper_config()
    config.name = "practice_base"
    config.data.sources = {
        "english": generic(data_generic),
        "chats": conversations(data_target),
    }
    config.data.tokenizer = tokenizer("file", path=TOKENIZER, eos_token="<|im_end|>")
    config.data.store_dir = "runs/stores"
    config.data.generic, config.data.target = "english", "chats"
    config.model = model_sizes(f"128,384,3,4,2,{VOCABULARY}")
    config.model.update({"tied_embeddings": True, "max_seq_len": SEQ_LEN})
    config.model.variant = dataclasses.asdict(Variant(head_dim=32, qk_norm="head"))
    rate = warmup_stable_decay(3e-3, decay_fraction=0.2)
    config.schedule = base_schedule("english", "chats", steps, rate)
    config.training.update({"batch_size": BATCH, "seq_len": SEQ_LEN, "document_mask": True})
    config.training.log_every, config.training.evaluate_every = 20, 400
    config.evaluation = {"sequences": 128, "batch_size": 32}
    config.checkpoint.every = 100
    config.execution.keep_states = True
    config.analysis = analysis({"protocol": "stages"})
    config.analysis.tuned = ()
    return config


def sweep() -> list[dict]:
    """One run."""
    return [{}]
