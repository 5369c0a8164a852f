"""The next token: the likeliest, or drawn by temperature from the likeliest few.

A draw depends on the seed, the number of its text and the place in it alone, whatever else is in
the batch. Shape letters: B batch, V vocabulary.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from replay_jax.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: first tempered, then cut to `top_k`, then to `top_p`.

    temperature: logits are divided by it. top_k: only so many of the likeliest; 0 for all. top_p:
    only the likeliest that have this probability together (arXiv 1904.09751); 1 for all.
    Raises UserError for values that are none.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise UserError(
                f"a temperature of {self.temperature:g} draws nothing: give one above 0, or decode "
                "greedily"
            )
        if self.top_k < 0:
            raise UserError(f"top_k is {self.top_k}; it must be 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p:g}; it must be above 0 and at most 1")


def next_tokens(
    logits_BV: jax.Array, sampling: Sampling | None, keys_B: jax.Array, place: jax.Array
) -> jax.Array:
    """Token ids int32 [B]; of equally likely ones the first.

    Args:
        logits_BV: float32.
        sampling: None to decode greedily.
        keys_B: of each text (`text_keys`).
        place: number of the token in its text, from 0.
    """
    if sampling is None:
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    left_BV = _cut(logits_BV / sampling.temperature, sampling)
    keys_B = jax.vmap(lambda key: jax.random.fold_in(key, place))(keys_B)
    return jax.vmap(jax.random.categorical)(keys_B, left_BV).astype(jnp.int32)


def text_keys(seed: jax.Array | int, numbers_B: jax.Array) -> jax.Array:
    """A key for each text by its number, uint32 [B]."""
    return jax.vmap(lambda number: jax.random.fold_in(jax.random.key(seed), number))(numbers_B)


def _cut(logits_BV: jax.Array, sampling: Sampling) -> jax.Array:
    vocabulary = logits_BV.shape[-1]
    if 0 < sampling.top_k < vocabulary:
        least_B1 = jax.lax.top_k(logits_BV, sampling.top_k)[0][:, -1:]
        logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
    if sampling.top_p < 1:
        sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
        shares_BV = jax.nn.softmax(sorted_BV, axis=-1)
        # A token stays while the likelier ones have less than top_p; so the likeliest always does.
        stays_BV = jnp.cumsum(shares_BV, axis=-1) - shares_BV < sampling.top_p
        least_B1 = jnp.min(jnp.where(stays_BV, sorted_BV, jnp.inf), axis=-1, keepdims=True)
        logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
    return logits_BV
