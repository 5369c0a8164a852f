"""Does replay help a small model to learn to answer from few conversations, and keep its English?

The small base (configs/practice_base.py) is fine-tuned on instruction conversations, loss on the
answers, with and without generic text: a fresh optimizer, a cosine to zero, and replay lengthens
the run. The replay fraction is also the share of the loss (training.objective). Judged by held-out
losses of answers and of English, and by an English task (experiments/practice_instructions has the
commands that make the files). What is compared was chosen on the first seed, from a grid of epochs
and rates of which a budget drew the runs that say most, and of which more can be asked for:

    replay-jax run configs/practice_instructions.py --config.everything=True --budget=2.2e13flops
    replay-jax run configs/practice_instructions.py

On seeds that had no part in the choice, none and the best: --config.fresh=True.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis, continual_schedule, cosine
from replay_jax.config.grid import Overrides, chain, grid, zipped
from replay_jax.config.recipe import config_module

BASE = config_module(Path(__file__).with_name("practice_base.py"))
RHO, EPOCHS = "schedule.replay_fraction", "schedule.target_epochs"
PEAK = "schedule.learning_rate.peak"
SEEDS = zipped({"seed": [1, 2, 3], "data_seed": [1, 2, 3]})
FRESH = zipped({"seed": [4, 5, 6, 7], "data_seed": [4, 5, 6, 7]})
BUDGET, PEAKS = 64, [1e-3, 2e-3, 4e-3]
FEW, MANY = [2.0, 4.0, 8.0], 16.0
# Replay fraction and epochs, at the rate that was best with and without replay.
CHOSEN, PEAK_CHOSEN = [(0.0, 4.0), (0.25, 4.0), (0.5, 8.0), (0.75, 8.0)], 2e-3


def get_config(
    data_generic: str = "data/generic.jsonl.gz",
    data_target: str = "runs/practice/chats.jsonl",
    initial_weights: str = "runs/practice_base/model",
) -> ConfigDict:
    """Conversations alone."""
    config = BASE.get_config(data_generic, data_target)
    config.name = "practice_instructions"
    go_on(config, initial_weights, BUDGET)
    return config


def go_on(config: ConfigDict, model: str, budget: int) -> None:
    """From a finished model, target and replay mixed from the first step to the last."""
    config.initial_weights = config.data.tokenizer.path = model
    config.tasks = {"english": "runs/practice/english.jsonl"}
    config.schedule = continual_schedule(cosine(PEAKS[0]))
    config.schedule.target_sequences = budget
    config.training.update({"batch_size": 8, "objective": "rows"})
    config.training.log_every, config.training.evaluate_every = 16, 0
    config.checkpoint.every = 0
    config.execution.keep_states = False
    config.analysis = analysis({"replay_fraction": 0.0})
    config.analysis.tuned = (EPOCHS, PEAK)


def sweep(everything: bool = False, fresh: bool = False) -> list[Overrides]:
    """12 runs, or the 117 of the grid, or 8 on fresh seeds."""
    if fresh:
        return grid(FRESH, chosen([CHOSEN[0], CHOSEN[-1]], PEAK_CHOSEN))
    runs = grid_of(FEW, MANY, PEAKS) if everything else chosen(CHOSEN, PEAK_CHOSEN)
    return grid(SEEDS, runs)


def grid_of(few: list[float], many: float, peaks: list[float]) -> list[Overrides]:
    """Epochs and rates at every replay fraction; without replay as many epochs as replay costs."""
    replayed = grid({RHO: [0.0, 0.25, 0.5, 0.75], EPOCHS: few, PEAK: peaks})
    return chain(replayed, grid({RHO: [0.0], EPOCHS: [many], PEAK: peaks}))


def chosen(places: list[tuple[float, float]], peak: float) -> list[Overrides]:
    """Some replay fractions, each with its epochs, at one rate."""
    return chain(*(grid({RHO: [rho], EPOCHS: [epochs], PEAK: [peak]}) for rho, epochs in places))
