"""Log-likelihoods of continuations, and whether greedy decoding would say them.

Shape letters: B batch, S stem, T branches, R labels looked up, D embed, G key/value heads, K head
width, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from replay_jax.errors import UserError
from replay_jax.generation.branches import (
    NO_BRANCH,
    Request,
    least_lengths,
    packed,
    row_batch,
)
from replay_jax.generation.cache import KeysValues, heads_first, nothing_kept, prompt_attention
from replay_jax.generation.decoder import (
    Attend,
    attend_to,
    computed,
    kinds_of,
    run_layers,
    score_scale,
)
from replay_jax.generation.lengths import shared_lengths
from replay_jax.model.architecture import LayerKind, ModelConfig
from replay_jax.model.decoder import head_kernel
from replay_jax.model.flops import flops_per_token
from replay_jax.model.loss import chunk_positions
from replay_jax.progress import step_by_step
from replay_jax.training.config import StepShape
from replay_jax.training.mesh.devices import compiler_options
from replay_jax.training.mesh.sharding import batch_sharding, placement, replicated
from replay_jax.training.step import check_shape, on_mesh, platform_of

Arrays = Mapping[str, jax.Array]


def log_likelihoods(
    model: ModelConfig,
    params: Any,
    mesh: Mesh,
    requests: Sequence[Request],
    *,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Of every request its log-likelihood in nats, float64, and whether it is the greedy one, bool.

    Args:
        model: the model.
        params: its parameters, on `mesh`.
        mesh: of devices; it divides `batch_size`.
        requests: what is asked; a context is cut at its beginning where it is too long.
        batch_size: rows at a time, each of a context and all its continuations.

    Raises:
        UserError: a continuation is longer than the context of the model, or a loss is not finite.
    """
    check_shape(StepShape(model, batch_size, 1, 1), mesh, batch_name="the batch")
    for number, request in enumerate(requests):
        if len(request.continuation) > model.max_seq_len:
            raise UserError(
                f"continuation {number + 1} of {len(request.continuation):,} tokens is longer than "
                f"the {model.max_seq_len:,} positions of the model"
            )
    rows = packed(requests, positions=model.max_seq_len)
    program, split = _program(model, mesh), batch_sharding(mesh)
    nats, greedy = np.zeros(len(requests)), np.zeros(len(requests), bool)
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    shared = shared_lengths(
        [least_lengths(batch) for batch in batches],
        lambda lengths: batch_size * _flops(model, *lengths),
        platform=platform_of(mesh), devices=mesh.size,
    )  # fmt: skip
    with on_mesh(mesh), jax.default_matmul_precision(model.product_precision):
        found = []
        for batch, lengths in step_by_step(
            list(zip(batches, shared, strict=True)), "scoring texts"
        ):
            rows_of = row_batch(batch, batch_size=batch_size, lengths=lengths)
            arrays = dataclasses.asdict(rows_of)
            found.append(program(params, jax.device_put(arrays, split)))
    for batch, (scores_BR, hits_BR) in zip(batches, jax.device_get(found), strict=True):
        for row, own, hit in zip(batch, scores_BR, hits_BR, strict=False):
            start = 0
            for read in row.reads:
                end = start + len(read.labels)
                nats[read.request] = own[start:end].astype(np.float64).sum()
                greedy[read.request] = hit[start:end].all()
                start = end
    if not np.isfinite(nats).all():
        raise UserError("a log-likelihood is not finite: the parameters have diverged")
    return nats, greedy


def _flops(model: ModelConfig, stem: int, branched: int, labels: int) -> float:
    """Of a row's forward pass; labels alone are looked up."""
    each = flops_per_token(model, max(1, stem + branched), causal_half=False)
    return ((stem + branched) * (each.body + each.attention) + labels * each.head) / 3


@functools.cache
def _program(model: ModelConfig, mesh: Mesh) -> Any:
    """Log-probabilities [B, R] of labels, and which are the likeliest, compiled for each shape."""
    whole = replicated(mesh)
    return jax.jit(
        functools.partial(_scores, model=model, mesh=mesh),
        out_shardings=(whole, whole),
        compiler_options=compiler_options(platform_of(mesh)),
    )


