"""Commands about one model: whether a pipeline takes it, what it scores, and a folder of it."""

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


def evaluate(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print the nats of every row of tokens, or the scores on tasks."""
    import numpy as np

    from replay_jax.errors import UserError
    from replay_jax.library.evaluating import load_folder, load_run, row_nats, score, summary

    if bool(arguments.tokens) == bool(arguments.tasks):
        raise UserError("give --tokens=FILE.npy or --tasks=NAME=FILE, one of both")
    if arguments.run is None:
        loaded = load_folder(arguments.place)
    else:
        loaded = load_run(arguments.place, arguments.run, target=arguments.target)
    if arguments.tokens:
        try:
            tokens = np.load(arguments.tokens, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{arguments.tokens} is no .npy file of tokens: {error}") from error
        nats = row_nats(loaded, tokens, batch_size=arguments.batch).tolist()
        print(json.dumps({"nats": nats}) if arguments.json else "\n".join(f"{n:.6f}" for n in nats))
        return 0
    found = {}
    for given in arguments.tasks:
        name, _, path = given.partition("=")
        if not path:
            raise UserError(f"--tasks={given} names no file: write --tasks=NAME=FILE")
        found[name] = summary(score(loaded, path, batch_size=arguments.batch))
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, scores in found.items():
        print(
            f"{name}: {scores['accuracy']:.3f} of {scores['items']} right "
            f"({scores['accuracy_by_length']:.3f} by length), choice loss "
            f"{scores['choice_nats']:.4f} nats"
        )
    return 0
