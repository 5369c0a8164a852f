"""Low-rank adapters as the folder that PEFT loads: adapter_config.json, adapter_model.safetensors.

Names and shapes are those of PEFT's own `save_pretrained` (Hugging Face PEFT 0.21, read 2026-11):
`lora_A` is [rank, inputs] and `lora_B` [outputs, rank], each below the name of its matrix.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from replay_jax.hub.export import EXPORT_DTYPES
from replay_jax.hub.folder import RUN_FILE
from replay_jax.hub.layout import Layout, hub_tensors
from replay_jax.hub.whole import whole_folder, write_json
from replay_jax.model.architecture import ModelConfig
from replay_jax.model.lora import DOWN, UP


def write_adapter_folder(
    folder: Path,
    adapters: Any,
    model: ModelConfig,
    *,
    base: str,
    dtype: str,
    facts: Mapping[str, Any],
) -> list[str]:
    """Write adapters alone; whole or not at all.

    Args:
        folder: must not exist yet.
        adapters: the trained parameters of `model`, on this host.
        model: has adapters.
        base: the folder or hub id of the model that they adapt.
        dtype: "bfloat16" or "float32".
        facts: where they come from, kept as replay_jax.json.

    Returns:
        the names of the files written.

    Raises:
        UserError: the folder exists, or cannot be written (permissions, full disk).
    """
    tensors = peft_tensors(adapters, model)
    with whole_folder(folder) as partial:
        write_json(partial / "adapter_config.json", _config(model, base, tensors))
        write_json(partial / RUN_FILE, facts)
        kept = {
            name: np.ascontiguousarray(tensor.astype(EXPORT_DTYPES[dtype]))
            for name, tensor in tensors.items()
        }
        save_file(kept, partial / "adapter_model.safetensors", metadata={"format": "pt"})
    return sorted(path.name for path in folder.iterdir())


def peft_tensors(adapters: Any, model: ModelConfig) -> dict[str, np.ndarray]:
    """Every tensor of PEFT by name."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(adapters)[0]:
        *place, name = (key.key for key in path)
        matrix, is_down = name.removesuffix(DOWN).removesuffix(UP), name.endswith(DOWN)
        of_matrix, whole = hub_tensors((*place, matrix), model), np.asarray(leaf)
        for number, theirs in enumerate(of_matrix.names):
            part = whole[number] if of_matrix.is_stacked else whole
            first, *middle, last = range(part.ndim)
            groups = ((last,), (first, *middle)) if is_down else ((*middle, last), (first,))
            module, side = theirs.removesuffix(".weight"), "lora_A" if is_down else "lora_B"
            found[f"base_model.model.{module}.{side}.weight"] = Layout(groups).to_hub(part)
    return found


def _config(model: ModelConfig, base: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    assert model.lora is not None
    alpha = model.lora.alpha
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": model.lora.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "target_modules": sorted({name.split(".")[-3] for name in tensors}),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "inference_mode": True,
    }
