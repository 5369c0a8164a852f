"""`gc`: delete saved states that no run of a working directory's last sweep needs."""

import argparse
from collections.abc import Sequence

from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.orphans import bytes_in_words, orphans, remove
from replay_jax.sweep.store.places import existing
from replay_jax.sweep.store.workdir import WorkStore


def gc(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """List what no run needs with its size, and delete it unless --dry_run."""
    workdir = existing(arguments.workdir)
    if arguments.dry_run:
        found = orphans(WorkStore(workdir))
    else:
        with WorkdirLock(workdir) as lock:
            found = orphans(WorkStore(workdir))
            lock.lease.confirm()
            remove(found)
    for orphan in found:
        print(f"{bytes_in_words(orphan.size):>10}  {orphan.path}: {orphan.why}")
    what = "may go" if arguments.dry_run else "deleted"
    print(f"{len(found)} folders, {bytes_in_words(sum(o.size for o in found))}: {what}")
    return 0
