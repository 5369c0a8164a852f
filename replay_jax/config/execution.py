"""Where and how a sweep's edges are trained; nothing here changes what a run is."""

import dataclasses
import re

from replay_jax.errors import UserError

EXECUTORS = ("local", "hosts", "ray")


@dataclasses.dataclass(frozen=True)
class ExecutionConfig:
    """How edges are spread over processes and machines.

    Attributes:
        executor: "local" (worker processes on this machine), "hosts" (all hosts of a TPU slice or
            another JAX cluster, each of which runs the same command) or "ray" (tasks of a cluster).
        workers: processes that train edges side by side; 0 chooses by `choice.choose_workers`. On
            a machine with several GPUs each has as many of them. On Ray, how many edges are asked
            for at once; 0 for twice as many as the cluster has room for when it is joined.
        threads: threads of each worker's XLA pool on CPU; 0 chooses by the same rule. A CPU's
            results depend on it in their last bits, so a working directory keeps the first choice.
        keep_states: keep the states at which runs part and end, so that a later sweep in the same
            working directory continues from them; otherwise each is dropped after its last use.
        ray_resources: what one edge needs on a Ray cluster, such as (("TPU", 4.0),); "CPU" and
            "GPU" are Ray's own names, others are custom resources.
        ray_slice: TPU slice that one edge occupies, such as "v4:4x4x4", or None where an edge fits
            one host.
        population: edges of equal shape that a process trains side by side as lanes of one program
            (executor "local"); 1 trains them one after another. Results depend on it in their last
            bits, so a working directory keeps it.
        keep_ends: keep the parameters that every run ends with, so that a task or a held-out size
            added later costs an evaluation and not the run (`keep_states` has them anyway).
    """

    executor: str
    workers: int
    threads: int
    keep_states: bool
    ray_resources: tuple[tuple[str, float], ...]
    ray_slice: str | None
    population: int
    keep_ends: bool

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise UserError(
                f"executor must be one of {', '.join(EXECUTORS)}, not '{self.executor}'"
            )
        for name in ("workers", "threads"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be 0 (choose) or more, not {getattr(self, name)}")
        if self.population < 1:
            raise UserError(f"population must be 1 (no lanes) or more, not {self.population}")
        if self.population > 1 and self.executor != "local":
            raise UserError(
                f"population is {self.population}, but executor '{self.executor}' trains every "
                "edge alone: use executor = 'local', or population = 1"
            )
        for name, amount in self.ray_resources:
            if amount <= 0:
                raise UserError(f"ray_resources['{name}'] must be positive, not {amount}")
        if self.ray_slice is not None and not re.fullmatch(r"\w+:\d+(x\d+)+", self.ray_slice):
            raise UserError(f"ray_slice must look like 'v4:4x4x4', not '{self.ray_slice}'")
        if len({name for name, _ in self.ray_resources}) < len(self.ray_resources):
            raise UserError(f"ray_resources names a resource twice: {self.ray_resources}")
