"""The command `doctor`: what this installation can do on this machine."""

import argparse
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


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
    Console().print(table, highlight=False)
    return 0 if found.devices else 1


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
