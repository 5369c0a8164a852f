"""Which parameters of a model are trained, how many these are, and what all of them take.

Here alone is said what is frozen: with adapters all else, otherwise what the configuration names.
Parameters are known by the last name of their path. Free of JAX.
"""

from collections.abc import Callable

from replay_jax.model.architecture import ModelConfig, ParameterCounts, parameter_counts
from replay_jax.model.lora import MATRICES, VOCABULARY, is_adapter

FLOAT32_BYTES = 4
_BYTES = {"float32": FLOAT32_BYTES, "bfloat16": 2}


def is_trained(name: str, model: ModelConfig) -> bool:
    """Whether a parameter is trained: here alone is said what is frozen."""
    return name not in model.frozen if model.lora is None else is_adapter(name)


def head_is_trained(model: ModelConfig) -> bool:
    """Whether the head, which may be the embedding, is trained."""
    return is_trained("embedding" if model.tied_embeddings else "head", model)


def stored_dtype(name: str, model: ModelConfig) -> str:
    """The dtype in which a parameter is kept.

    A frozen matrix is kept in that of the computation, to which every product casts it anyway: not
    a bit of any result differs.
    """
    return "float32" if is_trained(name, model) else base_dtype(name, model)


def base_dtype(name: str, model: ModelConfig) -> str:
    """The dtype in which a parameter of a model that is only compared with is kept."""
    return model.compute_dtype if name in (*MATRICES, *VOCABULARY) else "float32"


def adapter_parameters(model: ModelConfig) -> int:
    """Number of the parameters of all adapters."""
    if model.lora is None:
        return 0
    sizes = [model.matrix_sizes[name] for name in model.lora.matrices]
    return model.num_layers * model.lora.rank * sum(inputs + outputs for inputs, outputs in sizes)


def trained_counts(model: ModelConfig) -> ParameterCounts:
    """Numbers of the parameters that are trained; adapters are of the body."""
    every = parameter_counts(model)
    if model.lora is not None:
        return ParameterCounts(adapter_parameters(model), 0, 0)
    embedding = 0 if "embedding" in model.frozen else every.embedding
    return ParameterCounts(every.body, embedding, 0 if "head" in model.frozen else every.head)


def trained_bytes(model: ModelConfig) -> int:
    """Bytes of the parameters that are trained, of their gradients, and of an average of them."""
    return FLOAT32_BYTES * trained_counts(model).total


def parameter_bytes(model: ModelConfig) -> int:
    """Bytes of all parameters, the frozen ones among them."""
    kept = _bytes_without_adapters(model, stored_dtype)
    return kept + FLOAT32_BYTES * adapter_parameters(model)


def base_bytes(model: ModelConfig) -> int:
    """Bytes of the parameters of a model that is only compared with (`base_dtype`)."""
    return _bytes_without_adapters(model, base_dtype)


def _bytes_without_adapters(model: ModelConfig, dtype_of: Callable[[str, ModelConfig], str]) -> int:
    every = parameter_counts(model)
    matrices = model.num_layers * sum(a * b for a, b in model.matrix_sizes.values())
    vectors = every.body - matrices
    sizes = {"query": matrices, "embedding": every.embedding, "head": every.head}
    kept = sum(_BYTES[dtype_of(name, model)] * number for name, number in sizes.items())
    return kept + FLOAT32_BYTES * vectors


def saved_bytes(model: ModelConfig) -> int:
    """Bytes of the parameters of a saved state: adapters alone, where there are any."""
    if model.lora is None:
        return parameter_bytes(model)
    return FLOAT32_BYTES * adapter_parameters(model)
