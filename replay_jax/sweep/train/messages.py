"""What an executor tells the coordinator about its edges."""

import dataclasses

from replay_jax.sweep.store.kinds import Kind
from replay_jax.training.metrics import Progress


@dataclasses.dataclass(frozen=True)
class Started:
    """An edge has begun to be worked on; `where` names the process or machine."""

    edge: int
    where: str


@dataclasses.dataclass(frozen=True)
class Advanced:
    """An edge has come further."""

    edge: int
    progress: Progress


@dataclasses.dataclass(frozen=True)
class Ended:
    """A job has ended at `step`: finished, or stopped on request with its state saved."""

    edge: int
    step: int
    finished: bool


@dataclasses.dataclass(frozen=True)
class Failed:
    """A job has failed; `reason` is one line, `details` a traceback.

    Attributes:
        kind: whether it would fail again; a mistake is what the user asked for and cannot be, such
            as a batch that does not divide.
        environment: digest of what it was trained in, "" if it did not come so far.
        state: digest of the saved state that could not be read, "" for other failures.
    """

    edge: int
    reason: str
    details: str
    kind: Kind = "deterministic"
    environment: str = ""
    state: str = ""


@dataclasses.dataclass(frozen=True)
class Lost:
    """The process that did a job is gone; the job can be tried again from its last checkpoint."""

    edge: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Interrupted:
    """Somebody asked another process of the sweep to end; `where` names it."""

    where: str


Message = Started | Advanced | Ended | Failed | Lost | Interrupted
