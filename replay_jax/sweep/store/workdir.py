"""What is known to be done: a folder of small facts, each addressed by what it is about.

    workdir.json              format of the folder, and what all its results have in common
    sweep.json                ids of the last sweep's runs, in order
    recipe.json               what the last sweep asks, in words
    runs/<run>.json           a run: name, overrides, configuration, planned ledger, its nodes
    environments/<digest>.json  what trained and measured here: code, versions, machine
    states/<digest>/          a saved training state (`training.saving.checkpoint`)
    ends/<digest>/            the parameters alone of a state that runs end with
    segments/<digest>.json    a trained span, by the state that it ends with
    evaluations/<key>.json    one source's held-out loss at one state
    failures/<digest>.json    why the edge that ends with this state could not be finished
    results/<run>.json        the result record of a finished run
    tensorboard/, sent/       finished runs for TensorBoard; what W&B has (`drive.tracking`)
    results.jsonl             those of the last sweep, one a line
    progress.json             what the coordinator is doing now
    lock, lease/              who the coordinator is (`lock`, `lease`)

Facts about a state are addressed by its digest, so every sweep in the folder can use them. Only the
holder of the folder's lock and its workers write; anyone may read at any time.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from replay_jax.errors import UserError
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.store import facts, shapes
from replay_jax.sweep.store.environment import Environment, environment_digest
from replay_jax.sweep.store.lease import Fence, Lease
from replay_jax.sweep.store.sealing import sealed, unsealed
from replay_jax.sweep.store.segment import Segment
from replay_jax.training.saving.saved import delete, is_complete, read_meta, remove_unfinished

FORMAT = 4
_FOLDERS = (
    "runs",
    "environments",
    "states",
    "ends",
    "segments",
    "evaluations",
    "failures",
    "results",
)


class WorkStore:
    """The facts of one working directory; see the module for what is where."""

    def __init__(
        self, root: epath.PathLike, writer: Lease | Fence | None = None, *, changed: bool = False
    ) -> None:
        """`writer` is the lease that must hold for anything to be published, or its fence.

        A fact that is not what its checksum says is refused, unless it may be `changed`.
        """
        # Orbax takes absolute paths only, and workers may stand elsewhere.
        place = os.fspath(root)
        self.root = epath.Path(place if "://" in place else os.path.abspath(place))
        self._writer, self._changed = writer, changed

    def _read(self, path: epath.Path, shape: Any) -> dict[str, Any] | None:
        fact = facts.read_object(path, shape, changed=self._changed)
        return fact if fact is None else unsealed(fact)

    @property
    def lease(self) -> int:
        """Number of the lease under which this process writes, 0 for none."""
        return 0 if self._writer is None else self._writer.number

    def confirm(self) -> None:
        """Make sure that this process may still publish. Raises LostLease."""
        if self._writer is not None:
            self._writer.confirm()

    def create(self, common: Mapping[str, Any]) -> dict[str, Any]:
        """Make the folder, or check that it is one of ours; returns what its results share.

        Args:
            common: what all results must have in common; names not known yet are added.

        Raises:
            UserError: the folder has another format, or a common value differs; names both.
        """
        self.confirm()
        known = self._known()
        for name, value in common.items():
            there = known["common"].setdefault(name, value)
            if there != value:
                what = f"{self.root} holds results with {name} = {there}, not {value}"
                raise UserError(f"{what}: choose another --workdir")
        facts.write_fact(self.root / "workdir.json", sealed(known))
        for folder in _FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
            facts.remove_leftovers(self.root / folder)
        facts.remove_leftovers(self.root)
        return dict(known["common"])

    def common(self) -> dict[str, Any]:
        """What all results of the folder have in common; empty for a new folder."""
        return dict(self._known()["common"])

    def _known(self) -> dict[str, Any]:
        known = self._read(self.root / "workdir.json", shapes.WORKDIR)
        if known is None:
            return {"format": FORMAT, "common": {}}
        if known.get("format") != FORMAT:
            raise UserError(
                f"{self.root} has format {known.get('format')} and this version knows format "
                f"{FORMAT}: choose another --workdir, or use the version that wrote it"
            )
        return known

    # What trained here.

    def write_environment(self, environment: Environment) -> None:
        """Name an environment as one that results of this folder come out of."""
        path = self.root / "environments" / f"{environment_digest(environment)}.json"
        if facts.read_fact(path) is None:
            facts.write_fact(path, environment)

    def environments(self) -> dict[str, Environment]:
        """What results of this folder come out of, by digest."""
        found = {}
        for name in facts.fact_names(self.root / "environments"):
            path = self.root / "environments" / f"{name}.json"
            fact = facts.read_object(path, shapes.ENVIRONMENT)
            if fact is not None:
                if environment_digest(fact) != name and not self._changed:
                    raise facts.damaged(path, "it was changed after it was written")
                found[name] = fact
        return found

    # Saved states.

    def state_path(self, digest: str) -> epath.Path:
        """Folder of a saved state."""
        return self.root / "states" / digest

    def state_names(self) -> set[str]:
        """Digests of all states that were ever begun to be saved and not dropped since."""
        return _names(self.root / "states")

    def saved_step(self, digest: str) -> int | None:
        """Step of a saved state, or None unless it is complete and its history is known."""
        segment = self.segment(digest) if is_complete(self.state_path(digest)) else None
        if segment is None or self.history(segment.stop) is None:
            return None
        return segment.stop.step

    def end_path(self, digest: str) -> epath.Path:
        """Folder of the parameters that runs end with."""
        return self.root / "ends" / digest

    def end_names(self) -> set[str]:
        """Digests of all states whose parameters were ever begun to be kept."""
        return _names(self.root / "ends")

    def is_checkpoint(self, digest: str) -> bool:
        """Whether whoever saved a state did so against interruptions, in the middle of an edge."""
        # One that does not say is damaged, and kept until somebody wants to go on from there.
        return read_meta(self.state_path(digest)).get("checkpoint") is True

    def drop_state(self, digest: str) -> None:
        """Delete a saved state; it is unusable from the first moment on."""
        self.confirm()
        delete(self.state_path(digest))

    def drop_unfinished_states(self) -> None:
        """Delete what interrupted saves and deletions left; only for the holder of the lock."""
        self.confirm()
        remove_unfinished(self.root / "states")
        remove_unfinished(self.root / "ends")

    # Trained spans.

    def write_segment(self, segment: Segment) -> None:
        """Record a trained span."""
        self.confirm()
        fact = sealed(dataclasses.asdict(segment))
        facts.write_fact(self.root / "segments" / f"{segment.stop.digest}.json", fact)

    def segment(self, digest: str) -> Segment | None:
        """The span that ends with a state, or None."""
        fact = self._read(self.root / "segments" / f"{digest}.json", shapes.SEGMENT)
        if fact is None:
            return None
        said = {field.name: fact[field.name] for field in dataclasses.fields(Segment)}
        nodes = {end: Node(fact[end]["digest"], fact[end]["step"]) for end in ("start", "stop")}
        return Segment(**{**said, **nodes})

    def history(self, node: Node) -> list[Segment] | None:
        """All spans from the initial state to a state, in order; None if one is missing."""
        found: list[Segment] = []
        while node.step:
            segment = self.segment(node.digest)
            if segment is None:
                return None
            if segment.stop != node or not 0 <= segment.start.step < node.step:
                raise UserError(
                    f"{self.root / 'segments' / node.digest}.json is damaged (steps "
                    f"{segment.start.step} to {segment.stop.step} of {segment.stop.digest} where "
                    f"step {node.step} ends): delete it to train it again"
                )
            found.append(segment)
            node = segment.start
        return found[::-1]

    # Held-out losses.

    def write_evaluation(self, key: str, fact: Mapping[str, Any]) -> None:
        """Record one source's held-out sums at one state."""
        facts.write_fact(self.root / "evaluations" / f"{key}.json", sealed(fact))

    def evaluation(self, key: str) -> dict[str, Any] | None:
        """One source's held-out sums at one state, or None."""
        return self._read(self.root / "evaluations" / f"{key}.json", shapes.EVALUATION)

    def evaluation_names(self) -> set[str]:
        """Keys of all measurements that are recorded."""
        return set(facts.fact_names(self.root / "evaluations"))

    # Runs and their results.

    def runs(self) -> list[dict[str, Any]]:
        """The runs of the last sweep, in its order.

        Raises:
            UserError: no sweep was started in this folder.
        """
        sweep = self._read(self.root / "sweep.json", shapes.SWEEP)
        if sweep is None:
            raise UserError(f"{self.root} holds no sweep: give the folder that `run` printed")
        paths = [self.root / "runs" / f"{id}.json" for id in sweep["runs"]]
        return [fact for fact in facts.read_objects(paths, shapes.RUN) if fact]

    def about(self) -> dict[str, Any]:
        """What the last sweep asks, in words; empty if nothing was said."""
        about = self._read(self.root / "recipe.json", shapes.ABOUT)
        return {} if about is None else about

    def write_result(self, id: str, record: Mapping[str, Any]) -> None:
        """Record the result of a finished run."""
        self.confirm()
        facts.write_fact(self.result_path(id), sealed(record))

    def result(self, id: str) -> dict[str, Any] | None:
        """The result of a run, or None if it is not finished."""
        return self._read(self.result_path(id), shapes.RESULT)

    def results(self, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """The results of several runs."""
        paths = [self.result_path(id) for id in ids]
        found = facts.read_objects(paths, shapes.RESULT, changed=self._changed)
        return [fact if fact is None else unsealed(fact) for fact in found]

    def result_path(self, id: str) -> epath.Path:
        """The file of a run's result."""
        return self.root / "results" / f"{id}.json"

    def finished_runs(self) -> set[str]:
        """Ids of all runs that have a result, of any sweep."""
        return set(facts.fact_names(self.root / "results"))

    # Failures and progress.

    def write_failure(self, edge: str, fact: Mapping[str, Any]) -> None:
        """Record why the edge that ends with a state could not be finished."""
        self.confirm()
        facts.write_fact(self.root / "failures" / f"{edge}.json", fact)

    def clear_failure(self, edge: str) -> None:
        """Forget a failure, because the edge is tried again."""
        self.confirm()
        (self.root / "failures" / f"{edge}.json").unlink(missing_ok=True)

    def failures(self) -> dict[str, dict[str, Any]]:
        """All failures, by the digest at the end of their edge."""
        names = facts.fact_names(self.root / "failures")
        folder = self.root / "failures"
        found = {name: self._read(folder / f"{name}.json", shapes.FAILURE) for name in names}
        return {name: fact for name, fact in found.items() if fact is not None}

    def write_progress(self, fact: Mapping[str, Any]) -> None:
        """Say what is being done now."""
        self.confirm()
        facts.write_fact(self.root / "progress.json", fact)

    def progress(self) -> dict[str, Any] | None:
        """What the last coordinator said it was doing, or None."""
        return self._read(self.root / "progress.json", shapes.PROGRESS)


def _names(folder: epath.Path) -> set[str]:
    return {item.name for item in folder.iterdir()} if folder.exists() else set()