def _scores(
    params: Any, rows: Arrays, *, model: ModelConfig, mesh: Mesh
) -> tuple[jax.Array, jax.Array]:
    placed, (batch, stems) = placement(mesh), rows["stem"].shape
    params = computed(params, model)
    attends = [
        # Padding is behind every token of the stem, which therefore never sees it.
        prompt_attention(model, kind, None, platform=platform_of(mesh), placement=placed)
        for kind in kinds_of(model)
    ]
    hidden_BLD, kept = run_layers(
        model, params, rows["stem"], jnp.broadcast_to(jnp.arange(stems)[None], (batch, stems)),
        attends=attends, kept=nothing_kept(model), positions=stems,
    )  # fmt: skip
    branched = rows["branch"].shape[1]
    if branched:
        positions_BT = rows["stem_length"][:, None] + rows["offset"]
        branches_BTD, _ = run_layers(
            model, params, rows["branch"], positions_BT,
            attends=[_branch_attention(model, kind, rows) for kind in kinds_of(model)],
            kept=kept, positions=stems + branched,
        )  # fmt: skip
        hidden_BLD = jnp.concatenate([hidden_BLD, branches_BTD], axis=1)
    read_BRD = jnp.take_along_axis(hidden_BLD, rows["place"][:, :, None], axis=1)
    ways, vocab = 1, 1
    if placed is not None:
        ways = mesh.shape["replica"] * mesh.shape["fsdp"]
        vocab = mesh.shape["tensor"]
    chunk = chunk_positions(
        model, rows=batch // ways, seq_len=read_BRD.shape[1], vocab_shards=vocab
    )
    return _look_up_labels(read_BRD, head_kernel(params), rows["label"], chunk)


def _branch_attention(model: ModelConfig, kind: LayerKind, rows: Arrays) -> Attend:
    """A branch's tokens see the stem, which is kept, and those before them in their own branch."""
    place_11S = jnp.arange(rows["stem"].shape[1])[None, None]
    number_BT, offset_BT = rows["number"], rows["offset"]
    position_BT = rows["stem_length"][:, None] + offset_BT
    stem_BTS = jnp.broadcast_to(
        place_11S < rows["stem_length"][:, None, None], (*number_BT.shape, place_11S.size)
    )
    same_BTT = (number_BT[:, :, None] == number_BT[:, None, :]) & (number_BT != NO_BRANCH)[:, None]
    own_BTT = same_BTT & (offset_BT[:, :, None] >= offset_BT[:, None, :])
    if kind.window:
        stem_BTS = stem_BTS & (position_BT[:, :, None] - place_11S < kind.window)
        own_BTT = own_BTT & (offset_BT[:, :, None] - offset_BT[:, None, :] < kind.window)
    allowed_BTU = jnp.concatenate([stem_BTS, own_BTT], axis=2)

    def attend(
        q_BTHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, kept: KeysValues
    ) -> tuple[jax.Array, KeysValues]:
        k_BGUK, v_BGUK = (
            jnp.concatenate([old, heads_first(new)], axis=2)
            for old, new in zip(kept, (k_BTGK, v_BTGK), strict=True)
        )
        return attend_to(q_BTHK, k_BGUK, v_BGUK, allowed_BTU, score_scale(model)), kept

    return attend


def _look_up_labels(
    x_BRD: jax.Array, head_DV: jax.Array, label_BR: jax.Array, chunk: int
) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each label in float32, and whether it is the likeliest token."""
    head_DV = head_DV.astype(x_BRD.dtype)

    def one(each: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x_BD, label_B = each
        logits_BV = jnp.matmul(x_BD, head_DV, preferred_element_type=jnp.float32)
        label_B1 = jnp.take_along_axis(logits_BV, label_B[:, None], axis=1)
        # The difference is formed first: a sure token's nats keep their digits.
        nats_B = jax.nn.logsumexp(logits_BV - label_B1, axis=1)
        return -nats_B, jnp.argmax(logits_BV, axis=1) == label_B

    places = (x_BRD.swapaxes(0, 1), label_BR.swapaxes(0, 1))
    scores_RB, hits_RB = jax.lax.map(one, places, batch_size=chunk)
    return scores_RB.swapaxes(0, 1), hits_RB.swapaxes(0, 1)
