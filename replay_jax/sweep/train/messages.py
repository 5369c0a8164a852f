"""What an executor tells the coordinator about its edges."""

import dataclasses

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
    """A job has failed and would fail again; `reason` is one line, `details` a traceback.

    `mistake` says that the user asked for what cannot be, such as a batch that does not divide.
    """

    edge: int
    reason: str
    details: str
    mistake: bool = False


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
