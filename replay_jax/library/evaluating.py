"""What a model makes of given tokens and of tasks: a model folder, or a run's kept end."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tokenizers
from etils import epath

from replay_jax.data.judging.few_shot import few_shot
from replay_jax.data.judging.tasks import (
    TaskScore,
    read_items,
    row_batches,
    score_rows,
    task_batches,
    task_rows,
)
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.prepare import find_tokenizer
from replay_jax.data.tokens.tokenizer import (
    KNOWN_ENDS,
    TOKENIZER_FILE,
    Tokenizer,
    load_tokenizer,
    special_texts,
)
from replay_jax.errors import UserError
from replay_jax.hub.convention import is_own, own_tokenizer
from replay_jax.hub.folder import (
    RUN_FILE,
    Pretrained,
    json_object,
    pretrained_config,
    pretrained_folder,
)
from replay_jax.hub.weights import load_params
from replay_jax.library.exporting import end_params, kept_end, origin
from replay_jax.model.architecture import ModelConfig
from replay_jax.progress import stage, step_by_step
from replay_jax.sweep.plan.chain import Shared
from replay_jax.sweep.store.places import existing
from replay_jax.sweep.store.stored_run import restore_run
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.config import StepShape
from replay_jax.training.evaluate import compile_evaluation, row_losses
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.devices import attached_devices
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.step import abstract_state, place_batch
from replay_jax.training.trainable import merged

ONE_DEVICE = MeshConfig(1, 1, 1)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model on some of this process's devices, and what texts are its tokens.

    `tokenizer` is None for a model folder without one: then only tokens can be evaluated.
    `document_mask` says whether documents of its training did not see each other: then the token
    that ends one precedes none. `folder` is where the tokenizer's files are; None for a run that
    began from no model folder.
    """

    name: str
    model: ModelConfig
    params: Any
    mesh: jax.sharding.Mesh
    tokenizer: Tokenizer | None
    document_mask: bool
    folder: Path | None = None


def load_folder(name: str, *, ways: MeshConfig = ONE_DEVICE) -> Loaded:
    """A model folder of a known family, or a hub id, split over devices in these `ways`.

    Raises:
        UserError: it cannot be had or read, it is of no family that can be loaded, or there are
            not so many devices.
    """
    folder = pretrained_folder(name, download=True)
    model = pretrained_config(str(folder), download=False)
    mesh = _mesh(ways)
    # Its fingerprint is for runs that begin from it.
    place = Pretrained(name, str(folder), fingerprint="")
    params = load_params(place, abstract_state(model, mesh).params, model)
    return Loaded(name, model, params, mesh, _tokenizer_of(folder), _masked(folder), folder)


def load_run(
    workdir: epath.PathLike,
    run: str,
    *,
    target: str | None = None,
    ways: MeshConfig = ONE_DEVICE,
) -> Loaded:
    """The kept end of a run: its id, how an id begins, its name, or "best".

    Raises:
        UserError: no such run, it is not finished, its end was not kept, or there are not so many
            devices.
    """
    fact, _, saved = kept_end(WorkStore(existing(workdir)), run, target)
    trained = restore_run(fact, Shared())
    model, mesh = trained.config.model, _mesh(ways)
    params = merged(end_params(saved, trained, mesh), model)
    model = dataclasses.replace(model, lora=None, frozen=())
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(model, mesh).params)
    params = jax.device_put(params, places)
    tokenizer, folder = find_tokenizer(trained.config.data), origin(trained)
    # The files of another tokenizer than the data's say nothing of it.
    folder = folder if folder is not None and is_own(tokenizer, folder) else None
    masked = trained.config.training.document_mask
    return Loaded(str(fact["name"]), model, params, mesh, tokenizer, masked, folder)


def row_nats(loaded: Loaded, tokens: np.ndarray, *, batch_size: int = 8) -> np.ndarray:
    """Summed nats of every row: of each token but the first, given those before it.

    Args:
        loaded: the model.
        tokens: integers [rows, length], at least 2 long.
        batch_size: rows at a time.

    Returns:
        float32 [rows].

    Raises:
        UserError: another shape, or a token that the model does not have.
    """
    _check(loaded, tokens)
    counted = np.ones((len(tokens), tokens.shape[1] - 1), bool)
    batches = row_batches(tokens.astype(np.int32), counted, batch_size=batch_size)
    return _row_losses(loaded, batches, counted.shape, batch_size)


