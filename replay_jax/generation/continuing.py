"""Continuations of many prompts: batches of alike length, a few tokens between two looks.

The device decodes LOOK tokens at a time; between them the host sees which texts have ended.

Shape letters: B batch, P prompt, C tokens between two looks, E end tokens, V vocabulary.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from replay_jax.errors import UserError
from replay_jax.generation.cache import Cache, decode_step, logits, prefill
from replay_jax.generation.decoder import computed
from replay_jax.generation.lengths import compiled_length, shared_lengths
from replay_jax.generation.sampling import Sampling, next_tokens, text_keys
from replay_jax.model.architecture import ModelConfig
from replay_jax.model.flops import flops_per_token
from replay_jax.progress import step_by_step
from replay_jax.training.config import StepShape
from replay_jax.training.mesh.devices import compiler_options
from replay_jax.training.mesh.sharding import batch_sharding, placement, replicated
from replay_jax.training.step import check_shape, on_mesh, platform_of

LOOK = 16
# Whether a text has ended, by its tokens so far.
IsOver = Callable[[Sequence[int]], bool]


@dataclass(frozen=True)
class Prompt:
    """Tokens to go on from, one at least; `number` says which text it is to the seed."""

    tokens: Sequence[int]
    number: int


@dataclass(frozen=True, eq=False)
class Speaker:
    """A model that continues texts.

    Attributes:
        model: the model.
        params: its parameters, on `mesh`.
        mesh: of devices; it divides `batch_size`.
        batch_size: texts at a time.
        ends: tokens that end a text, which are not part of it.
        sampling: how tokens are drawn; None for the likeliest.
        seed: of all draws, uint32.
    """

    model: ModelConfig
    params: Any
    mesh: Mesh
    batch_size: int
    ends: frozenset[int]
    sampling: Sampling | None = None
    seed: int = 0


class _Said(flax.struct.PyTreeNode):
    """Between two looks: the last tokens are not in the cache yet; `place` counts tokens."""

    cache: Cache
    last_B: jax.Array
    keys_B: jax.Array
    place: jax.Array


def continuations(
    speaker: Speaker,
    prompts: Sequence[Prompt],
    *,
    new_tokens: int,
    is_over: IsOver = lambda _: False,
) -> list[list[int]]:
    """What each prompt goes on with, in the order of the prompts.

    A text ends before a token of `ends`, after `new_tokens`, or soon after `is_over`: its tokens
    may be up to LOOK more than those with which it was over.

    Raises:
        UserError: an empty prompt, or one that with its continuation exceeds the context.
    """
    _check(speaker, prompts, new_tokens)
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index].tokens))
    size = speaker.batch_size
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    longest = [(compiled_length(len(prompts[first].tokens)),) for first, *_ in batches]
    lengths = shared_lengths(
        longest, lambda length: size * _flops(speaker.model, length[0], new_tokens),
        platform=platform_of(speaker.mesh), devices=speaker.mesh.size,
    )  # fmt: skip
    found: list[list[int]] = [[] for _ in prompts]
    precision = jax.default_matmul_precision(speaker.model.product_precision)
    with on_mesh(speaker.mesh), precision:
        steps = step_by_step(list(zip(batches, lengths, strict=True)), "writing")
        for chosen, (length,) in steps:
            asked = [prompts[index] for index in chosen]
            said = _batch(speaker, asked, length, new_tokens, is_over)
            for index, tokens in zip(chosen, said, strict=True):
                found[index] = tokens
    return found


def _check(speaker: Speaker, prompts: Sequence[Prompt], new_tokens: int) -> None:
    model = speaker.model
    check_shape(StepShape(model, speaker.batch_size, 1, 1), speaker.mesh, batch_name="the batch")
    if new_tokens < 1:
        raise UserError(f"{new_tokens} new tokens say nothing: ask for 1 or more")
    for index, prompt in enumerate(prompts):
        if not len(prompt.tokens):
            raise UserError(f"prompt {index + 1} has no token: begin it with some text")
        if len(prompt.tokens) + new_tokens > model.max_seq_len:
            raise UserError(
                f"prompt {index + 1} of {len(prompt.tokens):,} tokens and {new_tokens:,} new ones "
                f"are more than the {model.max_seq_len:,} positions of the model: cut the prompt "
                "or ask for fewer"
            )


def _flops(model: ModelConfig, length: int, new_tokens: int) -> float:
    """Of a text's prompt, and of what its length costs each token after it."""
    read = flops_per_token(model, length, causal_half=False)
    written = flops_per_token(model, length + new_tokens, causal_half=False)
    return (length * (read.body + read.attention) + new_tokens * written.attention) / 3


