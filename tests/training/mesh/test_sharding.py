"""The mesh and the rule table: every axis has a rule, every misfit is named before compiling."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from made_up_devices import nodes, torus
from tiny_training import MODEL, SHAPE, mesh_of, one_device

from replay_jax.errors import UserError
from replay_jax.model.decoder import LOGICAL_AXES, PARAMETER_AXES
from replay_jax.model.presets import preset
from replay_jax.training.config import ADAMW, TrainingConfig
from replay_jax.training.mesh.choice import check_division, choose_mesh
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import (
    LOGICAL_AXIS_RULES,
    batch_sharding,
    device_grid,
    host_rows,
    keeps_axes_whole,
    make_mesh,
    mesh_host_rows,
    partition_spec,
    placement,
    tree_shardings,
)
from replay_jax.training.step import abstract_state, check_shape, compile_init

GIB = 2**30


def mesh_for(model, *, asked=None, **about):
    """The mesh of a model that is trained with AdamW; no axis is asked for unless given."""
    mesh = asked or MeshConfig()
    return choose_mesh(mesh, model, training_bytes=ADAMW.training_bytes(model), **about)


def test_every_logical_axis_of_the_model_has_one_rule():
    names = [name for name, _ in LOGICAL_AXIS_RULES]
    assert len(set(names)) == len(names)
    assert set(names) == set(LOGICAL_AXES)


def test_an_axis_without_a_rule_is_named():
    with pytest.raises(KeyError, match="experts"):
        partition_spec(("embed", "experts"))


@pytest.mark.parametrize(
    ("axes", "twice"), [(("mlp", None, "vocab"), "tensor"), (("batch", "embed"), "fsdp")]
)
def test_two_axes_on_one_mesh_axis_are_refused(axes, twice):
    with pytest.raises(Exception, match=f"duplicate entries for `{twice}`"):
        tree_shardings(nn.Partitioned(0.0, axes), mesh_of(2, 2, 2))


@pytest.mark.parametrize("layer_loop", ["unroll", "scan"])
def test_every_parameter_of_every_loop_has_a_sharding(layer_loop):
    model = dataclasses.replace(MODEL, layer_loop=layer_loop)
    state = abstract_state(model, mesh_of(2, 2, 2))
    for path, leaf in jax.tree_util.tree_flatten_with_path(state.params)[0]:
        split = {axis for axis in leaf.sharding.spec if axis is not None}
        expected = set() if "norm" in jax.tree_util.keystr(path) else {"fsdp", "tensor"}
        assert split == expected, (path, leaf.sharding)
    for moment in (state.opt_state.mu, state.opt_state.nu):
        jax.tree.map(lambda a, b: a.sharding == b.sharding or pytest.fail(), moment, state.params)
    assert "layers" in PARAMETER_AXES


def test_parameters_are_placed_in_parts_at_initialisation():
    mesh = mesh_of(2, 2, 2)
    state = compile_init(MODEL, mesh)(0)
    gate = state.params["layer_0"]["gate"]
    assert gate.sharding.spec == PartitionSpec("fsdp", "tensor")
    assert {shard.data.shape for shard in gate.addressable_shards} == {(16, 32)}
    assert {shard.data.shape for shard in state.opt_state.nu["head"].addressable_shards} == {
        (16, 32)
    }
    _, init, _ = one_device()
    single = init(0)
    jax.tree.map(np.testing.assert_array_equal, state, single)


def test_small_models_are_replicated_and_large_ones_split():
    small = mesh_for(preset("150m"), devices=nodes(64), device_bytes=32 * GIB)
    assert small.config == MeshConfig(64, 1, 1)
    assert small.reason.startswith("replicated: 2.30 GiB")
    large = mesh_for(preset("8b"), devices=nodes(64), device_bytes=32 * GIB)
    assert large.config == MeshConfig(4, 16, 1)  # no further than needed
    assert large.reason == (
        "split over fsdp 16: 119.66 GiB of state and gradients exceed 25% of a device's 32.0 GiB"
    )


def test_a_split_goes_only_as_far_as_the_embedding_divides():
    # 768 = 2^8 * 3, so of 1024 devices only 256 can share it.
    chosen = mesh_for(preset("300m"), devices=nodes(1024), device_bytes=GIB // 64)
    assert chosen.config == MeshConfig(4, 256, 1)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (MeshConfig(2, 0, 1), MeshConfig(2, 4, 1)),
        (MeshConfig(0, 2, 2), MeshConfig(2, 2, 2)),
        (MeshConfig(2, 2, 2), MeshConfig(2, 2, 2)),
        (MeshConfig(0, 0, 4), MeshConfig(2, 1, 4)),
    ],
)
def test_axes_left_open_are_filled(asked, chosen):
    assert mesh_for(MODEL, asked=asked, devices=nodes(8), device_bytes=GIB).config == chosen


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (MeshConfig(0, 0, 3), "mesh.tensor 3 does not divide 8 devices; 2 does"),
        (MeshConfig(3, 0, 1), "mesh.replica 3 does not divide the 8 devices .* 2 does"),
        (MeshConfig(0, 5, 1), "mesh.fsdp 5 does not divide the 8 devices .* 4 does"),
        (MeshConfig(2, 2, 1), "is 4, but there are 8 devices; set mesh.replica to 0"),
    ],
)
def test_axes_that_do_not_fit_the_devices_are_refused(asked, message):
    with pytest.raises(UserError, match=message):
        mesh_for(MODEL, asked=asked, devices=nodes(8), device_bytes=GIB)


@pytest.mark.parametrize(
    ("mesh", "batch_size", "accumulation", "message"),
    [
        (MeshConfig(2, 4, 1), 20, 1, "20 sequences in 1 .*training.batch_size that does is 16"),
        (MeshConfig(2, 2, 1), 16, 8, "16 sequences in 8 microbatches .* does is 32"),
        (
            MeshConfig(1, 5, 1),
            10,
            1,
            "model.embed_dim 32 does not divide over mesh.fsdp 5; 4 would",
        ),
        (MeshConfig(1, 1, 4), 16, 1, "model.num_kv_heads 2 .* mesh.tensor 4; 2 would"),
        (MeshConfig(1, 1, 8), 16, 1, "model.num_heads 4 .* mesh.tensor 8; 4 would"),
    ],
)
def test_shapes_that_do_not_divide_are_refused(mesh, batch_size, accumulation, message):
    with pytest.raises(UserError, match=message):
        check_division(
            mesh,
            MODEL,
            batch_size=batch_size,
            accumulation=accumulation,
            batch_name="training.batch_size",
        )


def test_sequences_longer_than_the_model_are_refused():
    with pytest.raises(UserError, match="seq_len 65 is longer than model.max_seq_len 64"):
        check_shape(dataclasses.replace(SHAPE, seq_len=65), mesh_of(1, 1, 1))


def test_a_mesh_must_hold_all_devices():
    with pytest.raises(UserError, match=r"\(2, 2, 1\) .* cannot hold 8 devices"):
        make_mesh(MeshConfig(2, 2, 1), jax.devices())


def test_roles_of_the_axes_for_kernels():
    assert placement(mesh_of(1, 1, 1)) is None
    roles = placement(mesh_of(4, 1, 2))
    assert (roles.heads_axis, roles.vocab_axis, roles.embed_axis) == ("tensor", "tensor", None)
    assert placement(mesh_of(1, 8, 1)).embed_axis == "fsdp"


@pytest.mark.parametrize("shape", [(2, 4, 1), (4, 2, 1), (2, 2, 2), (1, 8, 1), (4, 1, 2)])
def test_rows_of_a_device_order_are_those_that_jax_places(shape):
    """In any order of the devices: the rows of the owners are those of the devices' shards."""
    order = np.random.default_rng(0).permutation(8)
    devices = np.array(jax.devices())[order].reshape(shape)
    mesh = jax.sharding.Mesh(devices, ("replica", "fsdp", "tensor"))
    owners = order.reshape(shape) // 4  # two hosts of four devices, interleaved
    placed = batch_sharding(mesh).devices_indices_map((16,))
    for host in range(2):
        mine = [placed[d][0] for d in jax.devices() if d.id // 4 == host]
        wanted = sorted({row for part in mine for row in range(*part.indices(16))})
        assert host_rows(owners, host, 16).tolist() == wanted
    assert mesh_host_rows(mesh, 16).tolist() == list(range(16))
    with pytest.raises(ValueError, match="size 15"):
        mesh_host_rows(mesh, 15)


def test_hosts_that_share_rows_provide_the_same():
    across = np.array([[[0, 1], [0, 1]], [[2, 3], [2, 3]]])
    rows = [host_rows(across, host, 8).tolist() for host in range(4)]
    assert rows == [[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2


@pytest.mark.parametrize("model", ["150m", "8b"])
@pytest.mark.parametrize(
    "extent",
    [(2, 2, 2), (2, 2, 4), (4, 4, 4), (4, 8, 8), (2, 4), (4, 4), (8, 8), (16, 16)],
    ids=str,
)
def test_every_process_of_the_chosen_mesh_of_a_torus_gets_its_rows(model, extent):
    """A host owns a 2 x 2 block of the torus, so its rows are strided; they are whole all the same.

    The same for every slice that libtpu describes: tests/compile/test_slices.py.
    """
    devices = torus(extent)
    choice = mesh_for(preset(model), devices=devices, device_bytes=16 * GIB)
    owners = np.vectorize(lambda d: d.process_index)(device_grid(choice.config, devices))
    rows = [host_rows(owners, host, 1024) for host in range(len(devices) // 4)]
    assert len({len(mine) for mine in rows}) == 1
    assert sorted(set(np.concatenate(rows).tolist())) == list(range(1024))


def test_a_torus_is_split_only_where_twice_as_many_ways_do_not_keep_it_whole():
    cube, square = torus((4, 4, 4)), torus((16, 16))
    assert not keeps_axes_whole(MeshConfig(8, 8, 1), cube)
    assert device_grid(MeshConfig(8, 8, 1), cube).shape == (8, 8, 1)  # split, but built
    model = preset("8b")
    chosen = mesh_for(model, devices=cube, device_bytes=96 * GIB)
    assert chosen.config == MeshConfig(4, 16, 1)
    chosen = mesh_for(model, devices=square, device_bytes=16 * GIB)
    assert chosen.config == MeshConfig(8, 32, 1)


@pytest.mark.parametrize("count", [2, 4])
def test_fsdp_stays_inside_a_node_and_replicas_go_across(count):
    machines = nodes(8 * count, per_node=8)
    choice = mesh_for(preset("8b"), devices=machines, device_bytes=10 * GIB)
    assert choice.config == MeshConfig(count, 8, 1)
    grid = device_grid(choice.config, machines)
    assert [{d.slice_index for d in row.flat} for row in grid] == [{n} for n in range(count)]
    with pytest.raises(UserError, match=f"replica 1 must be a multiple of the {count} slices"):
        device_grid(MeshConfig(1, 8 * count, 1), machines)


def test_training_config_names_the_nearest_accumulation():
    with pytest.raises(UserError, match="batch_size 12 .*accumulation 5; 4 is the nearest"):
        TrainingConfig(batch_size=12, seq_len=8, accumulation=5)
