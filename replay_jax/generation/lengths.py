"""Lengths that programs are compiled for: a few, so that texts of any length share them."""

from collections.abc import Callable, Sequence
from itertools import groupby

Lengths = tuple[int, ...]

# Above which number of FLOPs, on one device, a program of its own is worth being compiled: some
# seconds, and what is computed in them.
_WORTH_COMPILING = {"cpu": 2e11, "gpu": 2e14, "tpu": 2e14}


def compiled_length(length: int) -> int:
    """The least of 0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, ... that is not below `length`.

    From 16 on, a third of what is computed is padding at most.
    """
    if length <= 1:
        return length
    power = 1 << (length - 1).bit_length()
    return power * 3 // 4 if power > 16 and length <= power * 3 // 4 else power


def shared_lengths(
    own: Sequence[Lengths], flops: Callable[[Lengths], float], *, platform: str, devices: int
) -> list[Lengths]:
    """Of every batch the lengths of its program: its own, or greater ones that others have.

    Batches that follow each other share a program where its padding costs less than another
    program; of all ways to cut their order, the cheapest.

    Args:
        own: of each batch, the least that hold it, in the order in which they are computed.
        flops: of one batch of such lengths.
        platform: of the devices ("cpu", "gpu", "cuda", "tpu").
        devices: how many compute a batch together.
    """
    groups = [(lengths, len(list(same))) for lengths, same in groupby(own)]
    worth = devices * _WORTH_COMPILING["gpu" if platform == "cuda" else platform]
    # The least cost of the first groups, and where the last of their programs begins.
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(groups) + 1):
        choices, widest, batches = [], groups[end - 1][0], 0
        for start in reversed(range(end)):
            lengths, count = groups[start]
            widest, batches = _widest(widest, lengths), batches + count
            choices.append((best[start][0] + worth + batches * flops(widest), start))
        best.append(min(choices))
    found: list[Lengths] = []
    end = len(groups)
    while end:
        start = best[end][1]
        widest = groups[start][0]
        for lengths, _ in groups[start:end]:
            widest = _widest(widest, lengths)
        found = [widest] * sum(count for _, count in groups[start:end]) + found
        end = start
    return found


def _widest(one: Lengths, other: Lengths) -> Lengths:
    return tuple(map(max, one, other))
