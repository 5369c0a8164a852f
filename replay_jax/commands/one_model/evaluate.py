"""`evaluate`: nats of rows of tokens, and scores on tasks, our own and those of lm_eval."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from replay_jax.errors import UserError


def evaluate(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print the nats of every row of tokens, or the scores on tasks."""
    from replay_jax.commands.one_model.loading import load

    if bool(arguments.tokens) == bool(arguments.tasks):
        raise UserError("give --tokens=FILE.npy or --tasks=NAME=FILE, one of both")
    files, names = _tasks(arguments.tasks)
    for option in ("items", "limit", "chat"):
        if getattr(arguments, option) and not names:
            raise UserError(f"--{option} is of tasks of lm_eval, and none is asked for")
    if arguments.tokens and arguments.shots:
        raise UserError("--shots is of tasks, and rows of tokens are asked for")
    if arguments.items and Path(arguments.items).exists():
        raise UserError(f"{arguments.items} exists already: choose another file, or delete it")
    loaded = load(arguments)
    if arguments.tokens:
        _print_nats(loaded, arguments)
        return 0
    found = {name: _own(loaded, path, arguments) for name, path in files.items()}
    if names:
        found |= _of_harness(loaded, names, arguments)
    print(json.dumps(found) if arguments.json else "\n".join(_lines(found)))
    return 0


def _tasks(given: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Our own tasks by name, and the names (or YAML files) of lm_eval's."""
    files, names = {}, []
    for each in given:
        name, is_own, path = each.partition("=")
        if is_own and not (name and path):
            raise UserError(f"--tasks={each} names no file: write --tasks=NAME=FILE")
        if is_own:
            files[name] = path
        else:
            names += [part for part in each.split(",") if part]
    return files, names


def _print_nats(loaded: Any, arguments: argparse.Namespace) -> None:
    import numpy as np

    from replay_jax.library.evaluating import row_nats

    try:
        tokens = np.load(arguments.tokens, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{arguments.tokens} is no .npy file of tokens: {error}") from error
    nats = row_nats(loaded, tokens, batch_size=arguments.batch).tolist()
    print(json.dumps({"nats": nats}) if arguments.json else "\n".join(f"{n:.6f}" for n in nats))


def _own(loaded: Any, path: str, arguments: argparse.Namespace) -> Mapping[str, Any]:
    from replay_jax.library.evaluating import score, summary

    shots, seed = arguments.shots or 0, arguments.seed
    return summary(score(loaded, path, batch_size=arguments.batch, shots=shots, seed=seed))


def _of_harness(
    loaded: Any, names: list[str], arguments: argparse.Namespace
) -> dict[str, Mapping[str, Any]]:
    from replay_jax.library.texts.harness_tasks import (
        Asked,
        harness_scores,
        task_numbers,
        write_items,
    )

    asked = Asked(
        names, arguments.include, arguments.shots, arguments.limit, arguments.chat, arguments.seed
    )
    found = harness_scores(loaded, asked, batch_size=arguments.batch)
    if arguments.items:
        write_items(found, Path(arguments.items))
    return dict(task_numbers(found))


def _lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, scores in found.items():
        if "choice_nats" in scores:
            lines.append(
                f"{name}: {scores['accuracy']:.3f} of {scores['items']} right "
                f"({scores['accuracy_by_length']:.3f} by length), choice loss "
                f"{scores['choice_nats']:.4f} nats"
            )
            continue
        numbers = ", ".join(f"{key} {value:.4f}" for key, value in scores.items() if key != "items")
        lines.append(f"{name}: {scores['items']} items, {numbers}")
    return lines