def _batch(
    speaker: Speaker, prompts: Sequence[Prompt], length: int, new_tokens: int, is_over: IsOver
) -> list[list[int]]:
    rows = speaker.batch_size
    tokens_BP, first_B = np.zeros((rows, length), np.int32), np.full(rows, length - 1, np.int32)
    numbers_B = np.zeros(rows, np.uint32)
    for row, prompt in enumerate(prompts):
        first_B[row] = length - len(prompt.tokens)
        tokens_BP[row, first_B[row] :] = prompt.tokens
        numbers_B[row] = prompt.number
    looks = -(-new_tokens // LOOK)
    begin, more = _programs(speaker.model, speaker.mesh, speaker.sampling)
    split = batch_sharding(speaker.mesh)
    arrays = jax.device_put((tokens_BP, first_B, numbers_B), split)
    ends_E = jnp.asarray(sorted(speaker.ends) or [-1], jnp.int32)
    said: list[list[int]] = [[] for _ in prompts]
    done = np.arange(rows) >= len(prompts)
    state = begin(speaker.params, *arrays, np.uint32(speaker.seed), room=compiled_length(looks))
    for _ in range(looks):
        new_BC, state = more(speaker.params, state, jax.device_put(done, split), ends_E)
        _take(np.asarray(new_BC), said, done, speaker.ends, new_tokens, is_over)
        if done.all():
            break
    return said


def _take(
    new_BC: np.ndarray,
    said: list[list[int]],
    done: np.ndarray,
    ends: frozenset[int],
    new_tokens: int,
    is_over: IsOver,
) -> None:
    """Add the new tokens to texts that have not ended, and mark those that end with them."""
    for row, text in enumerate(said):
        if done[row]:
            continue
        new = new_BC[row].tolist()
        cut = next((place for place, token in enumerate(new) if token in ends), len(new))
        text.extend(new[:cut])
        del text[new_tokens:]
        done[row] = cut < len(new) or len(text) == new_tokens or is_over(text)


@functools.cache
def _programs(model: ModelConfig, mesh: Mesh, sampling: Sampling | None) -> tuple[Any, Any]:
    """Begin with prompts, and go on for LOOK tokens; compiled for each shape when it first comes.

    A sampled text is drawn in the numbering of `next_tokens`.
    """
    platform, placed, whole = platform_of(mesh), placement(mesh), replicated(mesh)

    def choose(params: Any, hidden_BD: jax.Array, keys_B: jax.Array, place: jax.Array) -> jax.Array:
        return next_tokens(logits(params, hidden_BD), sampling, keys_B, place)

    def begin(
        params: Any, tokens_BP: jax.Array, first_B: jax.Array, numbers_B: jax.Array,
        seed: jax.Array, *, room: int,
    ) -> _Said:  # fmt: skip
        params = computed(params, model)
        hidden_BPD, cache = prefill(
            model, params, tokens_BP, first_B, slots=tokens_BP.shape[1] + room * LOOK,
            platform=platform, placement=placed,
        )  # fmt: skip
        keys_B, place = text_keys(seed, numbers_B), jnp.zeros((), jnp.int32)
        return _Said(cache, choose(params, hidden_BPD[:, -1], keys_B, place), keys_B, place)

    def more(
        params: Any, said: _Said, done_B: jax.Array, ends_E: jax.Array
    ) -> tuple[jax.Array, _Said]:
        params = computed(params, model)

        def goes_on(carry: tuple[jax.Array, _Said, jax.Array, jax.Array]) -> jax.Array:
            return (carry[0] < LOOK) & ~jnp.all(carry[3])

        def one(
            carry: tuple[jax.Array, _Said, jax.Array, jax.Array],
        ) -> tuple[jax.Array, _Said, jax.Array, jax.Array]:
            count, said, new_BC, done_B = carry
            new_BC = jax.lax.dynamic_update_slice_in_dim(new_BC, said.last_B[:, None], count, 1)
            done_B = done_B | jnp.isin(said.last_B, ends_E)
            hidden_BD, cache = decode_step(model, params, said.last_B, said.cache)
            place = said.place + 1
            last_B = choose(params, hidden_BD, said.keys_B, place)
            said = said.replace(cache=cache, last_B=last_B, place=place)
            return count + 1, said, new_BC, done_B

        # What a look that ends early leaves out is an end to every text: none reads past its own.
        start = jnp.full((len(done_B), LOOK), ends_E[0], jnp.int32)
        _, said, new_BC, _ = jax.lax.while_loop(goes_on, one, (jnp.int32(0), said, start, done_B))
        return jax.lax.with_sharding_constraint(new_BC, whole), said

    options = compiler_options(platform)
    return (
        jax.jit(begin, static_argnames="room", compiler_options=options),
        jax.jit(more, donate_argnums=1, compiler_options=options),
    )
