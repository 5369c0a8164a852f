"""Documents from TensorFlow Datasets (ArrayRecord, without TensorFlow) and Hugging Face."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replay_jax.data.conversations.marked import Marked, Taker, TextField
from replay_jax.data.sources.formats import taken
from replay_jax.errors import UserError
from replay_jax.extras import needed

_READ_ROWS = 256


@dataclass(frozen=True)
class StoredSplit:
    """One split of a dataset: the files behind it, its rows, and about how many bytes they are."""

    files: list[Path]
    rows: int
    bytes: int


def tfds_split(path: str, split: str) -> StoredSplit:
    """One split of a prepared TFDS dataset.

    `path` is a dataset name ("name", "name/config:1.0.0") or the folder of a prepared version.
    """
    builder = _tfds_builder(path)
    _check_split(path, split, sorted(builder.info.splits))
    info = builder.info.splits[split]
    return StoredSplit(
        sorted(Path(str(name)) for name in info.filepaths), info.num_examples, info.num_bytes
    )


def read_tfds(
    path: str, split: str, taker: Taker, first: int, stop: int | None
) -> Iterator[str | Marked | UserError]:
    """What is taken of examples [first, stop) of a prepared TFDS split, in stored order.

    Raises UserError where the split or a field is missing, or where the dataset was not
    prepared as ArrayRecord.
    """

    builder = _tfds_builder(path)
    _check_split(path, split, sorted(builder.info.splits))
    for name in taker.fields or ():
        if name not in builder.info.features:
            raise UserError(
                f"TFDS dataset {path!r} has no field {name!r}; "
                f"its fields are {sorted(builder.info.features)}"
            )
    try:
        rows: Any = builder.as_data_source(split=split)
    except (ValueError, NotImplementedError) as error:
        raise UserError(
            f"TFDS dataset {path!r} has no random access; prepare it with "
            f"`tfds build --file_format=array_record` ({str(error).strip().splitlines()[0]})"
        ) from error
    stop = len(rows) if stop is None else stop
    for start in range(first, stop, _READ_ROWS):
        for number, row in enumerate(
            rows.__getitems__(list(range(start, min(start + _READ_ROWS, stop)))), start
        ):
            yield _taken(row, taker, f"TFDS dataset {path!r}, split {split!r}, row {number}")


def huggingface_split(path: str, split: str) -> StoredSplit:
    """One split of a Hugging Face dataset; a slice of one has the files of the whole."""
    rows = _huggingface(path, split)
    files = [Path(file["filename"]) for file in rows.cache_files]
    return StoredSplit(files, len(rows), rows.data.nbytes)


def read_huggingface(
    path: str, split: str, taker: Taker, first: int, stop: int | None
) -> Iterator[str | Marked | UserError]:
    """What is taken of rows [first, stop) of a split ("name", "name:config" or a folder)."""
    rows = _huggingface(path, split)
    names = list(taker.fields or ())
    for name in names:
        if name not in rows.column_names:
            raise UserError(
                f"Hugging Face dataset {path!r} has no column {name!r}; "
                f"its columns are {rows.column_names}"
            )
    table = rows.select_columns(names)
    stop = len(table) if stop is None else stop
    for start in range(first, stop, _READ_ROWS):
        columns = table[start : min(start + _READ_ROWS, stop)]
        for number, values in enumerate(zip(*(columns[n] for n in names), strict=True), start):
            where = f"Hugging Face dataset {path!r}, split {split!r}, row {number}"
            yield _taken(dict(zip(names, values, strict=True)), taker, where)


def _taken(row: dict[str, object], taker: Taker, where: str) -> str | Marked | UserError:
    if isinstance(taker, TextField):
        return _text(row[taker.name], where)
    texts = {}
    for name in taker.fields or ():
        text = _text(row[name], where)
        if isinstance(text, UserError):
            return text
        texts[name] = text
    return taken(texts, taker, where)


def _text(value: object, where: str) -> str | UserError:
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            return UserError(f"{where}: not valid UTF-8 ({error})")
    if not isinstance(value, str):
        raise UserError(f"{where}: expected text, found {type(value).__name__}")
    return value


def _tfds_builder(path: str) -> Any:
    tfds = needed("tensorflow_datasets", "tfds", "reading a TFDS dataset")
    try:
        folder = Path(path).expanduser()
        if folder.is_dir():
            return tfds.builder_from_directory(str(folder))
        builder = tfds.builder(path)
    except (tfds.core.registered.DatasetNotFoundError, FileNotFoundError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise UserError(f"TFDS has no dataset {path!r}: {first}") from error
    if not builder.info.splits:
        raise UserError(
            f"TFDS dataset {path!r} is not prepared under {builder.data_dir}; "
            "run `tfds build --file_format=array_record` for it first"
        )
    return builder


def _check_split(path: str, split: str, splits: list[str]) -> None:
    if split not in splits:
        raise UserError(f"TFDS dataset {path!r} has no split {split!r}; its splits are {splits}")


def _huggingface(path: str, split: str) -> Any:
    datasets = needed("datasets", "huggingface", "reading a Hugging Face dataset")
    name, config = _name_and_config(path)
    try:
        return datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the library raises a dozen unrelated types here
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"Hugging Face dataset {path!r}, split {split!r}, cannot be loaded: {reason}"
        ) from error


def _name_and_config(path: str) -> tuple[str, str | None]:
    """A colon separates the two, unless it is part of a folder's name."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return str(folder), None
    name, colon, config = path.rpartition(":")
    return (name, config) if colon else (path, None)
