"""Taking a damaged state out of use, so that what lies before it is gone on from."""

import os

from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.saving.saved import delete


def set_aside(store: WorkStore, digest: str) -> str:
    """Take a damaged state, or end of runs, out of use; returns where it is kept.

    In a bucket, where renaming would be copying, it is deleted and kept nowhere.
    """
    store.confirm()
    path = store.state_path(digest)
    if not path.exists():
        path = store.end_path(digest)
    if "://" in os.fspath(store.root):
        delete(path)
        return "nothing"
    folder = store.root / "damaged"
    folder.mkdir(exist_ok=True)
    number = sum(item.name.startswith(digest) for item in folder.iterdir())
    return os.fspath(path.rename(folder / f"{digest}-{number}"))
