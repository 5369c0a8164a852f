"""The command `init`: from two sides of text to a config that runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from replay_jax.commands.plan import SHARES_OF_PEAK
from replay_jax.errors import UserError
from replay_jax.library.inspecting import device_memory, matmul_rate
from replay_jax.library.starting.sizes import Start
from replay_jax.library.starting.start import start, start_tuning
from replay_jax.library.starting.tuning import Tuning


def init(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Say what was seen, write the config, and name the next command."""
    if arguments.minutes <= 0:
        raise UserError(f"--minutes is {arguments.minutes:g}: give what the study may take")
    path = Path(f"{arguments.name.removesuffix('.py')}.py")
    sides = arguments.generic, arguments.target
    speed = min(SHARES_OF_PEAK) * matmul_rate()  # a promise of minutes is to be kept
    found: Start | Tuning
    if arguments.model is None:
        found = start(path, *sides, minutes=arguments.minutes, flops_per_second=speed)
    else:
        found = start_tuning(
            path,
            *sides,
            model=arguments.model,
            minutes=arguments.minutes,
            flops_per_second=speed,
            memory_bytes=device_memory(),
        )
    for line in found.facts:
        print(line)
    if arguments.explain:
        for line in found.reasons:
            print(f"- {line}")
    much = (
        ""
        if found.minutes <= arguments.minutes
        else (f", the smallest that is suggested, more than the {arguments.minutes:g} asked for")
    )
    print(f"{path} is written, about {found.minutes:.0f} minutes here{much}: replay-jax run {path}")
    return 0
