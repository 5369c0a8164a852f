"""The cost walker against programs whose cost is known, and the bound against arithmetic."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from replay_jax.compile.chips import CHIPS
from replay_jax.compile.hlo.collectives import Collective, device_group
from replay_jax.compile.hlo.costs import OpCost, ProgramCost, program_cost
from replay_jax.compile.hlo.text import Shape, parse_module, trip_count
from replay_jax.compile.roofline import Speeds, roofline
from replay_jax.compile.topology import Target, wire_bandwidth


def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile()


def cost_of(function, *arguments, devices=1):
    return program_cost(parse_module(compiled(function, *arguments).as_text()), devices=devices)


def ones(*dims, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(dims, dtype)


def chain(weights, x):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]


def test_a_loop_counts_as_often_as_it_runs():
    cost = cost_of(chain, ones(5, 64, 64), ones(32, 64))
    assert cost.flops == 5 * 2 * 32 * 64 * 64
    assert cost.unknown_loops == ()


def test_loops_in_loops_multiply():
    def nested(weights, x):
        return jax.lax.fori_loop(0, 7, lambda _, x: chain(weights, x), x)

    assert cost_of(nested, ones(3, 16, 16), ones(8, 16)).flops == 7 * 3 * 2 * 8 * 16 * 16


def test_the_gradient_of_a_scan_costs_three_times_its_forward():
    def loss(weights, x):
        return chain(weights, x).sum()

    cost = cost_of(jax.grad(loss, argnums=(0, 1)), ones(4, 32, 32), ones(16, 32))
    assert cost.flops == 3 * 4 * 2 * 16 * 32 * 32


def test_a_loop_without_a_known_length_is_reported_and_counted_once():
    def until_small(x):
        return jax.lax.while_loop(lambda x: x.sum() > 1.0, lambda x: x @ x, x)

    cost = cost_of(until_small, ones(16, 16))
    assert cost.flops == 2 * 16**3
    assert len(cost.unknown_loops) == 1


@pytest.mark.parametrize(
    ("start", "stop", "step", "direction", "turns"),
    [
        (0, 8, 1, "LT", 8),
        (3, 8, 2, "LT", 3),
        (0, 8, 1, "LE", 9),
        (8, 0, -1, "GT", 8),
        (8, 0, -3, "GE", 3),
        (5, 5, 1, "LT", 0),
    ],
)
def test_the_length_of_a_loop_is_read_from_the_loop_itself(start, stop, step, direction, turns):
    text = f"""HloModule loop
