"""Where a working directory may be: a folder of this machine, or a place in a bucket."""

import os
import re
from pathlib import Path

from etils import epath

from replay_jax.errors import UserError

_NEEDS = {"gs": "'replay-jax[gcs]'", "s3": "s3fs", "az": "adlfs"}


def place(workdir: str | Path) -> epath.Path:
    """A working directory, which may be a bucket (gs://bucket/name); "~" is the home folder.

    Raises:
        UserError: a bucket that cannot be reached, an address that lacks a slash and would be
            taken for a folder here, or the home folder of somebody who is not known.
    """
    text = os.fspath(workdir)
    if re.match(r"(gs|s3|az):/?(?!/)", text):
        scheme, rest = text.split(":", 1)
        raise UserError(f"'{text}' lacks a slash: write {scheme}://{rest.lstrip('/')}")
    if "://" not in text:
        found = os.path.expanduser(text)
        if found.startswith("~"):
            raise UserError(f"'{text}' begins with a home folder that is not known; write it out")
        return epath.Path(found)
    if not re.match(r"(gs|s3|az)://[^/]", text):
        raise UserError(f"'{text}' is neither a folder nor a place in a bucket, gs://bucket/name")
    path = epath.Path(text)
    try:
        path.exists()
    except Exception as error:
        why = str(error).strip().split("\n")[0] or type(error).__name__
        scheme = text.split(":", 1)[0]
        needed = f": pip install {_NEEDS[scheme]}" if isinstance(error, ImportError) else ""
        raise UserError(f"cannot reach {text}: {why}{needed}") from error
    return path


def existing(workdir: str) -> epath.Path:
    """A working directory that is there; raises UserError for any other."""
    path = place(workdir)
    if not path.is_dir():
        raise UserError(f"no working directory '{path}': give the folder that `run` printed")
    return path
