"""The chain of state digests of one run: equal digests mean bit-identical training states.

The state after k steps is a pure function of the initial state and, for every step below k, of the
batch (rows in order, loss weights), the learning rate, the optimizer's hyperparameters and whether
the optimizer is reset. So

    chain[0] = H(model configuration, seed or pre-trained weights)
    chain[k + 1] = H(chain[k], everything that step k sees)

and two runs share their first k steps exactly when their chains agree at k. The rows of a step are
named by what determines them: for each source that has rows in the step, its view's digest and its
first draw, and the pattern in which the sources alternate within the batch. Sources are numbered
within the step by their keys, so neither the order nor the mere presence of sources that a step
does not draw from can separate two runs. Evaluation points, checkpoints, meshes and thread counts
are not part of it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from replay_jax.schedule.mixture import StepDraws

DIGEST_BYTES = 16


def canonical_digest(value: Any) -> bytes:
    """Digest of plain nested values, independent of the order of keys.

    Args:
        value: dicts, lists, strings, numbers, booleans and None.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def source_key(*, name: str, view_digest: bytes, loss_weight: float) -> bytes:
    """Digest of one source as a train step sees it: its rows by draw, and their loss weight.

    The name counts only because ledgers count by name.
    """
    weight = np.float32(loss_weight).tobytes()
    content = view_digest + weight + name.encode()
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def state_chain(
    *,
    initial: bytes,
    constant: bytes,
    draws: StepDraws,
    keys: Sequence[bytes],
    learning_rates: np.ndarray,
    resets: np.ndarray,
) -> np.ndarray:
    """Digests of the states after 0, 1, …, steps steps, uint8 [steps + 1, DIGEST_BYTES].

    Args:
        initial: digest of what determines the initial state, `describe_start`.
        constant: digest of what every step sees alike (optimizer hyperparameters, accumulation,
            document mask).
        draws: what every step draws, `mixture.step_draws`.
        keys: `source_key` of every source number.
        learning_rates: float32 [steps].
        resets: whether the optimizer is reset before the step, bool [steps].
    """
    steps = len(learning_rates)
    present, named, numbering = _sources_of_steps(draws, keys)
    head = np.concatenate(
        [
            learning_rates.astype("<f4").view(np.uint8).reshape(steps, 4),
            resets.astype(np.uint8).reshape(steps, 1),
            present.astype(np.uint8).reshape(steps, 1),
        ],
        axis=1,
    )
    chain = np.empty((steps + 1, DIGEST_BYTES), np.uint8)
    digest = hashlib.blake2b(initial, digest_size=DIGEST_BYTES).digest()
    chain[0] = np.frombuffer(digest, np.uint8)
    for step in range(steps):
        content = b"".join(
            (
                digest,
                constant,
                head[step].tobytes(),
                named[step, : present[step]].tobytes(),
                draws.pattern[step].tobytes().translate(numbering[step]),
            )
        )
        digest = hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
        chain[step + 1] = np.frombuffer(digest, np.uint8)
    return chain


def _sources_of_steps(
    draws: StepDraws, keys: Sequence[bytes]
) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Which sources every step draws from, and from which draw on.

    Returns:
        number of sources with rows in the step, [steps]; their keys and first draws in the order of
        the keys, uint8 [steps, sources, DIGEST_BYTES + 8], the rest zero; for every step the table
        (256 bytes) from source numbers to places in that order.
    """
    steps = len(draws.pattern)
    present = draws.count > 0
    named = np.zeros((steps, len(keys), DIGEST_BYTES + 8), np.uint8)
    numbering = [b""] * steps
    order = sorted(range(len(keys)), key=lambda number: keys[number])
    # Steps fall into few groups by which sources they draw from; each group has one numbering.
    for mask in np.unique(present, axis=0):
        which = np.flatnonzero((present == mask).all(axis=1))
        table = np.zeros(256, np.uint8)
        for slot, number in enumerate(n for n in order if mask[n]):
            table[number] = slot
            named[which, slot, :DIGEST_BYTES] = np.frombuffer(keys[number], np.uint8)
            first = np.ascontiguousarray(draws.first[which, number], "<i8")
            named[which, slot, DIGEST_BYTES:] = first.view(np.uint8).reshape(-1, 8)
        translation = table.tobytes()
        for step in which.tolist():
            numbering[step] = translation
    return present.sum(axis=1), named, numbering


def describe_start(
    *, model: Mapping[str, Any], numerics: int, seed: int, weights: str | None
) -> bytes:
    """Digest of what determines the initial state: the seed, or the fingerprint of weights.

    The whole model configuration counts, also what only changes the rounding (remat, chunks), so
    that shared and solo runs agree to the last bit.
    """
    start = {"seed": seed} if weights is None else {"weights": weights}
    return canonical_digest({"model": dict(model), "numerics": numerics, **start})
