"""Permutations of any number of rows that are computed place by place, without a table.

A row number is written as left * B + right with left < A, right < B and A * B the least such
product of about equal factors that is not below the number of rows. A generalised Feistel network
(J. Black and P. Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002) adds to either half,
modulo its factor, a hash of the other half and a round key; each such round can be undone, so all
of them are a permutation of A * B numbers. A result that is no row is enciphered again until it is
one, which keeps a permutation and concerns at most one number in the square root of the rows.

Own code on purpose: budgets, epochs and therefore every result depend on it, so it must be the same
on every platform and in every version of every library (64-bit unsigned integers alone), and mix so
well that a budget is a random sample (`tests/schedule/test_permutation.py`).
"""

import functools
import hashlib
import math

import numpy as np

# Raise it with every change that draws other rows: it is part of every run's identity.
ORDER = 2

# With these hashes counts vary as those of random samples do from four rounds on (with three, 1.4
# times as much at 2^24 rows); six, an even number, leave a margin.
_ROUNDS = 6
# A small network is not random: with halves of 2 values few permutations can be reached. Up to this
# size the order of as many random words is used, which gives every permutation alike (32 KiB).
_TABLE_ROWS = 4096
_BLOCK = 8192  # numbers enciphered at once: what is in use fits a core's own cache

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 over the golden ratio
_ODD = np.uint64(0xD6E8FEB86659FD93)  # odd, of the 64-bit mixer by degski
_HALF = np.uint64(32)


def permuted(indices: np.ndarray, size: int, key: bytes) -> np.ndarray:
    """Returns int64, shaped as `indices`: the rows at these places of a permutation of `size` rows.

    Args:
        indices: places in the permutation, integers in [0, size).
        size: rows, below 2^62.
        key: up to 64 bytes that name the permutation; those of two keys are unrelated.

    Raises ValueError for a place outside the permutation, or a size that it cannot have.
    """
    if not 1 <= size < 1 << 62:
        raise ValueError(f"a permutation has 1 to 2^62 - 1 rows, not {size}")
    places = np.asarray(indices, np.int64)
    if places.size and not 0 <= places.min() <= places.max() < size:
        raise ValueError(
            f"places {places.min()} to {places.max()} are not all of a permutation of {size} rows"
        )
    if size <= _TABLE_ROWS:
        return _table(key, size)[places]
    rows = np.empty(places.size, np.uint64)
    numbers = places.reshape(-1).view(np.uint64)
    cipher = _Cipher(key, size, min(places.size, _BLOCK))
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        cipher.encipher(numbers[part], out=rows[part])
    return rows.view(np.int64).reshape(places.shape)


class _Cipher:
    """The permutation of a key and a number of rows, with room for `block` numbers at a time."""

    def __init__(self, key: bytes, size: int, block: int) -> None:
        left = math.isqrt(size - 1) + 1
        self._size = np.uint64(size)
        self._factors = np.uint64(left), np.uint64(-(-size // left))
        self._keys = _words(key, _ROUNDS)
        self._room = np.empty((3, block), np.uint64)

    def encipher(self, numbers: np.ndarray, *, out: np.ndarray) -> None:
        """Write the rows at places `numbers` to `out`, both uint64 [numbers]."""
        self._once(numbers, out)
        while (outside := np.flatnonzero(out >= self._size)).size:
            again = np.empty(len(outside), np.uint64)
            self._once(out[outside], again)
            out[outside] = again

    def _once(self, numbers: np.ndarray, out: np.ndarray) -> None:
        """All rounds: `out` is a permutation of all products' numbers, not only of the rows."""
        changed, fixed = self._factors
        other, added, mixed = self._room[:, : len(numbers)]
        np.floor_divide(numbers, fixed, out=out)
        np.subtract(numbers, np.multiply(out, fixed, out=mixed), out=other)
        one, two = out, other
        for key in self._keys:
            # added = high half of (hash of 32 bits) * factor: as good as random below the factor.
            np.multiply(np.add(two, key, out=added), _GOLDEN, out=added)
            np.bitwise_xor(added, np.right_shift(added, _HALF, out=mixed), out=added)
            np.right_shift(np.multiply(added, _ODD, out=added), _HALF, out=added)
            np.right_shift(np.multiply(added, changed, out=added), _HALF, out=added)
            np.add(one, added, out=one)
            # One factor less where that is no negative number, which would wrap to a large one.
            np.minimum(one, np.subtract(one, changed, out=added), out=one)
            one, two, changed, fixed = two, one, fixed, changed
        # After an even number of rounds `one` is `out` again, and holds what counts `fixed`.
        np.add(np.multiply(out, fixed, out=out), other, out=out)


@functools.lru_cache(maxsize=64)
def _words(key: bytes, count: int) -> tuple[np.uint64, ...]:
    """Up to 8 round keys."""
    digest = hashlib.blake2b(key, digest_size=64).digest()
    return tuple(np.frombuffer(digest, "<u8").astype(np.uint64)[:count])


@functools.lru_cache(maxsize=256)
def _table(key: bytes, size: int) -> np.ndarray:
    """A whole permutation: the order of as many words of SplitMix64, started from the key.

    (G. Steele, D. Lea and C. Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.)
    """
    (seed,) = _words(key, 1)
    words = seed + _GOLDEN * np.arange(1, size + 1, dtype=np.uint64)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    table = np.argsort(words ^ (words >> np.uint64(31)), kind="stable").astype(np.int64)
    table.flags.writeable = False
    return table
