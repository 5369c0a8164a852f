"""Parameters as a model folder of the Hugging Face hub: config.json, safetensors, tokenizer."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from replay_jax.data.conversations.chat_files import read_chat
from replay_jax.data.tokens.tokenizer import Tokenizer
from replay_jax.errors import UserError
from replay_jax.hub.config import (
    check_same_model,
    family_of_hub,
    family_of_model,
    hub_of_model,
    model_of_hub,
)
from replay_jax.hub.convention import (
    GENERATION_FILE,
    TOKENIZER_FILES,
    is_own,
    stops,
    token_numbers,
)
from replay_jax.hub.folder import RUN_FILE, folder_config, json_object
from replay_jax.hub.layout import hub_tensors
from replay_jax.hub.whole import whole_folder, write_json
from replay_jax.model.architecture import ModelConfig
from replay_jax.progress import step_by_step

EXPORT_DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}
# As transformers cuts large models by default.
SHARD_BYTES = 5 * 10**9
_MARKS = ("bos_token_id", "eos_token_id", "pad_token_id")


def write_model_folder(
    folder: Path,
    params: Any,
    model: ModelConfig,
    tokenizer: Tokenizer,
    *,
    dtype: str,
    facts: Mapping[str, Any],
    origin: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[str]:
    """Write a folder that `transformers` and `initial_weights` load; whole or not at all.

    Args:
        folder: must not exist yet.
        params: the parameters, on this host.
        model: their sizes.
        tokenizer: what made their tokens; its file is left out where it has none (plain bytes).
        dtype: "bfloat16" or "float32".
        facts: where they come from, kept as replay_jax.json.
        origin: the model folder that training began from, whose family it is written as; where
            its tokenizer is `tokenizer`, the files of that, chat template and settings of
            generation among them, are copied from it, but for a template that training was given
            in place of its own. None for the first family that computes it.
        shard_bytes: a file holds no more than this, one tensor at least.

    Returns:
        the names of the files written.

    Raises:
        UserError: the folder exists, or cannot be written (permissions, full disk), or the family
            does not compute the model.
    """
    config = _config(model, tokenizer, origin)
    config["torch_dtype"] = dtype
    with whole_folder(folder) as partial:
        write_json(partial / "config.json", config)
        write_json(partial / RUN_FILE, facts)
        if origin is not None and is_own(tokenizer, origin):
            for name in TOKENIZER_FILES:
                if (origin / name).is_file():
                    shutil.copyfile(origin / name, partial / name)
        elif tokenizer.model is not None:
            (partial / "tokenizer.json").write_text(tokenizer.model.to_str(), encoding="utf-8")
            write_json(partial / "tokenizer_config.json", _tokenizer_config(tokenizer, model))
        if tokenizer.chat is not None and _template_of(partial) != tokenizer.chat.template:
            (partial / "chat_template.jinja").write_text(tokenizer.chat.template, encoding="utf-8")
        _write_generation(partial, config, tokenizer)
        tensors = _hub_parameters(params, model, EXPORT_DTYPES[dtype])
        _write_tensors(partial, tensors, shard_bytes)
    return sorted(path.name for path in folder.iterdir())


def _config(model: ModelConfig, tokenizer: Tokenizer, origin: Path | None) -> dict[str, Any]:
    """The `config.json` less its dtype, of the origin's family and with its marks of texts."""
    marks: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": None,
    }
    if origin is None:
        return {**hub_of_model(model, family_of_model(model)), **marks}
    theirs = folder_config(origin)
    family = family_of_hub(theirs, str(origin))
    found = hub_of_model(model, family)
    check_same_model(model, model_of_hub(found, name=family.title), name=family.title)
    if is_own(tokenizer, origin):
        marks = {key: theirs.get(key, value) for key, value in marks.items()}
    return {**found, **marks}


def _hub_parameters(
    params: Any, model: ModelConfig, dtype: np.dtype
) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of the hub by name, one after another."""
    for path, leaf in step_by_step(
        jax.tree_util.tree_flatten_with_path(params)[0], "writing weights"
    ):
        tensors = hub_tensors(tuple(key.key for key in path), model)
        whole = np.asarray(leaf)
        for number, name in enumerate(tensors.names):
            part = whole[number] if tensors.is_stacked else whole
            yield name, np.ascontiguousarray(tensors.layout.to_hub(part).astype(dtype))


def _write_tensors(
    folder: Path, tensors: Iterator[tuple[str, np.ndarray]], shard_bytes: int
) -> None:
    """Files of at most `shard_bytes`, and an index if there are several."""
    written: list[tuple[Path, list[str]]] = []
    total = size = 0
    shard: dict[str, np.ndarray] = {}

    def close() -> None:
        path = folder / f"{len(written)}.safetensors"
        save_file(shard, path, metadata={"format": "pt"})
        written.append((path, list(shard)))
        shard.clear()

    for name, tensor in tensors:
        if shard and size + tensor.nbytes > shard_bytes:
            close()
            size = 0
        shard[name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
    close()
    if len(written) == 1:
        written[0][0].rename(folder / "model.safetensors")
        return
    index: dict[str, str] = {}
    for number, (path, names) in enumerate(written, 1):
        final = f"model-{number:05}-of-{len(written):05}.safetensors"
        path.rename(folder / final)
        index |= dict.fromkeys(names, final)
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))},
    )


def _template_of(folder: Path) -> str | None:
    """The chat template that lies in a folder."""
    try:
        return read_chat(str(folder), given="", special=(), download=False).template
    except UserError:
        return None


def _write_generation(folder: Path, config: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Let generation stop where an answer ended in training; what does already is left alone."""
    path = folder / GENERATION_FILE
    settings = json_object(path) if path.is_file() else {}
    told = settings if settings.get("eos_token_id") is not None else config
    known = token_numbers(told["eos_token_id"])
    ends = stops(tokenizer, known)
    if ends != known:
        marks = {mark: value for mark in _MARKS if (value := config[mark]) is not None}
        write_json(path, {**marks, **settings, "eos_token_id": ends})


def _tokenizer_config(tokenizer: Tokenizer, model: ModelConfig) -> dict[str, Any]:
    assert tokenizer.model is not None
    marks = {"eos_token": tokenizer.model.id_to_token(tokenizer.eos_id)}
    if tokenizer.bos_id is not None:
        marks["bos_token"] = tokenizer.model.id_to_token(tokenizer.bos_id)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **marks,
        "model_max_length": model.max_seq_len,
    }
