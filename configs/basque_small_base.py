"""A small English model to go on from: the base of configs/basque_small.py.

Half a million parameters of body, 12M tokens of generic English, one warmup-stable-decay schedule;
Basque is only measured. The files are expected under `data/` (experiments/basque_small says which).

    replay-jax run configs/basque_small_base.py
    replay-jax export runs/basque_small_base basque_small_base runs/basque_small_base/model \
        --dtype=float32
"""

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

BATCH, SEQ_LEN, STEPS = 32, 128, 3000


def get_config() -> ConfigDict:
    """Generic text alone, in one stage."""
    config = paper_config()
    config.name = "basque_small_base"
    config.data.sources = {
        "english": source("jsonl", "data/generic.jsonl.gz", validation_fraction=0.02),
        "basque": source("jsonl", "data/basque.jsonl.gz"),
    }
    config.data.tokenizer = tokenizer("bpe", vocab_size=2048, train_sources=("english",))
    config.data.store_dir = "runs/stores"
    config.data.generic, config.data.target = "english", "basque"
    config.model = model_sizes("128,352,2,4,4,2048")
    config.model.tied_embeddings = True
    config.schedule = base_schedule("english", "basque", STEPS, warmup_stable_decay(3e-3))
    config.training.batch_size, config.training.seq_len = BATCH, SEQ_LEN
    config.training.document_mask = False
    config.training.log_every, config.training.evaluate_every = 50, 1000
    config.evaluation = {"sequences": 256, "batch_size": 64}
    config.checkpoint.every = 500
    config.execution.keep_states = True
    config.analysis = analysis({"protocol": "stages"})
    config.analysis.tuned = ()
    return config


def sweep() -> list[dict]:
    """One run."""
    return [{}]
