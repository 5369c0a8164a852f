"""A cache changes nothing: logits, continuations and likelihoods are those of whole forward passes.

One model with all that any family does otherwise, layers of two kinds, windows shorter than texts.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_texts import params_of
from tiny_training import MODEL, mesh_of

from replay_jax.errors import UserError
from replay_jax.generation.branches import Request
from replay_jax.generation.cache import decode_step, logits, prefill
from replay_jax.generation.continuing import LOOK, Prompt, Speaker, continuations
from replay_jax.generation.scoring import log_likelihoods
from replay_jax.model.architecture import RopeConfig, Variant
from replay_jax.model.decoder import build_transformer
from replay_jax.training.step import abstract_state

VARIANT = Variant(
    head_dim=6, qkv_bias=True, qk_norm="projection", norms="both", centred_norms=True,
    scaled_embedding=True, query_scalar=12.0, activation="gelu_tanh", window=3,
    windowed_layers=(0,), unrotated_layers=(1,), local_rope=RopeConfig(100.0),
)  # fmt: skip
ODD = dataclasses.replace(MODEL, num_layers=2, variant=VARIANT)
SCANNED = dataclasses.replace(ODD, layer_loop="scan")
LENGTH = 32


@pytest.fixture(scope="module")
def params():
    return params_of(ODD)


def stacked(params):
    layers = [params[f"layer_{number}"] for number in range(ODD.num_layers)]
    rest = {name: leaf for name, leaf in params.items() if not name.startswith("layer_")}
    return {**rest, "layers": jax.tree.map(lambda *leaves: np.stack(leaves), *layers)}


@functools.partial(jax.jit, static_argnums=0)
def whole(model, params, tokens):
    hidden = build_transformer(model, platform="cpu").apply({"params": params}, tokens)
    return logits(params, hidden)


def tokens_of(seed, *shape):
    return np.random.default_rng(seed).integers(0, ODD.vocab_size, shape).astype(np.int32)


def test_logits_with_a_cache_are_those_without(params):
    """Scanned layers, and a row that begins 5 tokens later than the other."""
    wanted, late = whole(ODD, params, tokens_of(1, 1, LENGTH))[0], 5
    text = tokens_of(1, LENGTH)
    tokens = np.stack([text, np.concatenate([np.full(late, 9, np.int32), text[:-late]])])
    own, first = stacked(params), jnp.array([0, late])
    read = jax.jit(
        lambda tokens: prefill(SCANNED, own, tokens, first, slots=LENGTH + 3, platform="cpu")
    )
    step = jax.jit(lambda token, cache: decode_step(SCANNED, own, token, cache))
    hidden, cache = read(tokens[:, :12])
    found = list(logits(own, hidden.swapaxes(0, 1).reshape(24, -1)).reshape(12, 2, -1))
    for place in range(12, LENGTH):
        hidden, cache = step(tokens[:, place], cache)
        found.append(logits(own, hidden))
    found = np.stack(found, axis=1)
    np.testing.assert_allclose(found[0], wanted, atol=2e-5)
    np.testing.assert_allclose(found[1, late:], wanted[:-late], atol=2e-5)
    assert int(cache.filled) == LENGTH


def test_greedy_continuations_on_a_mesh_are_those_of_whole_passes(params):
    """Rows over replicas and shards, heads and vocabulary over two devices; unequal prompts."""
    mesh = mesh_of(2, 2, 2)
    like = abstract_state(ODD, mesh).params
    placed = jax.device_put(params, jax.tree.map(lambda leaf: leaf.sharding, like))
    prompts = [tokens_of(seed, length).tolist() for seed, length in ((2, 9), (3, 3), (4, 1))]
    speaker = Speaker(ODD, placed, mesh, 4, frozenset())
    found = continuations(speaker, [Prompt(p, 0) for p in prompts], new_tokens=LOOK + 2)
    for prompt, said in zip(prompts, found, strict=True):
        text = list(prompt)
        for _ in range(LOOK + 2):
            padded = np.zeros((1, LENGTH), np.int32)
            padded[0, : len(text)] = text
            text.append(int(whole(ODD, params, padded)[0, len(text) - 1].argmax()))
        assert said == text[len(prompt) :]


def test_likelihoods_are_those_of_whole_passes(params):
    """Three that share a context, one that shares none, one cut at its beginning."""
    text, other = tokens_of(6, LENGTH).tolist(), tokens_of(7, 20).tolist()
    likely = int(whole(ODD, params, np.array([text]))[0, 7].argmax())
    requests = [
        Request(tuple(text[:8]), tuple(text[8:13])),
        Request(tuple(other[:4]), tuple(other[4:])),
        Request(tuple(text[:8]), (likely,)),
        Request(tuple(text[:8]), tuple(text[9:19])),
        Request(tuple(text * 3), tuple(text[3:6])),
    ]
    mesh = mesh_of(1, 1, 1)
    nats, greedy = log_likelihoods(ODD, params, mesh, requests, batch_size=2)
    assert greedy.tolist() == [False, False, True, False, False]
    for request, found in zip(requests, nats, strict=True):
        all_tokens = (request.context + request.continuation)[-(ODD.max_seq_len + 1) :]
        padded = np.zeros((1, ODD.max_seq_len), np.int32)
        padded[0, : len(all_tokens) - 1] = all_tokens[:-1]
        sure = jax.nn.log_softmax(whole(ODD, params, padded)[0], axis=-1)
        places = range(len(all_tokens) - len(request.continuation), len(all_tokens))
        wanted = sum(float(sure[place - 1, all_tokens[place]]) for place in places)
        assert found == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(UserError, match="continuation 1 of 65 tokens is longer than the 64"):
        log_likelihoods(ODD, params, mesh, [Request((1,), (2,) * 65)], batch_size=2)
    broken = {**params, "embedding": params["embedding"] * np.nan}
    with pytest.raises(UserError, match="not finite"):
        log_likelihoods(ODD, broken, mesh, requests, batch_size=2)
