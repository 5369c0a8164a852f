"""On two CPU cores in ten minutes: how much target data is replay worth, and how sure is that?

Generic data is the documentation of Python, NumPy and SciPy (docstrings, help topics), the target
the C and C++ headers of all packages that are installed with this one: nothing is downloaded.
Mid-training protocol: one warmup-stable-decay schedule, all target rows in stage 2, total steps
fixed, many epochs over a small budget.
The reference curve is the no-replay recipe at six budgets; epochs are tuned for every replay
fraction and budget; three seeds share nothing but the data. Learning rate and cooldown were tuned
for the no-replay baseline (experiments/quickstart/README.md). Cost: see
experiments/quickstart/README.md for the measured time and result. On other seeds:
--config.fresh=True.
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

SEEDS, FRESH = [1, 2, 3], [4, 5, 6]
BATCH, SEQ_LEN, STEPS = 32, 128, 320
PEAK, COOLDOWN = 1e-3, 0.05


def get_config() -> ConfigDict:
    """A decoder of half a million parameters on 1.3M tokens, 4,096 of them target."""
    config = paper_config()
    config.data.sources = {
        "python_docs": source("python_docs", path="python,numpy,scipy"),
        "c_headers": source("c_headers", validation_fraction=0.15),
    }
    config.data.tokenizer = tokenizer("bpe", vocab_size=1024, train_sources=("python_docs",))
    config.data.store_dir = "runs/stores"
    config.data.generic, config.data.target = "python_docs", "c_headers"
    config.model = model_sizes("128,352,2,4,4,1024")
    config.model.tied_embeddings = True
    config.schedule = two_stage_schedule(STEPS, warmup_stable_decay(PEAK, COOLDOWN))
    config.schedule.target_sequences = BATCH
    config.schedule.target_epochs = 16.0
    config.training.batch_size, config.training.seq_len = BATCH, SEQ_LEN
    config.training.document_mask = False
    config.training.log_every = 8
    config.training.evaluate_every = 160
    config.evaluation = {"sequences": 80, "batch_size": 40}
    config.checkpoint.every = 100
    config.execution.keep_states = True
    config.analysis = analysis({"replay_fraction": 0.0})
    return config


def sweep(fresh: bool = False) -> list[dict]:
    """Epochs tuned in every cell; the reference has four budgets more than the replay runs."""
    rho, budget, epochs = (
        "schedule.replay_fraction",
        "schedule.target_sequences",
        "schedule.target_epochs",
    )
    reference = chain(
        grid({budget: [BATCH // 2]}, {rho: [0.0]}, {epochs: [32.0, 48.0, 64.0]}),
        grid({budget: [3 * BATCH // 4]}, {rho: [0.0]}, {epochs: [16.0, 24.0, 32.0, 48.0]}),
        grid({budget: [BATCH]}, {rho: [0.0]}, {epochs: [16.0, 24.0, 32.0]}),
        grid({budget: [3 * BATCH // 2]}, {rho: [0.0]}, {epochs: [12.0, 16.0, 24.0, 32.0]}),
        grid({budget: [2 * BATCH]}, {rho: [0.0]}, {epochs: [12.0, 16.0, 24.0]}),
        grid({budget: [4 * BATCH]}, {rho: [0.0]}, {epochs: [12.0, 16.0, 24.0]}),
    )
    # The best number of epochs falls as more is replayed.
    replay = chain(
        grid({budget: [BATCH // 2]}, {rho: [0.5]}, {epochs: [24.0, 32.0, 48.0]}),
        grid({budget: [BATCH // 2]}, {rho: [0.75]}, {epochs: [24.0, 32.0, 48.0]}),
        grid({budget: [BATCH // 2]}, {rho: [0.875]}, {epochs: [24.0, 32.0, 48.0]}),
        grid({budget: [BATCH]}, {rho: [0.5, 0.75]}, {epochs: [16.0, 24.0, 32.0]}),
    )
    numbers = FRESH if fresh else SEEDS
    seeds = zipped({"seed": numbers, "data_seed": numbers})
    return grid(seeds, chain(reference, replay))
