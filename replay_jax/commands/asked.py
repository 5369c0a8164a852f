"""What the program is asked of itself: its version, and how a shell completes its commands."""

import argparse
import importlib
from collections.abc import Iterator
from typing import Any

SHELLS = ("bash", "zsh", "fish")
# What is completed with names of files and of folders, by how --help calls it.
_FILES = {"CONFIG", "RUNS", "FILE.npy", "POINTS.json", "PATH"}
_FOLDERS = {"WORKDIR", "FOLDER", "FOLDER|WORKDIR"}


class ShowVersion(argparse.Action):
    """Looks it up only when asked: --help answers sooner."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        metadata = importlib.import_module("importlib.metadata")
        print(f"replay-jax {metadata.version('replay-jax')}")
        parser.exit()


class PrintCompletion(argparse.Action):
    """The script that a shell reads once; it has all commands and options in it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any
    ) -> None:
        shtab = importlib.import_module("shtab")
        for action in _actions(parser):
            # shtab's own convention: an attribute of the action.
            if action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.metavar in _FOLDERS or action.dest == "workdir":
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        print(shtab.complete(parser, shell=values))
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
