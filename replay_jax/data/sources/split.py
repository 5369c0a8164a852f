"""Which documents are held out: decided by their content, before anything is tokenized."""

import hashlib

# Part of every store's identity: another key would move documents between the splits.
_KEY = b"replay_jax validation split 1"


def document_hash(data: bytes) -> int:
    """Keyed 64-bit hash of a document's UTF-8 bytes: equal texts always share a side."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=_KEY).digest(), "little")


def in_validation(hashed: int, fraction: float) -> bool:
    """Whether a document of this hash is held out at this fraction.

    Nested: what is held out at a small fraction is held out at every larger one, and the
    answer is the same in every source, so two sources with equal fractions cannot leak into
    each other's held-out sets through exact copies.
    """
    return hashed < int(fraction * 2**64)
