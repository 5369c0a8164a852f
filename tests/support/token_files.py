"""Files of token ids as other programs write them, byte for byte by their descriptions."""

import struct
from pathlib import Path

import numpy as np

CODES = {"u1": 1, "i1": 2, "i2": 3, "i4": 4, "i8": 5, "f8": 6, "f4": 7, "u2": 8}


def write_megatron(
    path: Path, documents: list[list[list[int]]], dtype: str = "u2", *, version: int = 1
) -> Path:
    """`path`.bin and `path`.idx of documents, each of one or more sequences."""
    sequences = [np.array(ids, f"<{dtype}") for document in documents for ids in document]
    sizes = [len(ids) for ids in sequences]
    pointers = np.cumsum([0, *sizes])[:-1] * int(dtype[1])
    borders = np.cumsum([0, *map(len, documents)])
    path.with_suffix(".bin").write_bytes(b"".join(ids.tobytes() for ids in sequences))
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", version, CODES[dtype], len(sizes), len(borders))
    columns = (np.array(sizes, "<i4"), pointers.astype("<i8"), borders.astype("<i8"))
    body = b"".join(column.tobytes() for column in columns)
    path.with_suffix(".idx").write_bytes(head + body)
    return path.with_suffix(".bin")


def write_npy(path: Path, ids: object, dtype: str = "<u2") -> Path:
    """A .npy array of ids."""
    np.save(path, np.array(ids, dtype))
    return path
