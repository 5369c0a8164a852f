"""All that runs read from elsewhere, as far as it is on this machine: data, models, tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from replay_jax.data.judging.tasks import Task
from replay_jax.data.tokens.store import TokenStore
from replay_jax.hub.folder import Pretrained

Stores = Mapping[str, TokenStore | None]


@dataclass(frozen=True)
class Found:
    """What a sweep is planned with; whatever is missing is known by its declaration alone.

    Attributes:
        stores: prepared stores by source name, None for one that is not prepared; None in place
            of all of them to plan without touching any data.
        weights: pre-trained models, by the name that configurations give.
        tasks: multiple-choice tasks, by name.
        warnings: what is likely to be a mistake, in sentences.
    """

    stores: Stores | None
    weights: Mapping[str, Pretrained] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
