"""A pre-trained model on disk: a folder with `config.json` and safetensors, known by its content.

Free of JAX, so that planning is quick; `weights` reads the parameters.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replay_jax.data.sources.fingerprints import file_inputs
from replay_jax.errors import UserError
from replay_jax.hub.config import check_same_model, model_of_hub
from replay_jax.model.architecture import ModelConfig

RUN_FILE = "replay_jax.json"  # what run a folder was exported from
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?")
_INDEX = "model.safetensors.index.json"
# Of the rest, what belongs to the tokenizer and to what is written again (`convention`, `export`).
_FILES = ("*.safetensors", "*.json", "tokenizer.model", "merges.txt", "chat_template.jinja")
_LONGEST_NAME = 255  # bytes, on any system


@dataclass(frozen=True)
class Pretrained:
    """A model whose files are on this machine.

    Attributes:
        name: as the configuration gives it.
        folder: where its files are.
        fingerprint: hash of all its tensors, by the content of their files.
    """

    name: str
    folder: str
    fingerprint: str


def pretrained_folder(name: str, *, download: bool) -> Path:
    """The folder of a model: a path, or a Hugging Face id such as "org/model" or "org/model@tag".

    Args:
        name: the path or id.
        download: whether what the local cache of the hub lacks is fetched.

    Raises:
        UserError: there is no such folder, or the model cannot be had.
    """
    if ":/" in name:
        raise UserError(
            f"initial_weights {name!r} is not on a disk: copy it to a folder that every host has"
        )
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return folder
    match = _HUB_ID.fullmatch(name)
    if match is None or name.startswith("."):
        raise UserError(f"no folder {name!r} with a pre-trained model")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                match[1],
                revision=match[2],
                allow_patterns=list(_FILES),
                local_files_only=not download,
            )
        )
    except Exception as error:  # the library raises its own, httpx's and OSError
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name!r} is no folder, and the hub's model of that name cannot be had: {reason}"
        ) from error


def pretrained_config(name: str, *, download: bool) -> ModelConfig:
    """The model that a folder's or hub id's `config.json` describes.

    Raises:
        UserError: it cannot be had or read, or it is of no family that can be loaded.
    """
    folder = pretrained_folder(name, download=download)
    return model_of_hub(folder_config(folder), name=name)


def folder_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder; raises UserError where there is none."""
    path = folder / "config.json"
    _check_link(path)
    if not path.exists():
        raise UserError(f"{path.parent} has no config.json, so it is no model folder")
    return json_object(path)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by name: those of its index, or all where it has none.

    Raises:
        UserError: there is none, one is not there, or it cannot be told which files count.
    """
    named = _indexed(folder / _INDEX)
    found = sorted(folder.glob("*.safetensors")) if named is None else named
    if not found:
        raise UserError(f"{folder} has no *.safetensors: convert its weights to safetensors first")
    for path in found:
        _check_link(path)
        if not path.is_file():
            raise UserError(f"{path} is not there, although {_INDEX} names it: fetch it again")
    return found


def _indexed(index: Path) -> list[Path] | None:
    """The files that an index names, by name; None without an index."""
    _check_link(index)
    if not index.exists():
        return None
    places = json_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(_is_file_name(name) for name in places.values()):
        raise UserError(f"{index} has no weight_map from tensors to names of files beside it")
    single = index.with_name("model.safetensors")
    if single.exists() and single.name not in places.values():
        raise UserError(
            f"{index.parent} has {single.name} and an index of other files: remove what is stale"
        )
    return [index.with_name(name) for name in sorted(set(places.values()))]


def _is_file_name(name: object) -> bool:
    """Whether the system could have a file of this name in any folder."""
    if not isinstance(name, str) or name in ("", ".", "..") or name != Path(name).name:
        return False
    try:
        return len(os.fsencode(name)) <= _LONGEST_NAME and "\0" not in name
    except UnicodeEncodeError:
        return False


def _check_link(path: Path) -> None:
    """Raise UserError for a link that leads nowhere, as an interrupted download leaves it."""
    if path.is_symlink() and not path.exists():
        raise UserError(
            f"{path} is a link to {path.readlink()}, which is not there: fetch it again"
        )


def json_object(path: Path) -> dict[str, Any]:
    """What a JSON file holds; raises UserError unless that is an object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds {str(found)[:40]!r} and no JSON object")
    return found


def find_pretrained(name: str, store_dir: str, *, download: bool) -> Pretrained:
    """A model and its fingerprint; hashes of files are remembered in `store_dir`.

    Raises:
        UserError: it cannot be had.
    """
    folder = pretrained_folder(name, download=download)
    inputs = file_inputs(weight_files(folder), Path(store_dir))
    return Pretrained(name, str(folder.absolute()), inputs.digest)


def check_pretrained(model: ModelConfig, pretrained: Pretrained) -> None:
    """Raise UserError unless the parameters of a pre-trained model are those of `model`."""
    theirs = pretrained_config(pretrained.folder, download=False)
    check_same_model(model, theirs, name=pretrained.name)
