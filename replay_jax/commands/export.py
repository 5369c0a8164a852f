"""`export`: a trained model for others to load."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax

from replay_jax.library.exporting import export as export_run


def export(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Write a finished run as a model folder that transformers and `initial_weights` load."""
    # An accelerator may be busy, and would be of no use.
    jax.config.update("jax_platforms", "cpu")
    files = export_run(
        arguments.workdir,
        arguments.run,
        arguments.folder,
        dtype=arguments.dtype,
        target=arguments.target,
    )
    print(f"{Path(arguments.folder)}: {', '.join(files)}")
    return 0
