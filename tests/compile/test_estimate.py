"""Transfers read in programs of known traffic, and the estimate against arithmetic by hand."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec
from tiny_training import MODEL, SHAPE, mesh_of

from replay_jax.compile.chips import CHIPS
from replay_jax.compile.estimate import estimate, executed_flops, moved_bytes
from replay_jax.compile.hlo.collectives import Transfer, Transfers, device_group, transfers
from replay_jax.compile.hlo.text import parse_module, trip_count
from replay_jax.compile.topology import Target, wire_bandwidth
from replay_jax.model.architecture import parameter_counts
from replay_jax.model.flops import flops_per_token, forward_flops_per_token


def compiled_on_mesh(function, *dims):
    """The text of a program over 8 devices, an axis "a" of 2 and an axis "b" of 4."""
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    spec = PartitionSpec(("a", "b"))
    mapped = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return jax.jit(mapped).lower(jax.ShapeDtypeStruct(dims, jnp.float32)).compile().as_text()


def sent_on_mesh(function, *dims):
    return transfers(compiled_on_mesh(function, *dims), devices=8)


def summed(x, _=None):
    """A sum over four devices that no compiler can leave out of a loop."""
    return jnp.tanh(jax.lax.psum(x, "b")), None


def five_times(x):
    return jax.lax.scan(summed, x, length=5)[0]


ONCE = 2 * 3 / 4 * 64 * 128 * 4 / 8


def test_a_loop_counts_as_often_as_it_runs():
    found = sent_on_mesh(five_times, 64, 128)
    assert [each.times for each in found.every] == [5]
    assert (found.bytes, found.unknown_loops) == (5 * ONCE, ())


def test_loops_in_loops_multiply():
    def nested(x):
        return jax.lax.fori_loop(0, 7, lambda _, x: five_times(x), x)

    assert sent_on_mesh(nested, 64, 128).bytes == 35 * ONCE


def test_a_loop_without_a_known_length_is_reported_and_counted_once():
    def until_small(x):
        return jax.lax.while_loop(lambda x: x.sum() > 1.0, lambda x: summed(x)[0], x)

    found = sent_on_mesh(until_small, 64, 128)
    assert found.bytes == ONCE and len(found.unknown_loops) == 1


LOOP = """HloModule loop
%cond (p: (s32[], f32[4])) -> pred[] {{
  %p = (s32[], f32[4]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %limit = s32[] {limit}
  ROOT %more = pred[] compare(%i, %limit), direction={direction}
}}
%body (q: (s32[], f32[4])) -> (s32[], f32[4]) {{
  %q = (s32[], f32[4]{{0}}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %step = s32[] constant({step})
  %next = s32[] add(%step, %j)
  %x = f32[4]{{0}} get-tuple-element(%q), index=1
  ROOT %out = (s32[], f32[4]{{0}}) tuple(%next, %x)
}}
ENTRY %main (a: f32[4]) -> (s32[], f32[4]) {{
  %a = f32[4]{{0}} parameter(0)
  %start = s32[] constant({start})
  %first = s32[] copy(%start)
  %state = (s32[], f32[4]{{0}}) tuple(%first, %a)
  ROOT %loop = (s32[], f32[4]{{0}}) while(%state), condition=%cond, body=%body
}}
"""


@pytest.mark.parametrize(
    ("start", "limit", "step", "direction", "turns"),
    [
        (0, "constant(8)", 1, "LT", 8),
        (3, "constant(8)", 2, "LT", 3),
        (5, "constant(5)", 1, "LT", 0),
        (0, "constant(8)", 1, "LE", None),
        (8, "constant(9)", -1, "LT", None),
        (0, "get-tuple-element(%p), index=0", 1, "LT", None),
    ],
)
def test_the_length_of_a_loop_is_read_from_the_loop_itself(start, limit, step, direction, turns):
    """The TPU compiler says none, and makes loops that count by two; of others it is not known."""
    text = LOOP.format(start=start, limit=limit, step=step, direction=direction)
    module = parse_module(text)
    entry = module.computations[module.entry]
    assert trip_count(module, entry.root, entry) == turns


def test_the_loop_itself_agrees_with_what_xla_knows():
    text = compiled_on_mesh(five_times, 64, 128)
    assert "known_trip_count" in text
    module = parse_module(re.sub(r'"known_trip_count":\{"n":"\d+"\}', '"none":0', text))
    found = [
        trip_count(module, instruction, each)
        for each in module.computations.values()
        for instruction in each.instructions.values()
        if instruction.opcode == "while"
    ]
    assert found in ([5], [None])  # None: XLA has fused the comparison


@pytest.mark.parametrize(
    ("function", "kind", "group", "wire"),
    [
        (lambda x: jax.lax.psum(x, "b"), "all-reduce", (0, 1, 2, 3), 2 * 3 / 4),
        (lambda x: jax.lax.psum(x, "a"), "all-reduce", (0, 4), 2 * 1 / 2),
        (lambda x: jax.lax.psum(x, ("a", "b")), "all-reduce", tuple(range(8)), 2 * 7 / 8),
        (lambda x: jax.lax.all_gather(x, "b", tiled=True), "all-gather", (0, 1, 2, 3), 3),
        (lambda x: jax.lax.psum_scatter(x, "b", tiled=True), "reduce-scatter", (0, 1, 2, 3), 3 / 4),
        (
            lambda x: jax.lax.ppermute(x, "b", [(0, 1), (1, 0)]),
            "collective-permute",
            (0, 1),
            1,
        ),
    ],
)
def test_collectives_send_what_a_ring_sends(function, kind, group, wire):
    (found,) = sent_on_mesh(function, 64, 128).every
    assert (found.kind, found.group, found.times) == (kind, group, 1)
    assert found.wire_bytes == wire * 64 * 128 * 4 / 8


def test_every_notation_of_groups_is_read():
    assert device_group("replica_groups={{0,2},{1,3}}", 4) == (0, 2)
    assert device_group("replica_groups={}, x", 3) == (0, 1, 2)
    assert device_group("replica_groups=[2,4]<=[8], x", 8) == (0, 1, 2, 3)
    assert device_group("replica_groups=[4,2]<=[2,4]T(1,0), x", 8) == (0, 4)
    assert device_group("replica_groups=mesh['a'=2,'b'=4] {'a'}, x", 8) == (0, 4)
    assert device_group("replica_groups=mesh['a'=2,'b'=4] {'a','b'}, x", 8) == tuple(range(8))
    assert device_group("replica_groups=mesh['a'=8] {'a':(2)4}, x", 8) == (0, 1, 2, 3)
    assert device_group("replica_groups=mesh['a'=8] {'a':(1)2}, x", 8) == (0, 4)
    with pytest.raises(ValueError, match="could not be read"):
        device_group("channel_id=3", 8)


TPU_PROGRAM = """HloModule step, is_scheduled=true
%scatter_own (g: f32[64,128]) -> f32[16,128] {
  %g = f32[64,128]{1,0:T(8,128)} parameter(0)
  %sum = f32[64,128]{1,0:T(8,128)} all-reduce(%g), replica_groups=mesh['x'=4] {'x'}, to_apply=%add
  %zero = s32[] constant(0)
  ROOT %own = f32[16,128]{1,0:T(8,128)} dynamic-slice(%sum, %zero, %zero)
}
%product (a: bf16[64,128], b: bf16[128,256]) -> bf16[64,256] {
  %a = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[128,256]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %c = bf16[64,256]{1,0:T(8,128)(2,1)} convolution(%a, %b), dim_labels=bf_io->bf
}
ENTRY %main (x: bf16[64,128], w: bf16[128,256], g: f32[64,128]) -> bf16[64,256] {
  %x = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %w = bf16[128,256]{1,0:T(8,128)(2,1)} parameter(1)
  %g = f32[64,128]{1,0:T(8,128)} parameter(2)
  %fetch = (bf16[128,256]{1,0:T(8,128)(2,1)S(1)}, bf16[128,256]{1,0}, u32[]) copy-start(%w)
  %near = bf16[128,256]{1,0:T(8,128)(2,1)S(1)} copy-done(%fetch)
  %mine = f32[16,128]{1,0:T(8,128)} fusion(%g), kind=kCustom, calls=%scatter_own
  ROOT %y = bf16[64,256]{1,0:T(8,128)(2,1)} fusion(%x, %near), kind=kOutput, calls=%product
}
"""


def test_a_sum_fused_with_a_slice_of_it_is_a_reduce_scatter():
    (scatter,) = transfers(TPU_PROGRAM, devices=4).every
    assert (scatter.kind, scatter.beside_compute) == ("reduce-scatter", False)
    assert scatter.wire_bytes == 64 * 128 * 4 * 3 / 4


OVERLAPPED = """HloModule step, is_scheduled=true
%begin (a: bf16[256,512]) -> (bf16[256,512], bf16[1024,512], u32[]) {
  %a = bf16[256,512]{1,0:T(8,128)(2,1)} parameter(0)
  %g = bf16[1024,512]{1,0:T(8,128)(2,1)} all-gather(%a), channel_id=3, \
replica_groups=mesh['x'=4] {'x'}, dimensions={0}, frontend_attributes={chain_id="0"}
  ROOT %c = (bf16[256,512]{1,0}, bf16[1024,512]{1,0}, u32[]) custom-call(%g), \
custom_call_target="AsyncCollectiveStart"
}
%meanwhile (a: bf16[256,512], h: bf16[1024,512]) -> (bf16[64,256]) {
  %a = bf16[256,512]{1,0:T(8,128)(2,1)} parameter(0)
  %h = bf16[1024,512]{1,0:T(8,128)(2,1)} parameter(1)
  %g = bf16[1024,512]{1,0:T(8,128)(2,1)} all-gather(%a), channel_id=3, \
replica_groups=mesh['x'=4] {'x'}, dimensions={0}, frontend_attributes={chain_id="0"}
  %x = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(2)
  %y = bf16[128,256]{1,0:T(8,128)(2,1)} parameter(3)
  %p = bf16[64,256]{1,0:T(8,128)(2,1)} convolution(%x, %y), dim_labels=bf_io->bf
  ROOT %t = (bf16[64,256]{1,0}, bf16[256,512]{1,0}, bf16[1024,512]{1,0}) tuple(%p, %a, %g)
}
%end (a: bf16[256,512], h: bf16[1024,512]) -> bf16[1024,512] {
  %a = bf16[256,512]{1,0:T(8,128)(2,1)} parameter(0)
  %h = bf16[1024,512]{1,0:T(8,128)(2,1)} parameter(1)
  %g = bf16[1024,512]{1,0:T(8,128)(2,1)} all-gather(%a), channel_id=3, \
replica_groups=mesh['x'=4] {'x'}, dimensions={0}, frontend_attributes={chain_id="0"}
  ROOT %d = bf16[1024,512]{1,0} custom-call(%a, %h, %g), custom_call_target="AsyncCollectiveDone"
}
ENTRY %main (w: bf16[256,512], x: bf16[64,128], y: bf16[128,256]) -> bf16[1024,512] {
  %w = bf16[256,512]{1,0:T(8,128)(2,1)} parameter(0)
  %x = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(1)
  %y = bf16[128,256]{1,0:T(8,128)(2,1)} parameter(2)
  %s = (bf16[256,512]{1,0:T(8,128)(2,1)}, bf16[1024,512]{1,0:T(8,128)(2,1)}, u32[]) fusion(%w), \
kind=kCustom, calls=%begin
  %s0 = bf16[256,512]{1,0:T(8,128)(2,1)} get-tuple-element(%s), index=0
  %s1 = bf16[1024,512]{1,0:T(8,128)(2,1)} get-tuple-element(%s), index=1
  %m = (bf16[64,256]{1,0:T(8,128)(2,1)}, bf16[256,512]{1,0}, bf16[1024,512]{1,0}) \
fusion(%s0, %s1, %x, %y), kind=kCustom, calls=%meanwhile
  %m1 = bf16[256,512]{1,0:T(8,128)(2,1)} get-tuple-element(%m), index=1
  %m2 = bf16[1024,512]{1,0:T(8,128)(2,1)} get-tuple-element(%m), index=2
  ROOT %e = bf16[1024,512]{1,0:T(8,128)(2,1)} fusion(%m1, %m2), kind=kCustom, calls=%end
}
"""


def test_a_collective_beside_compute_counts_once():
    """Start, work meanwhile and done each name the all-gather; it happens once."""
    (gather,) = transfers(OVERLAPPED, devices=4).every
    assert gather.beside_compute and gather.wire_bytes == 3 * 256 * 512 * 2


STARTED = """HloModule step, is_scheduled=true
%inner (a: f32[8,4]) -> f32[32,4] {
  %a = f32[8,4]{1,0} parameter(0)
  ROOT %g = f32[32,4]{1,0} all-gather(%a), replica_groups=[1,4]<=[4], dimensions={0}
}
ENTRY %main (a: f32[8,4]) -> f32[32,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %s = ((f32[8,4]{1,0}), f32[32,4]{1,0}) async-start(%a), calls=%inner
  %u = ((f32[8,4]{1,0}), f32[32,4]{1,0}) async-update(%s), calls=%inner
  ROOT %d = f32[32,4]{1,0} async-done(%u), calls=%inner
}
"""


def test_what_is_started_and_done_counts_once():
    (gather,) = transfers(STARTED, devices=4).every
    assert gather.beside_compute and gather.wire_bytes == 3 * 8 * 4 * 4


def test_a_collective_fused_with_a_product_runs_beside_it():
    text = TPU_PROGRAM.replace(
        "ROOT %own", "%p = f32[16,128]{1,0} convolution(%g, %g), dim_labels=bf_io->bf\n  ROOT %own"
    )
    (scatter,) = transfers(text, devices=4).every
    assert scatter.beside_compute


def test_recomputation_and_a_base_cost_products():
    plain, tokens = executed_flops(SHAPE), SHAPE.batch_size * SHAPE.seq_len
    per_token = flops_per_token(MODEL, SHAPE.seq_len, causal_half=True)
    assert plain == tokens * per_token.total

    def added(**changes):
        return executed_flops(dataclasses.replace(SHAPE, **changes)) - plain

    def remat(policy):
        return added(model=dataclasses.replace(MODEL, remat=policy))

    assert remat("matmuls") == 0
    assert remat("full") == pytest.approx(tokens * (per_token.body + per_token.attention) / 3)
    forward = forward_flops_per_token(MODEL, SHAPE.seq_len, causal_half=True)
    assert added(kl_sources=(0,)) == pytest.approx(tokens * forward)


def test_what_passes_through_memory_is_counted_by_hand():
    # Of a token: 4 x 32 of norms and sums, 2 x (4 + 2) x 8 of heads, 3 x 64 of the MLP, 64 logits.
    layer, logits, numbers = 416, 64, parameter_counts(MODEL).total
    tokens, state = SHAPE.batch_size * SHAPE.seq_len, 12 * numbers
    once = 2 * state + 2 * 4 * numbers

    def moved(mesh, state=state, **changes):
        model = {key: changes.pop(key) for key in ("remat", "compute_dtype") if key in changes}
        model = dataclasses.replace(MODEL, **model)
        return moved_bytes(dataclasses.replace(SHAPE, model=model, **changes), mesh, state)

    one = mesh_of(1, 1, 1)
    assert moved(one) == once + tokens * 4 * (6 * layer + 3 * logits)
    assert moved(one, remat="full") == once + tokens * 4 * (8 * layer + 3 * logits)
    assert moved(one, kl_sources=(0,)) == once + tokens * 4 * (8 * layer + 6 * logits)
    # Where it is not a TPU's, the loss keeps logits in float32.
    half = once + tokens * (2 * 6 * layer + 4 * 3 * logits)
    assert moved(one, compute_dtype="bfloat16") == half
    # Rows are split over four devices; parameters, heads, MLP and vocabulary over two each.
    split = moved(mesh_of(2, 2, 2), state=state / 4, accumulation=2)
    per_token = 6 * (128 + (416 - 128) / 2) + 3 * logits / 2
    assert split == 2 * state / 4 + 2 * 2 * 4 * numbers / 4 + tokens / 4 * 4 * per_token


def test_the_estimate_adds_what_waits_and_hides_what_does_not():
    chip = dataclasses.replace(CHIPS["v4"], link_bandwidth=1e6)
    mesh = mesh_of(2, 1, 1)
    target = Target("made up", chip, (2,), tuple(mesh.devices.flat))
    half = dataclasses.replace(SHAPE, model=dataclasses.replace(MODEL, compute_dtype="bfloat16"))

    def found(*sent, shape=half):
        every = Transfers(sent, ("loop",) if sent else ())
        return estimate(shape, mesh, target, state_bytes=1000, sent=every)

    alone = found()
    products, memory = executed_flops(half) / 2, moved_bytes(half, mesh, 1000)
    shown = products / chip.peak_flops + memory / chip.hbm_bandwidth
    assert alone.roofline_seconds == pytest.approx(shown) and alone.collective_bytes == 0
    assert (alone.flops_per_device, alone.hbm_bytes_moved) == (products, memory)
    assert alone.limit == max(alone.roofline_parts, key=alone.roofline_parts.get)
    assert alone.mfu_estimate_causal < alone.mfu_estimate
    causal = alone.mfu_estimate_causal * alone.roofline_seconds * chip.peak_flops
    assert causal == pytest.approx(products)  # nothing is recomputed
    waits = Transfer("all-reduce", (0, 1), 50.0, times=2, beside_compute=False)
    assert found(waits).roofline_seconds == pytest.approx(shown + 1e-4)
    hides = Transfer("all-gather", (0, 1), 1e6 * shown / 2, times=1, beside_compute=True)
    assert found(waits, hides).roofline_seconds == pytest.approx(shown + 1e-4)
    longer = found(waits, dataclasses.replace(hides, wire_bytes=1e7))
    assert longer.roofline_seconds == pytest.approx(10)
    assert longer.limit == "transfers beside compute"
    assert (longer.collective_bytes, longer.loops_of_unknown_length) == (100 + 1e7, ["loop"])
    # Float32 products at JAX's "highest" take six passes of a bfloat16 unit.
    part = "matrix units"
    whole = found(shape=dataclasses.replace(SHAPE, model=dataclasses.replace(MODEL)))
    assert whole.roofline_parts[part] == pytest.approx(6 * alone.roofline_parts[part])


def test_a_group_sends_over_the_links_of_its_axes():
    chips = [
        SimpleNamespace(coords=[x, y, z]) for x in range(4) for y in range(4) for z in range(2)
    ]
    chip = CHIPS["v4"]
    target = Target("v4:4x4x2", chip, (4, 4, 2), ())
    line = [c for c in chips if c.coords[1:] == [0, 0]]
    plane = [c for c in chips if c.coords[2] == 0]
    short = [c for c in chips if c.coords[:2] == [0, 0]]
    assert wire_bandwidth(target, line) == 2 * chip.link_bandwidth
    assert wire_bandwidth(target, plane) == 4 * chip.link_bandwidth
    assert wire_bandwidth(target, short) == chip.link_bandwidth  # two chips close no ring
    assert wire_bandwidth(target, chips) == 5 * chip.link_bandwidth
    assert wire_bandwidth(target, line[:2]) == chip.link_bandwidth
