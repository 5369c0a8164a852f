"""The whole chain in under a minute, for trying things: the result means nothing.

Tokenize, pre-train, replay at two fractions and two budgets, fit, report; two seeds, a model of
30,000 parameters, 48 steps of 16 x 64 tokens. Generic data is the prose of the standard library,
the target Python's own C headers.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import (
    analysis,
    model_sizes,
    paper_config,
    source,
    tokenizer,
    two_stage_schedule,
    warmup_stable_decay,
)
from replay_jax.config.grid import chain, grid, zipped

BATCH, SEQ_LEN, STEPS = 16, 64, 48


def get_config() -> ConfigDict:
    """Byte-level tokens need no tokenizer training."""
    config = paper_config()
    config.data.sources = {
        "python_docs": source("python_docs", "python"),
        "c_headers": source("c_headers", "python", validation_fraction=0.2),
    }
    config.data.tokenizer = tokenizer("bytes")
    config.data.store_dir = "runs/stores"
    config.data.generic, config.data.target = "python_docs", "c_headers"
    config.model = model_sizes("32,96,1,2,2,257")
    config.model.tied_embeddings = True
    config.schedule = two_stage_schedule(STEPS, warmup_stable_decay(1e-2))
    config.schedule.target_sequences = BATCH
    config.schedule.target_epochs = 4.0
    config.training.batch_size, config.training.seq_len = BATCH, SEQ_LEN
    config.training.document_mask = False
    config.training.log_every = 4
    config.training.evaluate_every = 12
    config.evaluation = {"sequences": 64, "batch_size": 32}
    config.checkpoint.every = 0
    config.execution.keep_states = True
    config.analysis = analysis({"replay_fraction": 0.0})
    return config


def sweep() -> list[dict]:
    """Three reference budgets (a law needs three points), two of them with replay as well."""
    budget, rho = "schedule.target_sequences", "schedule.replay_fraction"
    reference = grid({budget: [BATCH // 2, BATCH, 2 * BATCH]}, {rho: [0.0]})
    replay = grid({budget: [BATCH, 2 * BATCH]}, {rho: [0.5]})
    return grid(zipped({"seed": [1, 2], "data_seed": [1, 2]}), chain(reference, replay))
