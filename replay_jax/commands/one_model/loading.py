"""The model that `evaluate` and `generate` are about."""

import argparse

from replay_jax.errors import UserError
from replay_jax.library.evaluating import Loaded, load_folder, load_run
from replay_jax.training.mesh.config import MeshConfig


def load(arguments: argparse.Namespace) -> Loaded:
    """The model that a command is about; raises UserError where it cannot be had."""
    if arguments.batch < 1:
        raise UserError(f"--batch={arguments.batch} must be 1 or more")
    ways = _ways(arguments.mesh)
    if arguments.run is None:
        return load_folder(arguments.place, ways=ways)
    return load_run(arguments.place, arguments.run, target=arguments.target, ways=ways)


def _ways(given: str) -> MeshConfig:
    parts = given.split(",")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"--mesh={given} is not three numbers such as 1,4,2 (replica,fsdp,tensor)")
    return MeshConfig(*map(int, parts))
