"""One process of a small run over several hosts, for test_multi_process; also run in-process.

Trains the run in ROOT from its last checkpoint to its end, and writes what it trained on and the
losses; then what it saw with the devices of all processes interleaved.
"""

import atexit
import json
import os
from pathlib import Path

import jax
from fake_devices import flags
from interleaved import interleaved, train_and_measure
from jax.sharding import Mesh
from tiny_training import MODEL, OPTIMIZER, begun

from replay_jax.data.reading.pipeline import read_ahead, run_dataset
from replay_jax.data.reading.views import SourceView
from replay_jax.data.tokens.store import TokenStore
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.protocols import Schedule, two_stage
from replay_jax.training.config import StepShape
from replay_jax.training.loop import train_span
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.hosts import initialize
from replay_jax.training.mesh.sharding import make_mesh, mesh_host_rows
from replay_jax.training.metrics import TimeSplit
from replay_jax.training.saving.checkpoint import Checkpointer, restore_state
from replay_jax.training.saving.saved import is_complete
from replay_jax.training.span import Hooks, Programs, Span
from replay_jax.training.step import (
    abstract_state,
    compile_reset,
    compile_train_step,
)

STEPS, BATCH, LENGTH, SAVE_EVERY = 12, 8, 8, 4


def saved_steps(checkpoints: Path) -> tuple[int, ...]:
    """Steps of all complete checkpoints, ascending."""
    folders = checkpoints.iterdir() if checkpoints.exists() else ()
    return tuple(sorted(int(path.name) for path in folders if is_complete(path)))


def schedule() -> Schedule:
    """12 steps of 8 sequences: 6 target rows, 4 times each, three quarters of them in stage 2."""
    rate = LearningRate(1e-2, "cosine", 0.0, None, 0.1)
    return two_stage(
        total_steps=STEPS,
        batch_size=BATCH,
        target_sequences=6,
        target_epochs=4,
        learning_rate=rate,
        replay_fraction=0.5,
        stage2_allocation=0.75,
    )


def train(root: Path, mesh: Mesh, *, stop: int, record: Path) -> None:
    """Train from the last checkpoint in `root` to `stop`, a JSON line per step into `record`."""
    plan = schedule()
    stores = {name: TokenStore.open(root / name) for name in plan.source_names}
    views = {
        name: SourceView(
            source=name,
            fingerprint=store.fingerprint,
            seq_len=LENGTH,
            pool_rows=store.row_count("train", LENGTH),
            budget_rows=6 if name == "target" else None,
            seed=3,
            repeat=True,
        )
        for name, store in stores.items()
    }
    checkpoints = root / "checkpoints"
    begin = max(saved_steps(checkpoints), default=0)
    if begin:
        state, _ = restore_state(checkpoints / str(begin), abstract_state(MODEL, mesh))
    else:
        state = begun(mesh, 7)
    batches = run_dataset(
        stores=stores,
        views=views,
        schedule=plan,
        document_mask=False,
        loss_weight_by_source={},
        rows=mesh_host_rows(mesh, BATCH),
    )
    with Checkpointer() as checkpointer, record.open("a") as lines:

        def on_step(step):
            loss = float(step.nats.sum() / step.weights.sum())
            rows = [[int(s), int(r)] for s, r in zip(step.source, step.row, strict=True)]
            lines.write(json.dumps({"step": step.index, "loss": loss, "rows": rows}) + "\n")
            lines.flush()

        def on_point(step, state):
            checkpointer.save(checkpoints / str(step), state, {"step": step})
            checkpointer.wait()

        train_span(
            state,
            span=Span(
                start=begin,
                stop=stop,
                learning_rates=plan.learning_rates(),
                resets=plan.resets(),
                optimizer=OPTIMIZER,
                source_names=plan.source_names,
                points=frozenset(range(SAVE_EVERY, STEPS + 1, SAVE_EVERY)),
            ),
            programs=Programs(
                mesh,
                compile_train_step(StepShape(MODEL, BATCH, LENGTH, len(plan.source_names)), mesh),
                compile_reset(MODEL, mesh),
            ),
            batches=read_ahead(batches, start=begin, stop=stop, threads=0),
            hooks=Hooks(on_step, on_point, should_stop=lambda step: False),
            clock=TimeSplit(),
        )


def be_one(root: Path, coordinator: str, processes: int, number: int) -> None:
    """Be one process, with four CPU devices; the state is split over all of them."""
    os.environ["XLA_FLAGS"] = flags(4)
    os.dup2(os.open(root / f"{number}.err", os.O_WRONLY | os.O_CREAT), 2)
    initialize(coordinator, processes, number, timeout=120.0)
    mesh = make_mesh(MeshConfig(1, jax.device_count(), 1), jax.devices())
    train(root, mesh, stop=STEPS, record=root / f"{STEPS}.{number}.jsonl")
    found = train_and_measure(interleaved(), root / "checkpoints" / str(SAVE_EVERY))
    (root / f"{number}.json").write_text(json.dumps(found))
    # As at the end of any program, but not of a forked process: JAX takes leave of the other.
    atexit._run_exitfuncs()
