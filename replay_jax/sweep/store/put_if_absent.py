"""Small files that only one of several writers can make, on disks and in buckets.

On a disk a whole file gets its name by a hard link, which fails where the name is taken, on NFS
too. In a bucket it is fsspec's exclusive creation: `ifGenerationMatch=0` for Google's storage
(gcsfs), `If-None-Match: *` for Amazon's (s3fs). Read here and not through etils, because listings
and sizes that were kept from before would show an old state.
"""

import errno
import os
import secrets
from pathlib import Path

from etils import epath

from replay_jax.errors import UserError
from replay_jax.sweep.store.facts import patiently

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def put_if_absent(path: epath.Path, text: str) -> bool:
    """Make a file with this text; returns whether it was made, or had been by this very call.

    `text` must be unlike that of any other writer, so that a request that was sent twice, because
    its answer was lost, is known again.
    """
    made = patiently(lambda: _put(path, text.encode()))
    return made or read_now(path) == text


def read_now(path: epath.Path) -> str | None:
    """What a file holds at this moment, None where there is none; bytes of no text are replaced."""
    try:
        if not _is_remote(path):
            return Path(path).read_bytes().decode(errors="replace")
        store, key = _remote(path)
        content: bytes = patiently(lambda: store.cat_file(key))
        return content.decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def names_now(folder: epath.Path) -> list[str]:
    """Names of the files in a folder at this moment."""
    try:
        if not _is_remote(folder):
            return os.listdir(folder)
        store, key = _remote(folder)
        store.invalidate_cache()
        return [name.rsplit("/", 1)[-1] for name in patiently(lambda: store.ls(key, detail=False))]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _put(path: epath.Path, content: bytes) -> bool:
    if _is_remote(path):
        store, key = _remote(path)
        try:
            store.pipe_file(key, content, mode="create")
        except FileExistsError:
            return False
        return True
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(content)
        _link(temporary, place, content)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _link(temporary: Path, place: Path, content: bytes) -> None:
    try:
        os.link(temporary, place)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with place.open("xb") as file:
            file.write(content)


def _is_remote(path: epath.Path) -> bool:
    return "://" in os.fspath(path)


def _remote(path: epath.Path):  # type: ignore[no-untyped-def]  # fsspec has no types
    import fsspec

    try:
        return fsspec.core.url_to_fs(os.fspath(path))
    except ImportError as error:
        scheme = os.fspath(path).split(":", 1)[0]
        package = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}[scheme]
        raise UserError(f"{scheme}:// needs {package}: pip install {package}") from error
