"""Does the value of replay change with model size?

The paper's model scaling: 150M to 1.9B at the same 4.3B tokens, FineMath, alpha = 1, learning
rate 3e-3 times the inverse width. Smaller scales have three sizes of their own.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import model_sizes
from replay_jax.config.grid import grid, zipped
from replay_jax.config.paper import repeated, sized, study_config, target_axis

TARGETS = ("finemath",)
PEAK = 3e-3  # of the smallest


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """The paper's mid-training settings."""
    config = study_config(scale, data_generic, data_target, TARGETS)
    config.analysis.published = "model_scaling"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1, after: int = 0) -> list[dict]:
    """20 runs for each seed (15 at smaller scales): model x rho; `after` seeds are passed over."""
    models = [model_sizes(name) for name in sized(scale).models]
    for model in models:
        model.tied_embeddings = scale != "full"
    peaks = [PEAK * models[0].embed_dim / model.embed_dim for model in models]
    sizes = zipped(
        {"model": [model.to_dict() for model in models], "schedule.learning_rate.peak": peaks}
    )
    rho = {"schedule.replay_fraction": [0.0, 0.25, 0.5, 0.75, 0.875]}
    return repeated(grid(target_axis(scale, data_target, TARGETS), sizes, rho), seeds, after=after)
