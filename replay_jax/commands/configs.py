"""The command that lists what can be run by name."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from replay_jax.config.shipped import shipped_configs, summary


def configs(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Print every shipped config with the question that it asks, or the file of one of them."""
    table = Table("name", "question", box=None, pad_edge=False)
    for name, path in shipped_configs().items():
        table.add_row(name, summary(path))
    console = Console()
    console.print(table)
    folder = shipped_configs()["smoke"].parent
    console.print(f"\nreplay-jax run NAME runs one; copy its file from {folder} to change it")
    return 0