def score(
    loaded: Loaded, path: str | Path, *, batch_size: int = 8, shots: int = 0, seed: int = 0
) -> TaskScore:
    """What the model makes of a multiple-choice task (docs/tasks.md has its form).

    Args:
        loaded: the model.
        path: of the task.
        batch_size: rows at a time.
        shots: of the task's own other items, with their right choices, before each item.
        seed: of their draw.

    Raises:
        UserError: no such file, an item that is none, too few for so many examples, or a model
            folder without a tokenizer.
    """
    if loaded.tokenizer is None:
        raise UserError(
            f"{loaded.name} has no tokenizer.json, so texts are no tokens to it: evaluate --tokens"
        )
    items = few_shot(read_items(Path(os.path.expanduser(path))), shots, seed=seed)
    rows = task_rows(items, loaded.tokenizer, document_mask=loaded.document_mask)
    _check(loaded, rows.tokens)
    batches = task_batches(rows, batch_size=batch_size)
    return score_rows(rows, _row_losses(loaded, batches, rows.counted.shape, batch_size))


def _row_losses(
    loaded: Loaded, batches: Any, shape: tuple[int, ...], batch_size: int
) -> np.ndarray:
    rows, length = shape
    with stage("compiling"):
        program = compile_evaluation(StepShape(loaded.model, batch_size, length, 1), loaded.mesh)
    placed = [place_batch(batch, loaded.mesh) for batch in batches]
    try:
        nats = [
            row_losses(program, loaded.params, [batch], rows=batch_size)
            for batch in step_by_step(placed, "evaluating rows")
        ]
        return np.concatenate(nats)[:rows]
    except FloatingPointError as error:
        raise UserError(f"{loaded.name}: {error}") from error


def _check(loaded: Loaded, tokens: np.ndarray) -> None:
    if tokens.ndim != 2 or tokens.shape[1] < 2 or tokens.dtype.kind not in "iu":
        raise UserError(
            f"tokens are an integer array of rows x length with a length of at least 2, not "
            f"{tokens.dtype} of shape {tokens.shape}"
        )
    if tokens.shape[1] - 1 > loaded.model.max_seq_len:
        raise UserError(
            f"rows of {tokens.shape[1]:,} tokens are longer than the {loaded.model.max_seq_len:,} "
            f"positions of {loaded.name}: cut them"
        )
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < loaded.model.vocab_size:
        raise UserError(
            f"tokens from {int(tokens.min())} to {int(tokens.max())} are not all of the "
            f"{loaded.model.vocab_size:,} of {loaded.name}: they were made by another tokenizer"
        )


def _masked(folder: Path) -> bool:
    """Of the run that was exported; elsewhere nothing precedes a text, as in the harness."""
    about = folder / RUN_FILE
    facts = json_object(about) if about.is_file() else {}
    return "run" not in facts or bool(facts["run"]["config"]["training"]["document_mask"])


def _tokenizer_of(folder: Path) -> Tokenizer | None:
    """A folder's own tokenizer, which begins and ends texts as the folder says."""
    own = own_tokenizer(folder)
    if own is None:
        return None
    model = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    named = [model.id_to_token(token) for token in sorted(own.eos)]
    ends = [name for name in special_texts(model) if name in named]
    # Of several the one that ends documents where nothing is said.
    end = next((name for name in KNOWN_ENDS if name in ends), ends[0] if ends else "")
    begin = "" if own.bos is None else str(model.id_to_token(own.bos[0]))
    return load_tokenizer(
        TokenizerConfig(kind="file", path=str(folder), bos_token=begin, eos_token=end)
    )


def _mesh(ways: MeshConfig) -> jax.sharding.Mesh:
    return make_mesh(ways, attached_devices()[: ways.replica * ways.fsdp * ways.tensor])


def summary(found: TaskScore) -> Mapping[str, float | int]:
    """A task's score in numbers: shares that are right, and the mean choice loss in nats."""
    return {
        "items": len(found.correct),
        "accuracy": float(found.correct.mean()),
        "accuracy_by_length": float(found.correct_by_length.mean()),
        "choice_nats": float(found.choice_nats.mean()),
    }
