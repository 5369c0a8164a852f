"""The command `init`: from two sides of text to a config that runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from replay_jax.errors import UserError
from replay_jax.library.inspecting import matmul_rate
from replay_jax.library.starting.start import start

# Of NumPy's matrix rate, as a whole sweep of a small model may reach it (docs/performance.md).
_SHARE_OF_PEAK = 0.4


def init(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Say what was seen, write the config, and name the next command."""
    if arguments.minutes <= 0:
        raise UserError(f"--minutes is {arguments.minutes:g}: give what the study may take")
    print("reading both sides and training tokenizers: a minute or so", file=sys.stderr)
    path = Path(f"{arguments.name.removesuffix('.py')}.py")
    found = start(
        path,
        arguments.generic,
        arguments.target,
        minutes=arguments.minutes,
        flops_per_second=_SHARE_OF_PEAK * matmul_rate(),
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
