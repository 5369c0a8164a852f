"""Finished folders and small files in a bucket (gs://, s3://, az://), through fsspec.

A folder is what its manifest.json says: sent after all its files, so one that was cut off is none,
and read before them, so each is compared with its checksum. In a bucket nothing is renamed, and a
manifest is made by one writer only.
"""

import contextlib
import errno
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from replay_jax.data.sources.durable import file_sha256, sync, write_durably
from replay_jax.data.sources.fingerprints import is_here, source_answer
from replay_jax.data.sources.source import SourceConfig
from replay_jax.errors import UserError

_MANIFEST = "manifest.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOKENIZERS = "tokenizer-*.json"


def bring_folder(bucket: str, name: str, folder: Path) -> bool:
    """Copy a finished folder of a bucket into an empty one, its manifest last; False where the
    bucket has none.

    Raises UserError for a file that is not what the manifest says, and where the bucket cannot be
    reached.
    """
    place = f"{bucket}/{name}"
    text = _read(f"{place}/{_MANIFEST}")
    if text is None:
        return False
    for file, checksum in _files(place, text).items():
        with _reaching(bucket) as store:
            store.get_file(f"{place}/{file}", str(folder / file))
        if file_sha256(folder / file) != checksum:
            raise UserError(
                f"{place}/{file} was altered: its SHA-256 is not that of its manifest; delete "
                f"{place} and prepare again"
            )
        sync([folder / file])
    write_durably(folder / _MANIFEST, text)
    sync([folder])
    return True


def send_folder(bucket: str, name: str, folder: Path) -> None:
    """Copy a finished folder to a bucket, unless it is there.

    Where another machine was faster, its manifest replaces the one here: both say the same of the
    same files. Raises UserError where the files differ.
    """
    place, path = f"{bucket}/{name}", folder / _MANIFEST
    own = path.read_text(encoding="utf-8")
    there = _read(f"{place}/{_MANIFEST}")
    if there is None:
        with _reaching(bucket) as store:
            for file in _files(place, own):
                store.put_file(str(folder / file), f"{place}/{file}")
            with contextlib.suppress(FileExistsError):
                store.pipe_file(f"{place}/{_MANIFEST}", own.encode(), mode="create")
        there = _read(f"{place}/{_MANIFEST}")
    if there != own:
        if there is None or _files(place, there) != _files(place, own):
            raise UserError(
                f"{place} is not what this machine made of the same input with the same tokenizer; "
                "delete one of them and prepare again"
            )
        write_durably(path, there)


def send_missing(bucket: str, kind: str, folders: Sequence[Path]) -> None:
    """Send those finished folders that the bucket lacks, by one look at all of a kind."""
    with _reaching(bucket) as store:
        there = {name.split("/")[-2] for name in store.glob(f"{bucket}/{kind}/*/{_MANIFEST}")}
    for folder in folders:
        if folder.name not in there:
            send_folder(bucket, f"{kind}/{folder.name}", folder)


def bring_answers(bucket: str, store_dir: Path, sources: Sequence[SourceConfig]) -> None:
    """Bring tokenizers, and what is known of sources that have no file on this machine."""
    for name in _names(bucket, _TOKENIZERS):
        if not (store_dir / name).exists():
            _bring(f"{bucket}/{name}", store_dir / name)
    for source in sources:
        answer = source_answer(source, store_dir)
        if not is_here(source, store_dir):
            _bring(f"{bucket}/inputs/{answer.name}", answer)


def send_answers(bucket: str, store_dir: Path, sources: Sequence[SourceConfig]) -> None:
    """Send what `bring_answers` brings, where the bucket has another answer or none."""
    there = set(_names(bucket, _TOKENIZERS))
    for path in sorted(store_dir.glob(_TOKENIZERS)):
        if path.name not in there:
            _write(f"{bucket}/{path.name}", path.read_text(encoding="utf-8"))
    for source in sources:
        answer = source_answer(source, store_dir)
        if answer.exists():
            own, place = answer.read_text(encoding="utf-8"), f"{bucket}/inputs/{answer.name}"
            # Dates and inodes differ between machines: they are no news.
            if _parts(own) != _parts(_read(place)):
                _write(place, own)


def _bring(place: str, path: Path) -> None:
    text = _read(place)
    if text is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, text)


def _parts(answer: str | None) -> Any:
    try:
        return None if answer is None else json.loads(answer)["parts"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _files(place: str, manifest: str) -> dict[str, str]:
    """The files of a folder with their checksums, from its manifest."""
    try:
        found = {name: str(of["sha256"]) for name, of in json.loads(manifest)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{place}/{_MANIFEST} is damaged ({error}); delete {place} and prepare again"
        ) from error
    for name in found:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UserError(f"{place}/{_MANIFEST} names {name!r}, which is no file of a shard")
    return found


def _read(place: str) -> str | None:
    """What a small file holds at this moment, None where there is none."""
    with _reaching(place) as store, contextlib.suppress(FileNotFoundError, NotADirectoryError):
        content: bytes = store.cat_file(place)
        return content.decode()
    return None


def _write(place: str, text: str) -> None:
    with _reaching(place) as store:
        store.pipe_file(place, text.encode())


def _names(bucket: str, pattern: str) -> list[str]:
    with _reaching(bucket) as store:
        return sorted(name.rsplit("/", 1)[-1] for name in store.glob(f"{bucket}/{pattern}"))


@contextlib.contextmanager
def _reaching(place: str) -> Iterator[Any]:
    """fsspec's file system of a place, without what it kept of earlier listings.

    Raises UserError for what goes wrong there; a full disk here stays an OSError.
    """
    import fsspec

    try:
        store, _ = fsspec.core.url_to_fs(place)
        store.invalidate_cache()
        yield store
    except UserError:
        raise
    except ImportError as error:
        scheme = place.split(":", 1)[0]
        package = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}[scheme]
        raise UserError(f"{scheme}:// needs {package}: pip install {package}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"{place} cannot be read or written ({why}); run again, finished parts are kept"
        ) from error
