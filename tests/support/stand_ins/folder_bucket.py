"""A folder that is gs://bucket, for etils and for fsspec."""

import importlib
from pathlib import Path

from etils.epath import backend, gpath
from fsspec.implementations.local import LocalFileSystem


class FolderAsBucket(backend._OsPathBackend):
    """gs://bucket/… is a folder; as in a bucket, folders need not be made, nor files renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _here(self, path) -> Path:
        text = str(path)
        assert text.startswith("gs://bucket/"), text
        return self._root / text.removeprefix("gs://")

    def open(self, path, mode):
        assert "a" not in mode, "a bucket knows no appending"
        self._here(path).parent.mkdir(parents=True, exist_ok=True)
        return super().open(self._here(path), mode)

    def rename(self, path, dst):
        raise AssertionError("renaming in a bucket is copying: not atomic")

    replace = rename


for _name in ("exists", "isdir", "listdir", "mkdir", "makedirs", "rmtree", "remove", "stat"):

    def _redirected(self, path, *args, _name=_name, **kwargs):
        return getattr(backend._OsPathBackend, _name)(self, self._here(path), *args, **kwargs)

    setattr(FolderAsBucket, _name, _redirected)


class FolderAsStore(LocalFileSystem):
    """The same for fsspec, with the exclusive creation that gcsfs and s3fs have."""

    root: Path

    @classmethod
    def _strip_protocol(cls, path):
        text = str(path)
        return str(cls.root / text.removeprefix("gs://")) if text.startswith("gs://") else text

    def put_file(self, lpath, rpath, **kwargs):
        Path(self._strip_protocol(rpath)).parent.mkdir(parents=True, exist_ok=True)
        super().put_file(lpath, rpath, **kwargs)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        place = Path(self._strip_protocol(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb" if mode == "create" else "wb") as file:
            file.write(value)


def folder_as_bucket(cloud: Path, monkeypatch) -> Path:
    """Make `cloud`/bucket be gs://bucket for the while of a test; returns it."""
    (cloud / "bucket").mkdir(parents=True)
    store = type("Store", (FolderAsStore,), {"root": cloud, "protocol": "gs", "cachable": False})
    monkeypatch.setitem(importlib.import_module("fsspec.registry")._registry, "gs", store)
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", FolderAsBucket(cloud))
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    return cloud / "bucket"
