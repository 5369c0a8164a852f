"""One job under way: what it counts, measures, saves and tells."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from replay_jax.data.ledger.counted import RealisedCounter, batch_checksum, supervised_labels
from replay_jax.data.reading.pipeline import Batch
from replay_jax.errors import UserError
from replay_jax.sweep.plan.objective import held_sources
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.store.lease import Fence
from replay_jax.sweep.store.segment import Segment
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.job import EdgeJob, step_shape
from replay_jax.sweep.train.measuring import Measuring, Place
from replay_jax.sweep.train.meter import by_the_wall, make_meter, metric_values
from replay_jax.sweep.train.metrics_file import MetricsWriter, metrics_folder
from replay_jax.training.averaging import judged_params
from replay_jax.training.mesh.sharding import mesh_host_rows
from replay_jax.training.metrics import Progress, StepRecord, TimeSplit
from replay_jax.training.saving.checkpoint import Checkpointer, params_alone
from replay_jax.training.saving.saved import is_complete
from replay_jax.training.span import Span
from replay_jax.training.step import TrainState
from replay_jax.training.trainable import of_training


class Course:
    """One job under way: counts, windows, metrics, measurements and saves, up to `reached`.

    `environment` names what it is trained in, `sharing` says how many jobs share the seconds of
    the clock at the moment.
    """

    def __init__(
        self,
        job: EdgeJob,
        store: WorkStore,
        measuring: Measuring,
        mesh: Mesh,
        clock: TimeSplit,
        checkpointer: Checkpointer,
        on_progress: Callable[[Progress], None],
        environment: str,
        sharing: Callable[[], int] = lambda: 1,
    ) -> None:
        self.reached = job.start
        self._job, self._store, self._measuring = job, store, measuring
        if job.lease:
            self._store = WorkStore(store.root, Fence(store.root, job.lease))
        self._mesh, self._clock, self._checkpointer = mesh, clock, checkpointer
        self._on_progress, self._sharing = on_progress, sharing
        self._environment = environment
        self._due = {item.node.step: item for item in job.measurements}
        every = job.config.checkpoint.every
        inside = range(job.start.step + 1, job.stop.step)
        self._saves = {step for step in inside if every and step % every == 0}
        self._checkpoints: list[Node] = []
        self._names = job.schedule.source_names
        self._held = held_sources(job.config, job.schedule)
        self._fetched: dict[int, tuple[bytes, np.ndarray | None]] = {}
        self._meter = make_meter(job, clock)
        self._metrics: MetricsWriter | None = None
        self._saving: epath.Path | None = None
        self._spent = dict.fromkeys(clock.seconds, 0.0)
        self._open_segment()

    def __enter__(self) -> "Course":
        root = self._store.root
        if jax.process_index() == 0 and "://" not in str(root):
            job = self._job
            folder = metrics_folder(Path(root) / "metrics", job.name, job.stop.digest[:16])
            self._metrics = MetricsWriter(folder, job.config.logging, start_step=job.start.step)
            self._metrics.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._metrics is not None:
            self._metrics.__exit__(*error)

    def span(self) -> Span:
        """What the loop is to do, with the points at which it must call back."""
        job = self._job
        return Span(
            start=job.start.step,
            stop=job.stop.step,
            learning_rates=job.schedule.learning_rates(),
            resets=job.schedule.resets(),
            optimizer=job.config.optimizer,
            source_names=self._names,
            points=frozenset(self._due) | frozenset(self._saves),
            average_start=job.average_start,
        )

    def counting(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches of the job's steps, each counted and summed up as it is fetched."""
        for step, batch in enumerate(batches, self._job.start.step):
            self._fetched[step] = batch_checksum(batch), supervised_labels(batch)
            yield batch

    def on_step(self, record: StepRecord) -> None:
        """Count what an update consumed and gave."""
        tokens, supervised = self._fetched.pop(record.index)
        self._counter.add(
            record.index,
            source=record.source,
            row=record.row,
            tokens=tokens,
            supervised=supervised,
        )
        self._nats += record.nats
        self._weights += record.weights
        if record.index + 1 in self._job.marks:
            self._close_window(record.index + 1)
        progress = self._meter.add(record)
        if progress is not None:
            progress = by_the_wall(progress, self._sharing())
            self._on_progress(progress)
            if self._metrics is not None:
                values = metric_values(progress, self._names, self._held)
                self._metrics.write(progress.step, values)

    def on_point(self, step: int, state: TrainState) -> None:
        """Measure and save where that is due."""
        self.measure(step, judged_params(state, self._job.config.model))
        if step in self._saves:
            self.save(step, state, checkpoint=True)

    def measure(self, step: int, params: Any) -> None:
        """Measure what is due at a state, given its parameters."""
        if step not in self._due:
            return
        due = self._due[step]
        job, environment = self._job, self._environment
        place = Place(job.stores, step_shape(job), self._mesh, self._clock, environment)
        for held_out in due.sets:
            self._measuring.losses(due.node, params, held_out, place=place)
        for wanted in due.tasks:
            self._measuring.scores(due.node, params, wanted, place=place)
        for pair in due.cosines:
            self._measuring.cosine(due.node, params, pair, place=place)

    def save(self, step: int, state: TrainState, *, checkpoint: bool) -> None:
        """Record the span up to here and start saving the state; older checkpoints go."""
        node = self._job.node(step)
        self._record_segment(node)
        with self._clock.measure("save"):
            # Waits for the save before, so that checkpoint is complete and its own can go.
            self._settle_save()
            self._drop_checkpoints(keep=self._job.config.checkpoint.keep)
            path = self._store.state_path(node.digest)
            kept = of_training(state, self._job.config.model)
            self._save_at(path, kept, {"step": step, "checkpoint": checkpoint})
        if checkpoint:
            self._checkpoints.append(node)

    def finish(self, state: TrainState) -> None:
        """Record the end of the edge, with its state if others go on from it."""
        # First, as all else may be known without it, and then nobody would come back for it.
        self.keep_end(state)
        if self._job.save:
            self.save(self._job.stop.step, state, checkpoint=False)
            self._wait()
        else:
            self._wait()
            self._record_segment(self._job.stop)
        self._drop_checkpoints(keep=0)

    def keep_end(self, state: TrainState) -> None:
        """Save the parameters that runs are judged by, if that is asked for and not done."""
        stop = self._job.stop
        if self._job.keep_end:
            path = self._store.end_path(stop.digest)
            with self._clock.measure("save"):
                self._settle_save()
                model = self._job.config.model
                kept = of_training(state.replace(params=judged_params(state, model)), model)
                self._save_at(path, params_alone(kept), {"step": stop.step})
            self._wait()

    def pause(self, step: int, state: TrainState) -> None:
        """Save where an interrupted job stands."""
        if step > self.reached.step:
            self.save(step, state, checkpoint=True)
        self._wait()
        self._drop_checkpoints(keep=1)

    def _save_at(self, path: epath.Path, state: Any, meta: Mapping[str, Any]) -> None:
        """Start saving, unless another process that was taken for lost has saved the same bits."""
        if on_first_host(lambda: is_complete(path)):
            return
        self._store.confirm()
        self._saving = path
        try:
            self._checkpointer.save(path, state, meta)
        except UserError:
            if not is_complete(path):
                raise

    def _settle_save(self) -> None:
        try:
            self._checkpointer.wait()
        except UserError:
            if self._saving is None or not is_complete(self._saving):
                raise

    def _wait(self) -> None:
        with self._clock.measure("save"):
            self._settle_save()

    def _drop_checkpoints(self, *, keep: int) -> None:
        """Delete all but the last of this job's own checkpoints."""
        stale = self._checkpoints[: max(0, len(self._checkpoints) - keep)]
        self._checkpoints = self._checkpoints[len(stale) :]
        for node in stale:
            self._drop(node)

    def _drop(self, node: Node) -> None:
        if jax.process_index() == 0:
            self._store.drop_state(node.digest)

    def _record_segment(self, node: Node) -> None:
        self._close_window(node.step)
        seconds = self._clock.seconds
        segment = Segment(
            start=self.reached,
            stop=node,
            edge=self._job.stop.digest,
            environment=self._environment,
            seconds={kind: value - self._spent[kind] for kind, value in seconds.items()},
            windows=self._windows,
            realised=_of_all_hosts(self._counter.span().to_json()),
        )
        if jax.process_index() == 0:
            self._store.write_segment(segment)
        self.reached, self._spent = node, seconds
        self._open_segment()

    def _open_segment(self) -> None:
        batch_size = self._job.batch_size
        self._counter = RealisedCounter(
            source_names=self._names,
            views=self._job.views,
            batch_size=batch_size,
            start_step=self.reached.step,
            first_sequence=self._job.schedule.steps.first_sequence(self.reached.step),
            cuts=self._job.cuts,
            rows=mesh_host_rows(self._mesh, batch_size),
        )
        self._windows: list[dict[str, Any]] = []
        self._clear_window()

    def _clear_window(self) -> None:
        self._nats = np.zeros(len(self._names), np.float64)
        self._weights = np.zeros(len(self._names), np.float64)

    def _close_window(self, step: int) -> None:
        if self._weights.any():
            nats, weights = self._nats.tolist(), self._weights.tolist()
            self._windows.append(
                {
                    "stop": step,
                    "nats": dict(zip(self._names, nats, strict=True)),
                    "weights": dict(zip(self._names, weights, strict=True)),
                }
            )
        self._clear_window()


def on_first_host(ask: Callable[[], bool]) -> bool:
    """What the first host finds, on all: a shared file system may not show them the same."""
    if jax.process_count() == 1:
        return ask()
    found = np.int32(jax.process_index() == 0 and ask())
    return bool(multihost_utils.broadcast_one_to_all(found))


def _of_all_hosts(span: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What was counted of every part of the batches, the same list on each host."""
    if jax.process_count() == 1:
        return [span]
    text = np.frombuffer(json.dumps(span).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int64(len(text)))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    spans = [json.loads(row[:n].tobytes()) for row, n in zip(rows, lengths.tolist(), strict=True)]
    # Hosts over which the tensor axis goes read the same rows, and count them all.
    by_rows = {str(span["batch_rows"]): span for span in spans}
    return sorted(by_rows.values(), key=lambda span: span["batch_rows"])
