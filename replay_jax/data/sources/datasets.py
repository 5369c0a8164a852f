"""Documents from TensorFlow Datasets (ArrayRecord, without TensorFlow) and Hugging Face."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from replay_jax.errors import UserError

_READ_ROWS = 256


def tfds_files(path: str, split: str) -> list[Path]:
    """The files of one split of a prepared TFDS dataset, sorted.

    `path` is a dataset name ("name", "name/config:1.0.0") or the folder of a prepared version.
    """
    builder = _tfds_builder(path)
    _check_split(path, split, sorted(builder.info.splits))
    return sorted(Path(str(name)) for name in builder.info.splits[split].filepaths)


def read_tfds(path: str, split: str, text_field: str) -> Iterator[str]:
    """The text field of each example of a prepared TFDS split, in stored order.

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
    for start in range(0, len(rows), _READ_ROWS):
        for number, row in enumerate(
            rows.__getitems__(list(range(start, min(start + _READ_ROWS, len(rows))))), start
        ):
            yield _text(row[text_field], f"TFDS dataset {path!r}, split {split!r}, row {number}")


def huggingface_files(path: str, split: str) -> list[Path]:
    """The Arrow files behind one split of a Hugging Face dataset."""
    return [Path(file["filename"]) for file in _huggingface(path, split).cache_files]


def read_huggingface(path: str, split: str, text_field: str) -> Iterator[str]:
    """The text column of a Hugging Face dataset split ("name", "name:config" or a folder)."""
    rows = _huggingface(path, split)
    if text_field not in rows.column_names:
        raise UserError(
            f"Hugging Face dataset {path!r} has no column {text_field!r}; "
            f"its columns are {rows.column_names}"
        )
    for number, row in enumerate(rows.select_columns([text_field])):
        yield _text(
            row[text_field], f"Hugging Face dataset {path!r}, split {split!r}, row {number}"
        )


def _text(value: object, where: str) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not valid UTF-8 ({error})") from error
    if not isinstance(value, str):
        raise UserError(f"{where}: expected text, found {type(value).__name__}")
    return value


def _tfds_builder(path: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        if Path(path).is_dir():
            return tfds.builder_from_directory(path)
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
    name, _, config = path.partition(":")
    try:
        return datasets.load_dataset(name, config or None, split=split)
    except Exception as error:  # the library raises a dozen unrelated types here
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"Hugging Face dataset {path!r}, split {split!r}, cannot be loaded: {reason}"
        ) from error
