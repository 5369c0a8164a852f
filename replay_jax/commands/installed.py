"""What this installation has: configs by name, every key of one, and what it lacks here."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replay_jax.config.keys import chosen, keys_of
from replay_jax.config.recipe import load_recipe, parse_overrides
from replay_jax.config.shipped import shipped_configs, summary


def configs(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Print every shipped config with the question that it asks, or the file of one of them."""
    table = Table("name", "question", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for name, path in shipped_configs().items():
        table.add_row(name, summary(path))
    console = Console(markup=False, emoji=False)
    console.print(table)
    folder = shipped_configs()["smoke"].parent
    console.print(f"\nreplay-jax run NAME runs one; copy its file from {folder} to change it")
    return 0


def config(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Print keys with type, value and meaning: all, or those of a key; of a config or of the start.

    One name alone is a key where there is one, else a config.
    """
    given = parse_overrides(overrides)
    recipe, wanted = arguments.recipe, arguments.key
    if recipe and not wanted and recipe.split(".")[0] in {k.name.split(".")[0] for k in keys_of()}:
        recipe, wanted = None, recipe
    keys = keys_of(load_recipe(recipe, given).base if recipe else None)
    keys = chosen(keys, wanted) if wanted else keys
    if arguments.json:
        print(json.dumps([asdict(key) for key in keys], default=str))
        return 0
    console = Console(markup=False, emoji=False)
    for key in keys:
        value = "" if key.example is None else f" = {key.example!r}"
        console.print(Text(key.name, "bold") + Text(f": {key.kind}{value}", "not bold"))
        console.print(Padding(Text(key.meaning), (0, 0, 0, 4)))
    return 0


def doctor(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print versions, devices, memory, disk, what each extra lacks, and how fast a step is.

    Returns 1 where JAX finds no device, as nothing can be trained then.
    """
    from replay_jax.library.inspecting import inspect, tokens_per_second

    found = inspect()
    speed = tokens_per_second() if found.devices else None
    if arguments.json:
        print(json.dumps({**found.to_json(), "tokens_per_second": speed}))
        return 0 if found.devices else 1
    table = Table(box=None, show_header=False, pad_edge=False)
    for column in ("what", "found"):
        table.add_column(column, overflow="fold")
    for name, version in found.versions.items():
        if version != "none":
            table.add_row(name, version)
    memory = "unknown" if found.memory_bytes is None else _gib(found.memory_bytes)
    table.add_row("processor", f"{found.processor}, {found.cores} cores for this process")
    table.add_row("memory", memory)
    table.add_row("disk", f"{_gib(found.disk_free_bytes)} free here")
    for device in found.devices or (f"none: {found.device_problem}",):
        table.add_row("device", device)
    if speed is not None:
        table.add_row("speed", f"{speed:,.0f} tokens/s, the quickstart's model on one device")
    for extra, missing in found.lacking.items():
        table.add_row(f"extra {extra}", "ready" if not missing else "; ".join(missing))
    console = Console(markup=False, emoji=False)
    console.print(table, highlight=False)
    if any(found.lacking.values()):
        print("\npip install 'replay-jax[EXTRA]' installs what an extra lacks")
    return 0 if found.devices else 1


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
