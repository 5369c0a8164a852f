"""What lies in a folder of stores that no store there needs."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from replay_jax.data.tokens.manifest import MANIFEST_NAME, read_manifest
from replay_jax.data.tokens.shards import FOLDER
from replay_jax.errors import UserError


@dataclass(frozen=True)
class Superseded:
    """A folder that may go: where it is, why, and its size in bytes."""

    path: Path
    why: str
    size: int


def is_store_folder(folder: Path) -> bool:
    """Whether stores are kept in a folder."""
    return (folder / FOLDER).is_dir()


def superseded(folder: Path) -> list[Superseded]:
    """All shards that no manifest of a store names, and what was left unfinished.

    Of a source that was edited, the shards of what it was are needed as long as the store of it is
    there. Raises UserError where the manifest of a store cannot be read, as it may need any.
    """
    found = [Superseded(path, "left unfinished", _size(path)) for path in folder.glob("*.partial")]
    needed = _needed(folder)
    for path in sorted((folder / FOLDER).iterdir()):
        if path.is_dir() and os.path.realpath(path) not in needed:
            whole = (path / MANIFEST_NAME).exists()
            why = "a shard of no store here" if whole else "left unfinished"
            found.append(Superseded(path, why, _size(path)))
    return found


def remove_superseded(found: Sequence[Superseded]) -> None:
    """Delete them; only for who is alone in the folder."""
    for each in found:
        # First, so that what is half deleted is not taken for whole.
        (each.path / MANIFEST_NAME).unlink(missing_ok=True)
        shutil.rmtree(each.path)


def _needed(folder: Path) -> set[str]:
    needed = set()
    for path in sorted(folder.glob(f"*/{MANIFEST_NAME}")):
        try:
            shards = read_manifest(path.parent).shards
        except UserError as error:
            raise UserError(
                f"which shards {path.parent} needs is not known, so none is deleted: {error}"
            ) from error
        needed |= {os.path.realpath(path.parent / shard.folder) for shard in shards}
    return needed


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
