"""Commands about configs: what can be run by name, and every key with what it means."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from replay_jax.config.keys import chosen, keys_of
from replay_jax.config.recipe import load_recipe, parse_overrides
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
    table = Table("key", "type", "value", "meaning", box=None, pad_edge=False)
    table.columns[0].overflow = "fold"
    for key in keys:
        value = "" if key.example is None else repr(key.example)
        table.add_row(key.name, key.kind, Text(value), Text(key.meaning))
    Console().print(table)
    return 0