%cond (p: (s32[], f32[4])) -> pred[] {{
  %p = (s32[], f32[4]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %limit = s32[] constant({stop})
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
    module = parse_module(text)
    entry = module.computations[module.entry]
    assert trip_count(module, entry.root, entry) == turns


def test_the_loop_itself_agrees_with_what_xla_knows():
    text = compiled(chain, ones(5, 64, 64), ones(32, 64)).as_text()
    assert "known_trip_count" in text
    module = parse_module(re.sub(r'"known_trip_count":\{"n":"\d+"\}', '"none":0', text))
    entry = module.computations[module.entry]
    (loop,) = (i for i in entry.instructions.values() if i.opcode == "while")
    assert trip_count(module, loop, entry) in (5, None)  # None: XLA has fused the comparison


def test_a_branch_counts_as_its_dearest():
    def branch(flag, x):
        return jax.lax.cond(flag, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert cost_of(branch, ones(dtype=jnp.bool_), ones(32, 32)).flops == 2 * 2 * 32**3


@pytest.mark.parametrize(
    ("lhs", "rhs", "arguments"),
    [
        ((2, 9, 3), (4, 3, 5), {"window_strides": (2,), "padding": [(1, 2)]}),
        ((2, 9, 3), (4, 3, 5), {"window_strides": (1,), "padding": [(3, 3)], "lhs_dilation": (2,)}),
        ((2, 9, 3), (3, 3, 5), {"window_strides": (1,), "padding": "VALID", "rhs_dilation": (2,)}),
        (
            (2, 9, 6),
            (4, 3, 4),
            {"window_strides": (1,), "padding": "SAME", "feature_group_count": 2},
        ),
    ],
)
def test_convolutions_cost_what_xla_says(lhs, rhs, arguments):
    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x, w, dimension_numbers=("NWC", "WIO", "NWC"), **arguments
        )

    program = compiled(convolve, ones(*lhs), ones(*rhs))
    mine = program_cost(parse_module(program.as_text()), devices=1).flops
    assert mine == program.cost_analysis()["flops"]


def test_memory_is_read_and_written_once_by_a_fusion():
    cost = cost_of(lambda x, y: jnp.tanh(x) * y + 1.0, ones(1024, 256), ones(1024, 256))
    assert cost.hbm_bytes == 3 * 1024 * 256 * 4


def test_a_slice_of_a_stack_moves_only_the_slice():
    """A scan over 64 stacked rows reads each row once, not the stack 64 times."""
    x = 64 * 4096 * 4
    cost = cost_of(lambda xs: jax.lax.map(lambda row: row * 2.0, xs), ones(64, 4096))
    assert 2 * x <= cost.hbm_bytes < 6 * x


def test_a_loop_free_step_agrees_with_xla():
    def loss(ws, x):
        for w in ws:
            x = x @ w
        return (x * x).sum()

    program = compiled(jax.grad(loss), [ones(64, 64)] * 3, ones(128, 64))
    mine = program_cost(parse_module(program.as_text()), devices=1)
    assert mine.flops == pytest.approx(program.cost_analysis()["flops"], rel=0.02)


def on_mesh(function, *dims):
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    spec = PartitionSpec(("a", "b"))
    mapped = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return cost_of(mapped, ones(*dims), devices=8)


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
    cost = on_mesh(function, 64, 128)
    (found,) = [c for op in cost.ops for c in op.collectives]
    assert (found.kind, found.group) == (kind, group)
    assert found.wire_bytes == wire * 64 * 128 * 4 / 8
    assert cost.collective_bytes == found.wire_bytes


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


def test_tpu_tiles_and_on_chip_memory_count_as_they_lie():
    padded = Shape("bf16", (4, 100, 64), "2,1,0:T(8,128)(2,1)")
    assert padded.bytes == 4 * 104 * 128 * 2
    assert Shape("f32", (64, 100), "0,1:T(8,128)").bytes == 128 * 104 * 4
    assert Shape("f32", (100,), "0:T(128)").bytes == 400
    on_chip = Shape("f32", (8, 128), "1,0:T(8,128)S(1)")
    assert (on_chip.bytes, on_chip.hbm_bytes) == (4096, 0)


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


def test_a_tpu_program_is_costed_instruction_by_instruction():
    cost = program_cost(parse_module(TPU_PROGRAM), devices=4)
    by_name = {op.name: op for op in cost.ops}
    fetch, mine, product = by_name["fetch"], by_name["mine"], by_name["y"]
    assert (fetch.hbm_bytes, fetch.beside_compute) == (128 * 256 * 2, True)
    assert product.flops == 2 * 64 * 128 * 256
    assert product.hbm_bytes == 64 * 128 * 2 + 64 * 256 * 2  # the weights are near
    (scatter,) = mine.collectives
    assert (scatter.kind, scatter.asynchronous) == ("reduce-scatter", False)
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


def test_a_collective_beside_compute_counts_once_and_can_hide():
    """Start, work meanwhile and done each name the all-gather; it happens once."""
    ops = {op.name: op for op in program_cost(parse_module(OVERLAPPED), devices=4).ops}
    assert set(ops) == {"s", "m"}
    (gather,) = ops["s"].collectives
    assert gather.asynchronous and ops["s"].beside_compute
    assert gather.wire_bytes == 3 * 256 * 512 * 2
    assert ops["s"].hbm_bytes == (256 + 1024) * 512 * 2
    assert ops["m"].collectives == () and not ops["m"].beside_compute
    assert ops["m"].flops == 2 * 64 * 128 * 256
    assert ops["m"].hbm_bytes == (64 * 128 + 128 * 256 + 64 * 256) * 2


SPLASH = """HloModule attention
ENTRY %main (q: bf16[2,8,4096,64], k: bf16[2,4,4096,64]) -> bf16[2,8,4096,64] {{
  %q = bf16[2,8,4096,64]{{3,2,1,0:T(8,128)(2,1)}} parameter(0)
  %k = bf16[2,4,4096,64]{{3,2,1,0:T(8,128)(2,1)}} parameter(1)
  %mask = s8[1,4,4]{{2,1,0}} constant({{...}})
  ROOT %splash_mha_{phase}.1 = ({results}) custom-call(%mask, %mask, %q, %k, %k), \
custom_call_target="tpu_custom_call", frontend_attributes={{kernel_metadata={{
"xprof_metadata":"{{\\"block_q{of}\\": 1024, \\"block_kv{of}\\": {block}}}"
}}}}, metadata={{op_name="{scope}splash_mha_{phase}"}}
}}
"""
OUT = "bf16[2,8,4096,64]{3,2,1,0:T(8,128)(2,1)}"
KEYS = "bf16[2,4,4096,64]{3,2,1,0:T(8,128)(2,1)}"
FUSED = f"bf16[2,4,8,4096,64]{{4,3,2,1,0:T(8,128)(2,1)}}, {KEYS}, {KEYS}"


@pytest.mark.parametrize(
    ("phase", "of", "block", "results", "products", "visited", "scope"),
    [
        ("fwd_residuals", "", 1024, OUT, 2, 10 / 16, ""),
        ("fwd_residuals", "", 512, OUT, 2, 20 / 32, ""),
        # Of a window of 512 blocks of 1024 queries see 1023 + 512 keys: two blocks, at first one.
        ("fwd_residuals", "", 1024, OUT, 2, 7 / 16, "jit(step)/window_512/"),
        ("dq_no_residuals", "_dq", 1024, OUT, 3, 10 / 16, ""),
        ("dkv_no_residuals", "_dkv", 1024, f"{KEYS}, {KEYS}", 4, 10 / 16, ""),
        ("dkv_no_residuals", "_dkv", 1024, FUSED, 5, 10 / 16, ""),
        ("dkv_no_residuals", "_dkv", 1024, FUSED, 5, 7 / 16, "transpose(jvp(window_1025))/"),
    ],
)
def test_splash_attention_is_costed_by_its_blocks(
    phase, of, block, results, products, visited, scope
):
    text = SPLASH.format(phase=phase, of=of, block=block, results=results, scope=scope)
    (op,) = program_cost(parse_module(text), devices=1).ops
    assert op.flops == products * 2 * 2 * 8 * 4096 * 4096 * 64 * visited
    once = {OUT: 1, f"{KEYS}, {KEYS}": 1, FUSED: 5}[results] * 2 * 8 * 4096 * 128 * 2
    once += 2 * 8 * 4096 * 128 * 2 * 2  # queries, and keys and values of half the heads
    once += 2 * 16  # the masks
    assert op.hbm_bytes > once
    if phase.startswith("fwd"):  # every query head walks its keys up to the diagonal
        assert op.hbm_bytes - once == 2 * (2 * visited * 4 - 1) * 2 * 4 * 4096 * 128 * 2


CUDNN = """HloModule attention
ENTRY %main (q: bf16[2,4096,8,64], k: bf16[2,4096,4,64]) -> bf16[2,8,4096,64] {{
  %q = bf16[2,4096,8,64]{{3,2,1,0}} parameter(0)
  %k = bf16[2,4096,4,64]{{3,2,1,0}} parameter(1)
  ROOT %attention.1 = (bf16[2,8,4096,64]{{3,1,2,0}}, f32[2,8,4096]{{2,1,0}}, u8[0]{{0}}) \
custom-call(%q, %k, %k), custom_call_target="__cudnn$fmhaSoftmax{phase}", \
backend_config={{"cudnn_fmha_backend_config": {{"mask_type": "{mask}", \
"sliding_window_length": {window}}}}}
}}
"""


@pytest.mark.parametrize(("phase", "products"), [("", 2), ("Backward", 5)])
@pytest.mark.parametrize(
    ("mask", "window", "seen"),
    [("CAUSAL", 0, 4097 / 2), ("NO_MASK", 0, 4096), ("CAUSAL", 3, (1 + 2 + 4094 * 3) / 4096)],
)
def test_cudnn_attention_is_costed_by_the_part_it_needs(phase, products, mask, window, seen):
    text = CUDNN.format(phase=phase, mask=mask, window=window)
    (op,) = program_cost(parse_module(text), devices=1).ops
    assert op.flops == products * 2 * 2 * 8 * 4096 * seen * 64
    queries, keys = 2 * 4096 * 8 * 64 * 2, 2 * 4096 * 4 * 64 * 2
    assert op.hbm_bytes == 2 * queries + 2 * keys + 4 * 2 * 8 * 4096


def op(flops=0.0, hbm=0.0, times=1, passes=1, beside=False, collectives=()):
    return OpCost("op", "", "fusion", times, flops, passes, hbm, beside, tuple(collectives))


def test_the_bound_is_the_sum_of_what_limits_each_instruction():
    speeds = Speeds(flops=100.0, hbm=10.0, wire=lambda group: float(len(group)))
    waits = Collective("all-reduce", (0, 1), 8.0, asynchronous=False)
    hides = Collective("all-gather", (0, 1, 2, 3), 12.0, asynchronous=True)
    ops = (
        op(flops=200.0, hbm=10.0),  # 2 s of products
        op(flops=100.0, hbm=30.0, times=2),  # 2 x 3 s of memory
        op(hbm=5.0, collectives=[waits]),  # 0.5 s, then 4 s of wire
        op(hbm=70.0, beside=True),  # 7 s that hide
        op(collectives=[hides]),  # 3 s that hide
    )
    bound = roofline(ProgramCost(ops, ()), speeds)
    assert (bound.matrix, bound.memory, bound.exposed_wire, bound.hidden) == (2, 6.5, 4, 7)
    assert bound.total == 12.5
    assert bound.limit == "HBM bandwidth"
    assert sum(bound.parts.values()) == bound.total
    assert [round(share.seconds, 3) for share in bound.shares] == [6, 4.5, 2, 0]


def test_what_cannot_hide_is_the_bound():
    speeds = Speeds(flops=1.0, hbm=1.0, wire=lambda group: 1.0)
    bound = roofline(ProgramCost((op(flops=2.0), op(hbm=5.0, beside=True)), ()), speeds)
    assert bound.total == 5
    assert bound.limit == "transfers beside compute"


def test_more_passes_for_more_precision_take_more_time():
    speeds = Speeds(flops=1.0, hbm=1.0, wire=lambda group: 1.0)
    assert roofline(ProgramCost((op(flops=2.0, passes=6),), ()), speeds).total == 12


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
