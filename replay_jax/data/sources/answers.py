"""Answers that are remembered between calls: small files below "inputs" in the folder of stores."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from replay_jax.data.sources.durable import json_sha256, read_only_allowed, write_durably
from replay_jax.strict import from_plain

_FOLDER, _CHECKSUM = "inputs", "checksum"
Answer = TypeVar("Answer")


def answer_path(store_dir: Path, question: Any) -> Path:
    """The file of the answer to a question, which is anything that JSON can say."""
    text = json.dumps(question, sort_keys=True)
    return store_dir / _FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def relative(files: Sequence[str], store_dir: Path) -> list[str]:
    """Paths as they are kept: from the folder of stores, so that both may move together."""
    base = os.path.realpath(store_dir)
    return [os.path.relpath(file, base) for file in files]


def absolute(files: Sequence[str], store_dir: Path) -> list[str]:
    """Kept paths as they are here."""
    base = os.path.realpath(store_dir)
    return [os.path.normpath(os.path.join(base, file)) for file in files]


def write_answer(path: Path, answer: dict[str, Any]) -> None:
    """Remember an answer where that is allowed."""
    with read_only_allowed():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps({**answer, _CHECKSUM: json_sha256(answer)}))


def read_answer(kind: type[Answer], path: Path) -> Answer | None:
    """An answer that is remembered; one that is damaged is not."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        # Answers of versions before this one have none.
        checksum = stored.pop(_CHECKSUM, None) if isinstance(stored, dict) else None
        if checksum not in (None, json_sha256(stored)):
            return None
        return from_plain(kind, stored, path=path.name)
    except (OSError, ValueError, RecursionError):
        return None
