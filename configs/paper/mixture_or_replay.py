"""Two stages with replay, early target data or a constant mixture of the same rows: which is best?

All with the learning rate of mid-training (warmup, constant, linear decay over the last tenth), one
batch of target data and 1024 steps; epochs are tuned for each. The mixture is stage 2 spread over
the whole run: what replay gains over it is what having two stages is worth. Not a study of the
paper. Single cells, on seeds after those that picked them: --config.after=3 --config.seeds=4
--config.mixture_epochs=32 --config.replay_epochs=32 --config.rho=.875 --config.alpha=.5.
"""

from ml_collections import ConfigDict

from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.paper import repeated, study_config, target_axis
from replay_jax.errors import UserError


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """Mid-training, whose runs are compared with constant mixtures."""
    return study_config(scale, data_generic, data_target)


def sweep(
    scale: str = "full",
    data_target: str = "",
    seeds: int = 1,
    after: int = 0,
    mixture_epochs: str = "16,24,32,48,64",
    replay_epochs: str = "16,32,48,64",
    rho: str = "0,.75,.875",
    alpha: str = ".5,1",
) -> list[dict]:
    """87 runs for each seed: target x (5 epochs of the mixture, alpha x rho x 4 epochs).

    Raises:
        UserError: a list of numbers that cannot be read.
    """
    epochs = "schedule.target_epochs"
    uniform = {"schedule.protocol": ["uniform"], epochs: _numbers("mixture_epochs", mixture_epochs)}
    neither = zipped({"schedule.replay_fraction": [None], "schedule.stage2_allocation": [None]})
    staged = {
        "schedule.stage2_allocation": _numbers("alpha", alpha),
        "schedule.replay_fraction": _numbers("rho", rho),
        epochs: _numbers("replay_epochs", replay_epochs),
    }
    runs = chain(grid(uniform, neither), grid(staged))
    return repeated(grid(target_axis(scale, data_target), runs), seeds, after=after)


def _numbers(name: str, given: object) -> list[float]:
    """Of "16,32", which the command line has made a tuple of, or of one number."""
    try:
        return [float(part) for part in str(given).strip("()").split(",")]
    except ValueError:
        raise UserError(f"{name} must be numbers such as 16,32, not {given!r}") from None
