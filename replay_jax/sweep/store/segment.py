"""A trained span as it is written down: between which states, what it took and what it consumed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.sweep.plan.tree import Node


@dataclasses.dataclass(frozen=True)
class Segment:
    """A span of training whose updates are known, from one saved or initial state to another.

    Attributes:
        start: state that it began from.
        stop: state that it ended with.
        edge: digest at the end of the edge that it is part of.
        environment: digest of what it was trained in.
        seconds: wall time by what it was spent on (`metrics.TIME_KINDS`).
        windows: training sums over consecutive steps: "stop" (completed updates), and "nats" and
            "weights" by source name.
        realised: what was consumed, counted from the batches (`counted.Span`, one per host).
    """

    start: Node
    stop: Node
    edge: str
    environment: str
    seconds: Mapping[str, float]
    windows: Sequence[Mapping[str, Any]]
    realised: Sequence[Mapping[str, Any]]
