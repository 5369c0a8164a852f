"""The end state of a run, out of its working directory and into a model folder."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath

from replay_jax.data.tokens.prepare import find_tokenizer
from replay_jax.errors import UserError
from replay_jax.hub.adapter import write_adapter_folder
from replay_jax.hub.export import write_model_folder
from replay_jax.hub.folder import find_pretrained
from replay_jax.hub.weights import load_params
from replay_jax.library.naming import BEST, best_run, find_run
from replay_jax.sweep.plan.chain import Shared
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.store.known import params_path
from replay_jax.sweep.store.places import existing
from replay_jax.sweep.store.stored_run import restore_run
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.saving.checkpoint import restore_params
from replay_jax.training.step import abstract_state
from replay_jax.training.trainable import joined, merged, split


def export(
    workdir: epath.PathLike,
    run: str,
    folder: str | Path,
    *,
    dtype: str = "bfloat16",
    target: str | None = None,
    adapter: bool = False,
) -> list[str]:
    """Write a finished run's parameters as a model folder of the Hugging Face hub.

    They are read onto this process's first device, whatever mesh trained them. A run that began
    from a model folder becomes a model of the same family; the tokenizer's files, chat template and
    settings of generation are copied from that folder, if it is here and its tokenizer was used.

    Examples:
        >>> replay_jax.export("runs/quickstart", "3f9c1a", "models/quickstart")  # doctest: +SKIP

    Args:
        workdir: where the run was trained, with `execution.keep_ends` or `keep_states`.
        run: its id, the beginning of its id, or its name, as `status` prints them; or "best", the
            first seed of the schedule that `recommend` names.
        folder: must not exist yet.
        dtype: "bfloat16" or "float32".
        target: of "best", where there are several.
        adapter: write the run's adapters (`model.lora`) alone, as PEFT loads them, not merged.

    Returns:
        the names of the files written.

    Raises:
        UserError: no such run, it is not finished, its state was not kept or is damaged, its
            tokenizer is not on this machine, the folder cannot be written, adapters are asked of a
            run without any, or the model that they are beside is not here any more.
    """
    if ":/" in str(folder):
        raise UserError(f"'{folder}' is not on a disk: export to a folder and copy it")
    store = WorkStore(existing(workdir))
    fact, record, saved = kept_end(store, run, target)
    trained = restore_run(fact, Shared())
    model, place = trained.config.model, Path(os.path.expanduser(folder))
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    about: dict[str, Any] = {"dtype": dtype, "facts": {"run": record}}
    if adapter:
        if model.lora is None:
            raise UserError(
                f"run '{fact['name']}' ({fact['id']}) was trained whole, without model.lora, so it "
                "has no adapter: export the model"
            )
        like, _ = split(abstract_state(model, mesh).params, model)
        base = trained.config.initial_weights
        return write_adapter_folder(place, restore_params(saved, like), model, base=base, **about)
    return write_model_folder(
        place,
        merged(end_params(saved, trained, mesh), model),
        dataclasses.replace(model, lora=None, frozen=()),
        find_tokenizer(trained.config.data),
        origin=origin(trained),
        **about,
    )


def end_params(saved: epath.Path, run: Run, mesh: jax.sharding.Mesh) -> Any:
    """The parameters at a run's end, adapters with the model that they are beside.

    Raises:
        UserError: they are damaged, or that model is not here any more, or not as it was.
    """
    model = run.config.model
    like = abstract_state(model, mesh).params
    if model.lora is None:
        return restore_params(saved, like)
    adapters, base = split(like, model)
    start = origin(run)
    if start is None or run.pretrained is None:
        raise UserError(
            f"run '{run.name}' ({run.id}) has adapters of {run.config.initial_weights}, which is "
            "not here as it was: put it back, or export with --adapter"
        )
    found = dataclasses.replace(run.pretrained, folder=str(start))
    return joined(restore_params(saved, adapters), load_params(found, base, model))


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
    return _from_home(fact, store.root), record, saved


def _from_home(fact: Mapping[str, Any], root: epath.Path) -> Mapping[str, Any]:
    """A run's facts, its relative folders being of where it was trained.

    That is this folder, or else the nearest above the working directory that has the stores.
    """
    config = fact["config"]
    stores = Path(config["data"]["store_dir"]).expanduser()
    above = () if "://" in os.fspath(root) else Path(os.path.abspath(root)).parents
    home = next((place for place in (Path.cwd(), *above) if (place / stores).is_dir()), Path.cwd())
    if home == Path.cwd() or "://" in config["data"]["store_dir"]:
        return fact
    data = {**config["data"], "store_dir": str(home / stores)}
    tokenizer, start = data["tokenizer"], fact["pretrained"]
    if (home / tokenizer["path"]).exists():
        data["tokenizer"] = {
            **tokenizer,
            "path": tokenizer["path"] and str(home / tokenizer["path"]),
        }
    if start is not None and (home / start["name"]).is_dir():
        start = {**start, "name": str(home / start["name"])}
    return {**fact, "config": {**config, "data": data}, "pretrained": start}


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
