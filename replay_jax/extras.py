"""Packages that only some users need: imported where they are used, or named with the command."""

import importlib
from typing import Any

from replay_jax.errors import UserError


def needed(module: str, extra: str, what: str) -> Any:
    """The module of an extra; raises UserError, with the command that installs it, without it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{what} needs the extra: pip install 'replay-jax[{extra}]' ({error})"
        ) from error
