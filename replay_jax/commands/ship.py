"""The command `ship`: an exit code by which a pipeline decides whether a run is taken."""

import argparse
import json
import os
import sys
from collections.abc import Sequence

EXIT_CODES = {"better": 0, "worse": 2, "cannot tell": 3}


def ship(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print one sentence (or its JSON); the exit code is the verdict's."""
    from replay_jax.library.shipping import ship as judged

    found = judged(
        arguments.workdir,
        arguments.run,
        margin=arguments.margin,
        generic_margin=arguments.generic_margin,
        target=arguments.target,
    )
    code = EXIT_CODES[found.verdict]
    words = json.dumps({**found.to_json(), "exit_code": code}) if arguments.json else found.sentence
    try:
        print(words, flush=True)
    except BrokenPipeError:
        # Who reads no further still gets the verdict, which is the exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
