"""Held-out losses and task scores as facts: measured once at a state, for all runs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from replay_jax.data.judging.tasks import (
    TaskRows,
    load_task,
    score_rows,
    task_batches,
    task_rows,
)
from replay_jax.data.reading.held_out_documents import HeldOutDocuments, held_out_documents
from replay_jax.data.reading.pipeline import held_out_dataset
from replay_jax.data.tokens.store import TokenStore
from replay_jax.sweep.plan.measured import CosinePair, HeldOutSet, TaskSet
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.programs import ProgramCache
from replay_jax.training.config import StepShape
from replay_jax.training.evaluate import (
    HeldOut,
    evaluate,
    evaluation_shape,
    place_held_out,
    row_losses,
)
from replay_jax.training.gradient import DeviceBatch
from replay_jax.training.mesh.sharding import mesh_host_rows
from replay_jax.training.metrics import TimeSplit
from replay_jax.training.step import place_batch


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a state is measured: data by source, training shape, mesh, clock, environment."""

    stores: Mapping[str, TokenStore]
    shape: StepShape
    mesh: Mesh
    clock: TimeSplit
    environment: str


class Measuring:
    """Measures states on held-out sets and records what it finds; sets are placed once.

    On several hosts every one must make the same calls; the first one writes.
    """

    def __init__(self, store: WorkStore, programs: ProgramCache) -> None:
        self._store = store
        self._programs = programs
        self._placed: dict[tuple[HeldOutSet, Mesh], HeldOut] = {}
        self._documents: dict[HeldOutSet, HeldOutDocuments] = {}
        self._tasks: dict[tuple[TaskSet, Mesh], tuple[TaskRows, list[DeviceBatch]]] = {}

    def losses(
        self,
        node: Node,
        params: Any,
        held_out: HeldOutSet,
        *,
        place: Place,
    ) -> None:
        """Measure one set at a state.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        shape = evaluation_shape(place.shape, place.mesh, batch_size=held_out.batch_size)
        program = self._programs.evaluation(shape, place.mesh, clock=place.clock)
        with place.clock.measure("evaluate"):
            found = evaluate(program, params, self._on_devices(held_out, place))
            documents = self._documents_of(held_out, found.row_tokens, place)
            fact = {
                "state": node.digest,
                "step": node.step,
                "source": held_out.source,
                "nats": found.nats,
                "tokens": found.tokens,
                "bytes": found.label_bytes,
                # A thousandth of a nat in a document is less than float32 gives.
                "nats_by_document": documents.sums(found.row_nats).round(3).tolist(),
            }
            self._record(held_out.key(node.digest), fact, place)

    def scores(self, node: Node, params: Any, wanted: TaskSet, *, place: Place) -> None:
        """Measure one task at a state.

        Raises:
            FloatingPointError: a loss is not finite.
            UserError: the task's file has changed.
        """
        with place.clock.measure("evaluate"):
            rows, batches = self._task_on_devices(wanted, place)
        shape = dataclasses.replace(
            place.shape,
            batch_size=wanted.batch_size,
            seq_len=rows.counted.shape[1],
            sources=1,
            accumulation=1,
            document_mask=False,
            dropout=0.0,
        )
        program = self._programs.evaluation(shape, place.mesh, clock=place.clock)
        with place.clock.measure("evaluate"):
            nats = row_losses(program, params, batches, rows=len(rows.tokens))
            score = score_rows(rows, nats)
            fact = {
                "state": node.digest,
                "step": node.step,
                "task": wanted.task.name,
                "correct": _bits(score.correct),
                "correct_by_length": _bits(score.correct_by_length),
                "choice_nats": float(score.choice_nats.sum()),
            }
            self._record(wanted.key(node.digest), fact, place)

    def cosine(
        self,
        node: Node,
        params: Any,
        pair: CosinePair,
        *,
        place: Place,
    ) -> None:
        """Measure the cosine of the two microbatches' gradients at a state."""
        shape = evaluation_shape(place.shape, place.mesh, batch_size=pair.generic.batch_size)
        program = self._programs.cosine(shape, place.mesh, clock=place.clock)
        with place.clock.measure("evaluate"):
            batches = [
                self._on_devices(held_out, place).batches[0]
                for held_out in (pair.generic, pair.target)
            ]
            cosine = float(program(params, *batches))
            fact = {"state": node.digest, "step": node.step, "cosine": cosine}
            self._record(pair.key(node.digest), fact, place)

    def _record(self, key: str, fact: Mapping[str, Any], place: Place) -> None:
        if jax.process_index() == 0:
            self._store.write_evaluation(key, {**fact, "environment": place.environment})

    def _documents_of(
        self, held_out: HeldOutSet, row_tokens: np.ndarray, place: Place
    ) -> HeldOutDocuments:
        """The documents of a set; recorded once, before the first loss that names them."""
        if held_out not in self._documents:
            store = place.stores[held_out.source]
            found = held_out_documents(
                store, seq_len=held_out.seq_len, sequences=held_out.sequences
            )
            self._documents[held_out] = found
            key = held_out.documents_key
            if jax.process_index() == 0 and self._store.evaluation(key) is None:
                tokens = found.sums(row_tokens).astype(int).tolist()
                self._store.write_evaluation(
                    key, {"document": list(found.document), "tokens": tokens}
                )
        return self._documents[held_out]

    def _task_on_devices(self, wanted: TaskSet, place: Place) -> tuple[TaskRows, list[DeviceBatch]]:
        key = (wanted, place.mesh)
        if key not in self._tasks:
            # All sources share one tokenizer.
            tokenizer = next(iter(place.stores.values())).tokenizer
            items = load_task(wanted.task)
            rows = task_rows(items, tokenizer, document_mask=wanted.document_mask)
            own = mesh_host_rows(place.mesh, wanted.batch_size)
            batches = task_batches(rows, batch_size=wanted.batch_size, batch_rows=own)
            self._tasks[key] = rows, [place_batch(batch, place.mesh) for batch in batches]
        return self._tasks[key]

    def _on_devices(self, held_out: HeldOutSet, place: Place) -> HeldOut:
        key = (held_out, place.mesh)
        if key not in self._placed:
            batches = held_out_dataset(
                place.stores[held_out.source],
                seq_len=held_out.seq_len,
                sequences=held_out.sequences,
                batch_size=held_out.batch_size,
                document_mask=held_out.document_mask,
                rows=mesh_host_rows(place.mesh, held_out.batch_size),
            )
            self._placed[key] = place_held_out(batches, place.mesh)
        return self._placed[key]


def _bits(flags: np.ndarray) -> str:
    """One character per item, "1" for right."""
    return "".join("1" if flag else "0" for flag in flags)
