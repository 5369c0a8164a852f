"""The end state of a run, out of its working directory and into a model folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath

from replay_jax.data.tokens.prepare import find_tokenizer
from replay_jax.errors import UserError
from replay_jax.hub.export import write_model_folder
from replay_jax.hub.folder import find_pretrained
from replay_jax.library.naming import BEST, best_run, find_run
from replay_jax.sweep.plan.run import Run, Shared
from replay_jax.sweep.store.known import params_path
from replay_jax.sweep.store.places import existing
from replay_jax.sweep.store.stored_run import restore_run
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.checkpoint import restore_params
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.step import abstract_state


def export(
    workdir: epath.PathLike,
    run: str,
    folder: str | Path,
    *,
    dtype: str = "bfloat16",
    target: str | None = None,
) -> list[str]:
    """Write a finished run's parameters as a model folder of the Hugging Face hub.

    They are read onto this process's first device, whatever mesh trained them. A run that began
    from a model folder becomes a model of the same family; the tokenizer's files, chat template and
    settings of generation are copied from that folder, if it is here and its tokenizer was used.

    Example:
        >>> replay_jax.export("runs/quickstart", "3f9c1a", "models/quickstart")  # doctest: +SKIP

    Args:
        workdir: where the run was trained, with `execution.keep_ends` or `keep_states`.
        run: its id, the beginning of its id, or its name, as `status` prints them; or "best", the
            first seed of the schedule that `recommend` names.
        folder: must not exist yet.
        dtype: "bfloat16" or "float32".
        target: of "best", where there are several.

    Returns:
        the names of the files written.

    Raises:
        UserError: no such run, it is not finished, its state was not kept or is damaged, its
            tokenizer is not on this machine, or the folder cannot be written.
    """
    if ":/" in str(folder):
        raise UserError(f"'{folder}' is not on a disk: export to a folder and copy it")
    store = WorkStore(existing(workdir))
    fact, record, saved = kept_end(store, run, target)
    trained = restore_run(fact, Shared())
    model = trained.config.model
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    return write_model_folder(
        Path(os.path.expanduser(folder)),
        restore_params(saved, abstract_state(model, mesh).params),
        model,
        find_tokenizer(trained.config.data),
        dtype=dtype,
        facts={"run": record},
        origin=origin(trained),
    )


def kept_end(
    store: WorkStore, run: str, target: str | None
) -> tuple[Mapping[str, Any], Mapping[str, Any], epath.Path]:
    """The facts of a run, its record, and where the parameters at its end are.

    Args:
        store: of the working directory.
        run, target: as for `export`.

    Raises:
        UserError: no such run, it is not finished, or its end was not kept.
    """
    facts = store.runs()
    if run == BEST:
        run = best_run(store.root, target)
    names = [(fact["id"], fact["name"]) for fact in facts]
    fact = facts[find_run(names, run, where=str(store.root))]
    record = store.result(fact["id"])
    if record is None:
        raise UserError(f"run '{fact['name']}' ({fact['id']}) is not finished: train it first")
    saved = params_path(store, fact["path"][-1]["digest"])
    if saved is None:
        raise UserError(
            f"the end state of run '{fact['name']}' ({fact['id']}) was not kept: train it in "
            "another --workdir with --config.execution.keep_ends=True"
        )
    return fact, record, saved


def origin(run: Run) -> Path | None:
    """The model folder that a run began from, if that is still here and still the same."""
    if run.pretrained is None:
        return None
    try:
        data = run.config.data
        found = find_pretrained(run.pretrained.name, data.store_dir, download=False)
    except UserError:
        return None
    return Path(found.folder) if found.fingerprint == run.pretrained.fingerprint else None
