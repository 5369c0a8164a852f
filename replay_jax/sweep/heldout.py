"""Held-out losses as facts: what is measured at a state is measured once, for all runs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from replay_jax.config import ExperimentConfig
from replay_jax.data.pipeline import evaluation_batches
from replay_jax.data.token_store import TokenStore
from replay_jax.sweep.digest import canonical_digest
from replay_jax.sweep.programs import ProgramCache
from replay_jax.sweep.store import WorkStore
from replay_jax.sweep.trie import Node
from replay_jax.training.evaluate import HeldOut, evaluate, place_held_out
from replay_jax.training.gradient import StepShape
from replay_jax.training.metrics import TimeSplit
from replay_jax.training.sharding import mesh_host_part


@dataclasses.dataclass(frozen=True)
class HeldOutSet:
    """A fixed set of held-out rows of one source, and how many are evaluated at a time."""

    source: str
    fingerprint: str
    seq_len: int
    sequences: int
    document_mask: bool
    batch_size: int

    @property
    def identity(self) -> str:
        """Hex digest of which rows are measured, and how (not of the batch size)."""
        facts = dataclasses.asdict(self)
        del facts["batch_size"], facts["source"]
        return canonical_digest(facts).hex()

    def key(self, state: str) -> str:
        """Name of the fact that says what this set gave at a state."""
        return canonical_digest({"state": state, **dataclasses.asdict(self)}).hex()


@dataclasses.dataclass(frozen=True)
class CosinePair:
    """A generic and a target microbatch whose gradients are compared at a stage boundary."""

    generic: HeldOutSet
    target: HeldOutSet

    def key(self, state: str) -> str:
        """Name of the fact that holds the cosine at a state."""
        facts = {"cosine": [self.generic.identity, self.target.identity]}
        return canonical_digest({"state": state, **facts}).hex()


def held_out_set(config: ExperimentConfig, source: str, fingerprint: str) -> HeldOutSet:
    """The set on which a run measures one of its sources."""
    return HeldOutSet(
        source=source,
        fingerprint=fingerprint,
        seq_len=config.training.seq_len,
        sequences=config.evaluation.sequences,
        document_mask=config.training.document_mask,
        batch_size=config.evaluation.batch_size,
    )


def cosine_pair(config: ExperimentConfig, fingerprints: Mapping[str, str]) -> CosinePair:
    """The batches whose gradients a run compares: held-out rows, as many as train at once.

    Args:
        config: the run.
        fingerprints: of the generic and the target source, by name.
    """
    rows = config.training.batch_size // config.training.accumulation

    def microbatch(source: str) -> HeldOutSet:
        whole = held_out_set(config, source, fingerprints[source])
        return dataclasses.replace(whole, sequences=min(rows, whole.sequences), batch_size=rows)

    return CosinePair(microbatch(config.data.generic), microbatch(config.data.target))


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a state is measured: data by source, the training shape, the mesh, the clock."""

    stores: Mapping[str, TokenStore]
    shape: StepShape
    mesh: Mesh
    clock: TimeSplit


class Measuring:
    """Measures states on held-out sets and records what it finds; sets are placed once.

    On several hosts every one must make the same calls; the first one writes.
    """

    def __init__(self, store: WorkStore, programs: ProgramCache) -> None:
        self._store = store
        self._programs = programs
        self._placed: dict[tuple[HeldOutSet, Mesh], HeldOut] = {}

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
        shape = _shape(place.shape, held_out)
        program = self._programs.evaluation(shape, place.mesh, clock=place.clock)
        with place.clock.measure("evaluate"):
            found = evaluate(program, params, self._on_devices(held_out, place))
            fact = {
                "state": node.digest,
                "step": node.step,
                "source": held_out.source,
                "nats": found.nats,
                "tokens": found.tokens,
                "bytes": found.label_bytes,
            }
            self._record(held_out.key(node.digest), fact)

    def cosine(
        self,
        node: Node,
        params: Any,
        pair: CosinePair,
        *,
        place: Place,
    ) -> None:
        """Measure the cosine of the two microbatches' gradients at a state."""
        shape = _shape(place.shape, pair.generic)
        program = self._programs.cosine(shape, place.mesh, clock=place.clock)
        with place.clock.measure("evaluate"):
            batches = [
                self._on_devices(held_out, place).batches[0]
                for held_out in (pair.generic, pair.target)
            ]
            cosine = float(program(params, *batches))
            fact = {"state": node.digest, "step": node.step, "cosine": cosine}
            self._record(pair.key(node.digest), fact)

    def _record(self, key: str, fact: Mapping[str, Any]) -> None:
        if jax.process_index() == 0:
            self._store.write_evaluation(key, fact)

    def _on_devices(self, held_out: HeldOutSet, place: Place) -> HeldOut:
        key = (held_out, place.mesh)
        if key not in self._placed:
            part, parts = mesh_host_part(place.mesh)
            batches = evaluation_batches(
                place.stores[held_out.source],
                seq_len=held_out.seq_len,
                sequences=held_out.sequences,
                batch_size=held_out.batch_size,
                document_mask=held_out.document_mask,
                host_index=part,
                host_count=parts,
            )
            self._placed[key] = place_held_out(batches, place.mesh)
        return self._placed[key]


def _shape(shape: StepShape, held_out: HeldOutSet) -> StepShape:
    """The shape of an evaluation: its own batch, and nothing that only training has."""
    return dataclasses.replace(shape, batch_size=held_out.batch_size, sources=1, accumulation=1)
