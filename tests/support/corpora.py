"""Small corpora as JSON lines, and what a store holds of them."""

import json
import random
from pathlib import Path

from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.store import TokenStore

BYTES = TokenizerConfig("bytes")
HELD_OUT = 0.2


def prose(seed: int, words: int = 60) -> str:
    rng = random.Random(seed)
    coined = ["".join(rng.choices(("ba", "le", "mi", "tor", "größ"), k=3)) for _ in range(30)]
    return f"{seed} " + " ".join(rng.choices(coined, k=words))


def write_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def sources(folder: Path, generic: list[str], target: list[str], **changes: object) -> dict:
    """Two json-lines sources on disk and the rest of a DataConfig around them."""
    values: dict = {"validation_fraction": HELD_OUT, **changes}
    paths = {
        "generic": write_lines(folder / "generic.jsonl", generic),
        "target": write_lines(folder / "target.jsonl", target),
    }
    return {
        "sources": tuple((n, SourceConfig("jsonl", str(p), **values)) for n, p in paths.items()),
        "store_dir": str(folder / "stores"),
        "generic": "generic",
        "target": "target",
    }


def texts_of(store: TokenStore, split: str) -> list[str]:
    starts = [0, *store.documents(split).tolist()]
    tokens = store.tokens(split)
    return [
        store.tokenizer.decode(tokens[start : end - 1].tolist())
        for start, end in zip(starts[:-1], starts[1:], strict=True)
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
