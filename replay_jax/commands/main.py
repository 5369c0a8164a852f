"""The command line: parse, dispatch, and turn mistakes into one sentence and exit code 2."""

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from replay_jax.commands.arguments import parser
from replay_jax.errors import UserError
from replay_jax.progress import stage, until_another
from replay_jax.sweep.drive.patience import patience


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 some run failed, 2 the user's mistake.

    A mistake has another code (`_MISTAKES`) where 2 is an answer.
    """
    alone = arguments is None
    if alone:
        _keep_docstrings()
    _open_what_is_closed()
    _never_fail_at_a_letter()
    arguments = sys.argv[1:] if arguments is None else arguments
    told = patience() if alone else contextlib.nullcontext()
    mistake = _MISTAKES[arguments[0]] if arguments and arguments[0] in _MISTAKES else 2
    try:
        known, rest = parser().parse_known_args(arguments)
    except SystemExit as end:
        raise SystemExit(mistake if end.code == 2 else end.code) from None
    if rest and not (known.takes_overrides and all(a.startswith("--config.") for a in rest)):
        wrong = next(a for a in rest if not (known.takes_overrides and a.startswith("--config.")))
        print(f"replay-jax: unknown argument '{wrong}': see replay-jax {known.command} --help",
              file=sys.stderr)  # fmt: skip
        return mistake
    try:
        with told, (until_another if known.command in _SHOWN else stage)(known.command):
            return _command(known.command)(known, rest)
    except UserError as error:
        print(f"replay-jax: {error}", file=sys.stderr)
        return mistake
    except KeyboardInterrupt:
        print("replay-jax: interrupted; the same command goes on from here", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# Commands that show by themselves how far they are, once they have begun.
_SHOWN = ("run", "pilot", "prepare", "overlap")
# Commands of which 2 is an answer, and what a mistake is there (EX_USAGE of sysexits.h).
_MISTAKES = {"ship": 64}


def _keep_docstrings() -> None:
    """Start again where Python leaves docstrings out (-OO): the figures' library reads its own."""
    if sys.flags.optimize > 1:
        os.environ["PYTHONOPTIMIZE"] = "1"
        # -P: no folder is put before those of the installation, as for the command itself.
        os.execv(sys.executable, [sys.executable, "-P", "-m", "replay_jax", *sys.argv[1:]])


def _open_what_is_closed() -> None:
    """Give closed standard streams (`<&-`) a place, that no file which is opened later takes it.

    The engine that draws figures ends the process where input is closed.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # opens the lowest that is free


def _never_fail_at_a_letter() -> None:
    """What the terminal's encoding does not have is shown replaced, and ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


# The module that has a command, in the words of `replay_jax.commands`; imported when it is called,
# so that --help and mistakes in arguments answer at once.
_MODULES = {
    "run": "run",
    "plan": "plan",
    "pilot": "pilot",
    "prepare": "plan",
    "configs": "installed",
    "config": "installed",
    "init": "init",
    "status": "sweep",
    "report": "sweep",
    "recommend": "sweep",
    "verify": "sweep",
    "gc": "gc",
    "analyse": "analyse",
    "ship": "one_run",
    "overlap": "overlap",
    "export": "one_run",
    "evaluate": "one_model.evaluate",
    "generate": "one_model.generate",
    "doctor": "installed",
    "turns": "web.turns",
    "score": "web.turns",
    "fit": "measure",
    "bench": "measure",
    "compile": "measure",
}


def _command(name: str) -> Callable[[argparse.Namespace, Sequence[str]], int]:
    module = importlib.import_module(f"replay_jax.commands.{_MODULES[name]}")
    command: Callable[[argparse.Namespace, Sequence[str]], int] = getattr(module, name)
    return command
