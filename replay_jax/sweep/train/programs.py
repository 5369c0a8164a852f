"""Compiled programs of one process, each compiled once for all edges of equal shape."""

import os
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from replay_jax.model.architecture import ModelConfig
from replay_jax.training.averaging import compile_average
from replay_jax.training.begin import compile_begin
from replay_jax.training.config import OptimizerKind, StepShape
from replay_jax.training.evaluate import (
    CosineProgram,
    EvaluationProgram,
    compile_evaluation,
    compile_gradient_cosine,
)
from replay_jax.training.mesh.choice import choose_mesh
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.devices import attached_devices
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.metrics import TimeSplit
from replay_jax.training.population import Population, compile_population
from replay_jax.training.span import Programs
from replay_jax.training.step import (
    TrainState,
    abstract_state,
    compile_init,
    compile_reset,
    compile_train_step,
)


class ProgramCache:
    """Programs by what they depend on; compile time is counted on the clock that is given."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, ...], Any] = {}

    def mesh(self, config: MeshConfig, shape: StepShape, *, average: bool) -> Mesh:
        """The mesh of all devices of this job for a step, and an average where one is kept."""

        def build() -> Mesh:
            devices = attached_devices()
            choice = choose_mesh(
                config,
                shape.model,
                devices=devices,
                device_bytes=_device_bytes(jax.local_devices()[0]),
                training_bytes=shape.training_bytes(average=average),
            )
            return make_mesh(choice.config, devices)

        return self._once(("mesh", config, shape, average), build)

    def train(self, shape: StepShape, mesh: Mesh, *, clock: TimeSplit) -> Programs:
        """The train step; optimizer reset and average of parameters (compiled when needed)."""
        arguments = (shape.model, mesh, shape.optimizer)

        def reset(state: TrainState) -> TrainState:
            return self._timed(("reset", *arguments), lambda: compile_reset(*arguments), clock)(
                state
            )

        def average(*given: Any) -> Any:
            return self._timed(("average", *arguments), lambda: compile_average(*arguments), clock)(
                *given
            )

        step = self._timed(("train", shape, mesh), lambda: compile_train_step(shape, mesh), clock)
        return Programs(mesh, step, reset, average)

    def init(
        self, model: ModelConfig, mesh: Mesh, optimizer: OptimizerKind, *, clock: TimeSplit
    ) -> Callable[[int], Any]:
        """The initialisation, a function of the seed."""
        key = (model, mesh, optimizer)
        return self._timed(("init", *key), lambda: compile_init(*key), clock)

    def begin(
        self, model: ModelConfig, mesh: Mesh, optimizer: OptimizerKind, *, clock: TimeSplit
    ) -> Callable[[Any, int], Any]:
        """The state before the first update, of given parameters, which it consumes, and a seed."""
        key = (model, mesh, optimizer)
        return self._timed(("begin", *key), lambda: compile_begin(*key), clock)

    def evaluation(self, shape: StepShape, mesh: Mesh, *, clock: TimeSplit) -> EvaluationProgram:
        """The held-out loss of a batch."""
        key = ("evaluation", shape, mesh)
        return self._timed(key, lambda: compile_evaluation(shape, mesh), clock)

    def cosine(self, shape: StepShape, mesh: Mesh, *, clock: TimeSplit) -> CosineProgram:
        """The cosine of two batches' gradients."""
        key = ("cosine", shape, mesh)
        return self._timed(key, lambda: compile_gradient_cosine(shape, mesh), clock)

    def population(self, shape: StepShape, lanes: int, *, clock: TimeSplit) -> Population:
        """The train step of several models side by side, over all devices of this process."""
        key = ("population", shape, lanes)
        built: Population = self._timed(key, lambda: compile_population(shape, lanes), clock)
        return built

    def abstract_state(
        self, model: ModelConfig, mesh: Mesh, optimizer: OptimizerKind
    ) -> TrainState:
        """Shapes and shardings of a state, to restore one."""
        key = (model, mesh, optimizer)
        return self._once(("abstract", *key), lambda: abstract_state(*key))

    def _timed(self, key: tuple[Any, ...], build: Callable[[], Any], clock: TimeSplit) -> Any:
        with clock.measure("compile"):
            return self._once(key, build)

    def _once(self, key: tuple[Any, ...], build: Callable[[], Any]) -> Any:
        if key not in self._found:
            self._found[key] = build()
        return self._found[key]


def _device_bytes(device: jax.Device) -> int:
    """Memory of a device; on CPU that of the machine, shared by its (fake) devices."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
