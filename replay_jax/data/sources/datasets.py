"""Documents from TensorFlow Datasets (ArrayRecord, without TensorFlow) and Hugging Face."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replay_jax.errors import UserError

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
    path: str, split: str, text_field: str, first: int, stop: int | None
) -> Iterator[str | UserError]:
    """The text field of examples [first, stop) of a prepared TFDS split, in stored order.

    Raises UserError where the split or the field is missing, or where the dataset was not
    prepared as ArrayRecord.
    """

    builder = _tfds_builder(path)
    _check_split(path, split, sorted(builder.info.splits))
    if text_field not in builder.info.features:
        raise UserError(
            f"TFDS dataset {path!r} has no field {text_field!r}; "
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
            yield _text(row[text_field], f"TFDS dataset {path!r}, split {split!r}, row {number}")


def huggingface_split(path: str, split: str) -> StoredSplit:
    """One split of a Hugging Face dataset; a slice of one has the files of the whole."""
    rows = _huggingface(path, split)
    files = [Path(file["filename"]) for file in rows.cache_files]
    return StoredSplit(files, len(rows), rows.data.nbytes)


def read_huggingface(
    path: str, split: str, text_field: str, first: int, stop: int | None
) -> Iterator[str | UserError]:
    """The text column of rows [first, stop) of a split ("name", "name:config" or a folder)."""
    rows = _huggingface(path, split)
    if text_field not in rows.column_names:
        raise UserError(
            f"Hugging Face dataset {path!r} has no column {text_field!r}; "
            f"its columns are {rows.column_names}"
        )
    column = rows.select_columns([text_field])
    stop = len(column) if stop is None else stop
    for start in range(first, stop, _READ_ROWS):
        texts = column[start : min(start + _READ_ROWS, stop)][text_field]
        for number, text in enumerate(texts, start):
            yield _text(text, f"Hugging Face dataset {path!r}, split {split!r}, row {number}")


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
    import tensorflow_datasets as tfds

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
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "reading a Hugging Face dataset needs the extra: pip install 'replay-jax[huggingface]'"
        ) from error
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
