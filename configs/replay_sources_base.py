"""A small model of Python's documentation to go on from: the base of configs/replay_sources.py.

Nothing is downloaded: its text is that of packages that are installed with this one. The target of
the study that goes on from it is only measured. What it writes itself is replayed there, too.

    replay-jax run configs/replay_sources_base.py
    replay-jax export runs/replay_sources_base replay_sources_base runs/replay_sources_base/model \
        --dtype=float32
    replay-jax generate runs/replay_sources_base/model --out=runs/replay_sources_base/own.jsonl \
        --count=2000 --new_tokens=256 --seed=0
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

BATCH, SEQ_LEN, STEPS = 32, 128, 1000


def get_config(steps: int = STEPS) -> ConfigDict:
    """Generic text alone, in one stage, as often as that takes."""
    config = paper_config()
    config.name = "replay_sources_base"
    config.data.sources = {
        "original": source("python_docs", path="python,numpy,scipy"),
        "c_headers": source("c_headers", validation_fraction=0.15),
    }
    config.data.tokenizer = tokenizer("bpe", vocab_size=1024, train_sources=("original",))
    config.data.store_dir = "runs/stores"
    config.data.generic, config.data.target = "original", "c_headers"
    config.data.repeat_generic = True
    config.model = model_sizes("128,352,2,4,4,1024")
    config.model.tied_embeddings = True
    config.schedule = base_schedule("original", "c_headers", steps, warmup_stable_decay(3e-3))
    config.training.batch_size, config.training.seq_len = BATCH, SEQ_LEN
    config.training.document_mask = False
    config.training.log_every, config.training.evaluate_every = 20, 500
    config.evaluation = {"sequences": 80, "batch_size": 40}
    config.checkpoint.every = 250
    config.analysis = analysis({"protocol": "stages"})
    config.analysis.tuned = ()
    return config


def sweep() -> list[dict]:
    """One run."""
    return [{}]
