"""Model folders appear whole or not at all."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from replay_jax.errors import UserError


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write files into, which is `folder` once all of them are written.

    Raises:
        UserError: it exists already, or cannot be written (permissions, full disk).
    """
    if folder.exists():
        raise UserError(f"{folder} exists already: choose another folder, or delete it first")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for path in partial.iterdir():
            _sync(path)
        partial.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
