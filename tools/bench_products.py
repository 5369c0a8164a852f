"""Time the matrix products of a train step in XLA and in PyTorch, in turn in one process.

    python tools/bench_products.py [--tokens=4096] [--sizes=256x896,896x256,256x256,256x8192]

Of every layer D x F those of the forward pass, of its input's and of its weights' gradient, in
float32 on all cores: which share of the difference between two steps is the library's. Needs
`pip install -e '.[bench]'`.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

_ROUNDS, _WARM = 22, 3


def main() -> None:
    """Print GFLOP/s of both, medians, and the median of the rounds' ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=4096, help="rows of the activations")
    parser.add_argument("--sizes", default="256x896,896x256,256x256,256x8192", help="D x F, ...")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())
    ratios = []
    for size in arguments.sizes.split(","):
        inner, outer = (int(number) for number in size.split("x"))
        flops = 2 * arguments.tokens * inner * outer
        for name, ours, theirs in products(arguments.tokens, inner, outer):
            times = [(seconds(ours), seconds(theirs)) for _ in range(_WARM + _ROUNDS)][_WARM:]
            rates = [flops / statistics.median(each) / 1e9 for each in zip(*times, strict=True)]
            ratios.append(statistics.median(a / b for a, b in times))
            print(
                f"{size:>9} {name:17s} XLA {rates[0]:4.0f}  PyTorch {rates[1]:4.0f} GFLOP/s  "
                f"XLA takes {ratios[-1]:.2f} of the time",
                flush=True,
            )
    print(f"{os.cpu_count()} cores, median of the ratios {statistics.median(ratios):.2f}")


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
