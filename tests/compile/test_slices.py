"""Every slice in the table, by libtpu's own description: each process of its mesh gets its rows."""

import numpy as np
import pytest

from replay_jax.compile.chips import CHIPS, KNOWN_SHAPES
from replay_jax.compile.topology import tpu_slice
from replay_jax.model.presets import preset
from replay_jax.training.config import ADAMW
from replay_jax.training.mesh.choice import choose_mesh
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import host_rows, make_mesh, mesh_owners

SLICES = [f"{chip}:{shape}" for chip in CHIPS for shape in KNOWN_SHAPES[chip]]


@pytest.mark.parametrize("name", SLICES)
def test_every_process_of_a_slice_gets_its_rows(name):
    pytest.importorskip("libtpu", reason="libtpu is not installed (extra 'tpu')")
    target = tpu_slice(name)
    processes = {device.process_index for device in target.devices}
    for model in map(preset, ("150m", "8b")):
        choice = choose_mesh(
            MeshConfig(), model, devices=target.devices, device_bytes=target.chip.hbm_bytes,
            training_bytes=ADAMW.training_bytes(model),
        )  # fmt: skip
        owners = mesh_owners(make_mesh(choice.config, target.devices))
        rows = [host_rows(owners, process, 1024) for process in processes]
        assert len({len(mine) for mine in rows}) == 1
        assert np.array_equal(np.unique(np.concatenate(rows)), np.arange(1024))
