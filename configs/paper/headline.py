"""How much target data is replay worth, in fine-tuning and in mid-training: 1.87 and 2.06 times?

The paper's headline, whose two numbers are Flan's. The reference law is uniform mixing of 1/16 to
16 batches of target data (32 epochs, cosine 3e-3); by it are judged mid-training (one
warmup-stable-decay schedule, 32 epochs) and fine-tuning (own cosines, fresh optimizer, 64 epochs)
of one batch of target data, all at the end of 1024 steps, with and without replay. The authors'
law starts at one batch, below which their fine-tuning lies, so it extrapolates; at "tiny" some
of it is worth less than a quarter of a batch mixed evenly, or than a sixteenth.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import cosine
from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.paper import batches, repeated, study_config, target_axis

BATCHES = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16]
MID_TRAINING = [0.0, 0.25, 0.5, 0.75, 0.875]
# Stage 2 is 64, 96, 128, 192 and 256 steps.
FINE_TUNING = [0.0, 1 / 3, 1 / 2, 2 / 3, 3 / 4]
RHO = "schedule.replay_fraction"


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """Mid-training, with the reference runs marked by their protocol."""
    config = study_config(scale, data_generic, data_target)
    config.analysis.published = "headline"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """57 runs for each seed: target x (9 reference budgets, 5 rho, 5 rho)."""
    runs = chain(
        uniform(batches(scale, BATCHES)), grid({RHO: MID_TRAINING}), fine_tuning(FINE_TUNING)
    )
    return repeated(grid(target_axis(scale, data_target), runs), seeds)


def uniform(sequences: list[int]) -> list[dict]:
    """A constant mixture with each of these budgets: the reference law, and at one the control."""
    return grid(
        _recipe("uniform", cosine(3e-3), epochs=32.0),
        {"schedule.target_sequences": sequences},
        zipped({RHO: [None], "schedule.stage2_allocation": [None]}),
    )


def fine_tuning(fractions: list[float]) -> list[dict]:
    """Fine-tuning at each of these replay fractions."""
    stage2 = {
        "schedule.stage2_learning_rate": cosine(3e-4).to_dict(),
        "schedule.stage2_optimizer": "reset",
    }
    recipe = _recipe("fine_tuning", cosine(1e-3), epochs=64.0)
    return grid(recipe, [stage2], {RHO: fractions})


def _recipe(protocol: str, learning_rate: ConfigDict, *, epochs: float) -> list[dict]:
    return [
        {
            "schedule.protocol": protocol,
            "schedule.learning_rate": learning_rate.to_dict(),
            "schedule.target_epochs": epochs,
        }
    ]
