"""`export`: a trained model for others to load."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax

from replay_jax.errors import UserError
from replay_jax.sweep.drive.exporting import export_run
from replay_jax.sweep.store.places import existing


def export(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Write a finished run as a model folder that transformers and `initial_weights` load."""
    # An accelerator may be busy, and would be of no use.
    jax.config.update("jax_platforms", "cpu")
    if ":/" in arguments.folder:
        raise UserError(f"'{arguments.folder}' is not on a disk: export to a folder and copy it")
    folder = Path(arguments.folder)
    files = export_run(existing(arguments.workdir), arguments.run, folder, dtype=arguments.dtype)
    print(f"{folder}: {', '.join(files)}")
    return 0
