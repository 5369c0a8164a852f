"""`gc`: delete saved states that no run of a last sweep needs, or shards that no store needs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from replay_jax.data.sources.durable import in_use
from replay_jax.data.stores.superseded import (
    Superseded,
    is_store_folder,
    remove_superseded,
    superseded,
)
from replay_jax.errors import UserError
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.orphans import Orphan, bytes_in_words, orphans, remove
from replay_jax.sweep.store.places import existing
from replay_jax.sweep.store.workdir import WorkStore


def gc(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """List what is not needed with its size, and delete it unless --dry_run."""
    place = existing(arguments.workdir)
    found: Sequence[Orphan | Superseded]
    if is_store_folder(place):
        found = _of_stores(place, dry_run=arguments.dry_run)
    else:
        found = _of_workdir(place, dry_run=arguments.dry_run)
    for each in found:
        print(f"{bytes_in_words(each.size):>10}  {each.path}: {each.why}")
    what = "may go" if arguments.dry_run else "deleted"
    print(f"{len(found)} folders, {bytes_in_words(sum(each.size for each in found))}: {what}")
    return 0


def _of_workdir(workdir: epath.Path, *, dry_run: bool) -> list[Orphan]:
    if dry_run:
        return orphans(WorkStore(workdir))
    with WorkdirLock(workdir) as lock:
        found = orphans(WorkStore(workdir))
        lock.lease.confirm()
        remove(found)
    return found


def _of_stores(place: epath.Path, *, dry_run: bool) -> list[Superseded]:
    if "://" in str(place):
        raise UserError(
            f"{place} is shared by machines that cannot be asked what they need: clear their "
            "copies, or delete the place when no machine prepares"
        )
    folder = Path(place)
    if dry_run:
        return superseded(folder)
    with in_use(folder, alone=True):
        found = superseded(folder)
        remove_superseded(found)
    return found
