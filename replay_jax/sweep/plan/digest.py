"""The chain of state digests of one run: equal digests mean bit-identical training states.

The state after k steps is a pure function of the initial state and, for every step below k, of the
batch (rows in order, loss weights), the learning rate, the optimizer's hyperparameters, whether
the optimizer is reset, and whether the average of the parameters takes in what it leads to. So

    chain[0] = H(model configuration, seed or pre-trained weights)
    chain[k + 1] = H(chain[k], H(course of step k), H(constants, keys of the sources in step k))

and two runs share their first k steps exactly when their chains agree at k. The rows of a step are
named by what determines them: for each source that has rows in the step, its view's digest and its
first draw, and the pattern in which the sources alternate within the batch, which is as long as
that. Sources are numbered
within the step by their keys, so neither the order nor the mere presence of sources that a step
does not draw from can separate two runs. Evaluation points, checkpoints, meshes and thread counts
are not part of it.

The course of a step (rates, first draws, pattern) comes from the schedule alone, so all runs of one
schedule compute it once, and blocks of steps that runs share are hashed once.
"""

import hashlib
import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.schedule.mixture import StepDraws

DIGEST_BYTES = 16
# Told of a step whose parameters are averaged; since when they are, the chain says.
_AVERAGED = b"averaged"
_BLOCK_BYTES = 2 * DIGEST_BYTES * 32  # what 32 steps see


def canonical_digest(value: Any) -> bytes:
    """Digest of plain nested values, independent of the order of keys.

    Args:
        value: dicts, lists, strings, numbers, booleans and None.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _digest(text.encode())


def source_key(*, name: str, view_digest: bytes, loss_weight: float, held: bool = False) -> bytes:
    """Digest of one source as a train step sees it: its rows by draw, and what their labels cost.

    The name counts only because ledgers count by name. Rows that are `held` to the model that
    training starts from cost their KL to it; which model that is, the initial state says.
    """
    weight = np.float32(loss_weight).tobytes()
    return _digest(view_digest + weight + name.encode() + (b"\0kl" if held else b""))


@dataclass(frozen=True, eq=False)
class Course:
    """What a schedule makes every step see, whatever its sources are.

    Attributes:
        digests: of learning rate, reset, first draws and pattern, uint8 [steps, DIGEST_BYTES].
        group: for every step which of `present` it is, [steps].
        present: sets of sources that steps draw from, each in the order of the sources' keys.
    """

    digests: np.ndarray
    group: np.ndarray
    present: tuple[tuple[int, ...], ...]


def key_order(keys: Sequence[bytes]) -> tuple[int, ...]:
    """The numbers of the sources in the order of their keys."""
    return tuple(sorted(range(len(keys)), key=lambda number: keys[number]))


def course_of(
    draws: StepDraws,
    *,
    order: tuple[int, ...],
    learning_rates: np.ndarray,
    resets: np.ndarray,
    average_start: int,
) -> Course:
    """The course of a run.

    Args:
        draws: what every step draws, `mixture.step_draws`.
        order: `key_order` of the sources' keys.
        learning_rates: float32 [steps].
        resets: whether the optimizer is reset before the step, bool [steps].
        average_start: steps before those whose parameters are averaged; [steps] where none are.
    """
    masks, group = np.unique(draws.count > 0, axis=0, return_inverse=True)
    group = group.reshape(-1)
    digests = np.empty((len(group), DIGEST_BYTES), np.uint8)
    present = []
    for number, mask in enumerate(masks):
        inside = tuple(source for source in order if mask[source])
        slots = np.zeros(256, np.uint8)
        slots[list(inside)] = np.arange(len(inside))
        for start, stop in draws.steps.blocks():
            which = start + np.flatnonzero(group[start:stop] == number)
            columns = (
                np.ascontiguousarray(learning_rates[which, None], "<f4").view(np.uint8),
                resets[which, None].astype(np.uint8),
                np.full((len(which), 1), len(inside), np.uint8),
                np.ascontiguousarray(draws.first[which][:, inside], "<i8").view(np.uint8),
                slots[draws.patterns(start, stop)[which - start]],
            )
            for step, content in zip(which, np.concatenate(columns, axis=1), strict=True):
                told = content.tobytes() + (_AVERAGED if step >= average_start else b"")
                digests[step] = np.frombuffer(_digest(told), np.uint8)
        present.append(inside)
    return Course(digests, group, tuple(present))


def state_chain(
    *,
    initial: bytes,
    constant: bytes,
    course: Course,
    keys: Sequence[bytes],
    known: MutableMapping[bytes, bytes],
) -> np.ndarray:
    """Digests of the states after 0, 1, …, steps steps, uint8 [steps + 1, DIGEST_BYTES].

    Args:
        initial: digest of what determines the initial state, `describe_start`.
        constant: digest of what every step sees alike (optimizer hyperparameters, accumulation,
            document mask, dropout with its seed).
        course: of the run, in the order of these keys.
        keys: `source_key` of every source number.
        known: blocks of states that were computed before, by the state before them and what their
            steps see; new ones are added.
    """
    sets = [_digest(constant + b"".join(keys[n] for n in inside)) for inside in course.present]
    sources = np.frombuffer(b"".join(sets), np.uint8).reshape(-1, DIGEST_BYTES)[course.group]
    seen = np.concatenate([course.digests, sources], axis=1).tobytes()
    digest = _digest(initial)
    blocks = [digest]
    for first in range(0, len(seen), _BLOCK_BYTES):
        key = digest + seen[first : first + _BLOCK_BYTES]
        if key not in known:
            known[key] = _states(digest, key[DIGEST_BYTES:])
        blocks.append(known[key])
        digest = known[key][-DIGEST_BYTES:]
    return np.frombuffer(b"".join(blocks), np.uint8).reshape(-1, DIGEST_BYTES)


def _states(digest: bytes, seen: bytes) -> bytes:
    """Digests after every step of a block, joined."""
    states = []
    for first in range(0, len(seen), 2 * DIGEST_BYTES):
        digest = _digest(digest + seen[first : first + 2 * DIGEST_BYTES])
        states.append(digest)
    return b"".join(states)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def describe_start(
    *,
    model: Mapping[str, Any],
    numerics: int,
    seed: int,
    weights: str | None,
    draws_adapters: bool,
) -> bytes:
    """Digest of what determines the initial state: the seed, or the fingerprint of weights.

    Beside weights the seed counts only where adapters are drawn from it.

    The whole model configuration counts, also what only changes the rounding (remat, chunks), so
    that shared and solo runs agree to the last bit.
    """
    start: dict[str, Any] = {} if weights is None else {"weights": weights}
    if weights is None or draws_adapters:
        start["seed"] = seed
    return canonical_digest({"model": dict(model), "numerics": numerics, **start})
