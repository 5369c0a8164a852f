"""Time the matrix products of a train step in XLA and in PyTorch, in turn in one process.

    python tools/bench_products.py [--tokens=4096] [--sizes=256x896:16,896x256:8,...]

Of every layer D x F, so often in the model, those of the forward pass, of its input's and of its
weights' gradient, in float32 on all cores and with the allocator settings of our workers: which
share of the difference between two steps (bench_peers.py, whose shape is the default here) is the
library's. Needs `pip install -e '.[bench]'`.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

from replay_jax.sweep.executors.local.settings import CPU_ALLOCATOR

_ROUNDS, _WARM = 22, 3


def main() -> None:
    """Print GFLOP/s of both, medians, and the median of the rounds' ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=4096, help="rows of the activations")
    parser.add_argument(
        "--sizes", default="256x896:16,896x256:8,256x256:32,256x8192:1", help="D x F : layers, ..."
    )
    arguments = parser.parse_args()
    if not CPU_ALLOCATOR.items() <= os.environ.items():  # the C library reads them at its start
        cores = {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(os.cpu_count())}
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, **CPU_ALLOCATOR, **cores}
        )
    ratios, spent = [], [0.0, 0.0]
    for part in arguments.sizes.split(","):
        size, layers = part.split(":")
        inner, outer = (int(number) for number in size.split("x"))
        flops = 2 * arguments.tokens * inner * outer
        for name, ours, theirs in products(arguments.tokens, inner, outer):
            times = [(seconds(ours), seconds(theirs)) for _ in range(_WARM + _ROUNDS)][_WARM:]
            rates = [flops / statistics.median(each) / 1e9 for each in zip(*times, strict=True)]
            spent = [
                total + int(layers) * statistics.median(each)
                for total, each in zip(spent, zip(*times, strict=True), strict=True)
            ]
            ratios.append(statistics.median(a / b for a, b in times))
            print(
                f"{size:>9} {name:17s} XLA {rates[0]:4.0f}  PyTorch {rates[1]:4.0f} GFLOP/s  "
                f"XLA takes {ratios[-1]:.2f} of the time",
                flush=True,
            )
    print(
        f"all of them in one step: XLA {spent[0]:.2f} s, PyTorch {spent[1]:.2f} s; median of the "
        f"ratios {statistics.median(ratios):.2f}; {os.cpu_count()} cores"
    )


def products(
    tokens: int, inner: int, outer: int
) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """The three products of a layer, in XLA and in PyTorch, operands as both have them."""
    import jax
    import numpy as np
    import torch

    draw = np.random.default_rng(0).standard_normal
    x, w, dy = (
        draw(shape, np.float32) for shape in ((tokens, inner), (inner, outer), (tokens, outer))
    )

    def pair(
        name: str, left: np.ndarray, right: np.ndarray, transposed: tuple[bool, bool]
    ) -> tuple[str, Callable[[], object], Callable[[], object]]:
        def product(a, b):  # type: ignore[no-untyped-def]
            return (a.T if transposed[0] else a) @ (b.T if transposed[1] else b)

        ours, arrays = jax.jit(product), (jax.device_put(left), jax.device_put(right))
        tensors = (torch.from_numpy(left), torch.from_numpy(right))
        return name, lambda: ours(*arrays).block_until_ready(), lambda: product(*tensors)

    return [
        pair("forward", x, w, (False, False)),
        pair("input gradient", dy, w, (False, True)),
        pair("weight gradient", x, dy, (True, False)),
    ]


def seconds(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
