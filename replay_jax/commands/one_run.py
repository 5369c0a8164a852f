"""Commands about one run: whether a pipeline takes it, and a model folder of it."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

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


def export(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Write a finished run as a model folder, and put it on the hub where that is asked for."""
    import jax

    from replay_jax.hub.pushing import check_push, push
    from replay_jax.library.exporting import export as export_run

    if arguments.push is not None:
        check_push(arguments.push)
    # An accelerator may be busy, and would be of no use.
    jax.config.update("jax_platforms", "cpu")
    files = export_run(
        arguments.workdir,
        arguments.run,
        arguments.folder,
        dtype=arguments.dtype,
        target=arguments.target,
        adapter=arguments.adapter,
    )
    folder = Path(os.path.expanduser(arguments.folder))
    print(f"{folder}: {', '.join(files)}")
    if arguments.push is not None:
        print(push(folder, arguments.push))
    return 0
