"""How a job ends, as a message: done, stopped, or failed for a reason that a reader understands."""

import traceback
from collections.abc import Callable

from replay_jax.sweep.store.kinds import DamagedState, kind_of
from replay_jax.sweep.train.edge import EdgeTrainer
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.sweep.train.messages import Advanced, Ended, Failed
from replay_jax.training.config import Profile


def work(
    trainer: EdgeTrainer,
    edge: int,
    job: EdgeJob,
    *,
    tell: Callable[[Advanced], None],
    should_stop: Callable[[], bool],
    profile: Profile | None,
) -> Ended | Failed:
    """Do one job; returns how it ended. `tell` is given the progress on the way."""
    try:
        end = trainer.train(
            job,
            on_progress=lambda progress: tell(Advanced(edge, progress)),
            should_stop=should_stop,
            profile=profile,
        )
    except Exception as error:
        return failure(edge, error, trainer.environment)
    return Ended(edge, end.step, end.finished)


def failure(edge: int, error: Exception, environment: str) -> Failed:
    """An exception as a message; `environment` is the digest of what was trained in, if known."""
    details = "".join(traceback.format_exception(error))
    state = error.digest if isinstance(error, DamagedState) else ""
    return Failed(edge, describe_error(error), details, kind_of(error), environment, state)


def describe_error(error: Exception) -> str:
    """An error in one line; running out of memory is said in plain words."""
    text = str(error).strip().split("\n")[0] or type(error).__name__
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return f"out of memory: {text}; use a smaller batch, more accumulation or fewer workers"
    if isinstance(error, FloatingPointError | ValueError):
        return text
    return f"{type(error).__name__}: {text}"
