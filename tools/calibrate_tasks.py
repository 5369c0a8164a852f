"""Do 90 % intervals on the change of a task's accuracy cover the truth 90 % of the time?

    python tools/calibrate_tasks.py --studies=2000

Simulates paired answers: every item has its own difficulty, every trained seed its own luck, and
there is no true change. Prints one JSON line per number of seeds and noise: how often the interval
holds zero, beside a bootstrap that resamples seeds and items with replacement, and one that
resamples items alone, as is common.
"""

import argparse
import json

import numpy as np

from replay_jax.analysis.statistics.bootstrap import interval
from replay_jax.analysis.study.task_scores import two_way_interval

LEVEL = 0.9
RESAMPLES = 400


def answers(random: np.random.Generator, seeds: int, items: int, luck: float) -> np.ndarray:
    """Changes of right and wrong answers, -1, 0 or 1: [seeds, items]."""
    difficulty = random.beta(2, 2, items)
    right = [
        random.random((seeds, items)) < difficulty + random.normal(0, luck, (seeds, 1))
        for _ in range(2)
    ]
    return right[1].astype(float) - right[0]


def bootstrap(random: np.random.Generator, values: np.ndarray, *, over_seeds: bool) -> tuple:
    """Bounds from resampled items, and seeds if asked for."""
    seeds, items = values.shape
    of_items = random.multinomial(items, np.full(items, 1 / items), RESAMPLES) / items
    of_seeds = np.full((RESAMPLES, seeds), 1 / seeds)
    if over_seeds:
        of_seeds = random.multinomial(seeds, of_seeds[0], RESAMPLES) / seeds
    means = np.einsum("rs,si,ri->r", of_seeds, values, of_items, optimize=True)
    return interval(means, level=LEVEL)


def coverage(studies: int, seeds: int, items: int, luck: float) -> dict[str, float]:
    """Share of studies whose interval holds zero, by method."""
    random = np.random.default_rng([studies, seeds, items, int(1e4 * luck)])
    hits = {"ours": 0, "bootstrap of seeds and items": 0, "bootstrap of items": 0}
    for _ in range(studies):
        values = answers(random, seeds, items, luck)
        ours = two_way_interval(values, level=LEVEL)
        bounds = {
            "ours": (ours.low, ours.high),
            "bootstrap of seeds and items": bootstrap(random, values, over_seeds=True),
            "bootstrap of items": bootstrap(random, values, over_seeds=False),
        }
        for name, (low, high) in bounds.items():
            hits[name] += low <= 0 <= high
    return {name: round(number / studies, 3) for name, number in hits.items()}


def main() -> None:
    """Print the coverage of every scenario."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--items", type=int, default=500)
    arguments = parser.parse_args()
    for seeds in (1, 2, 3, 5):
        for luck in (0.0, 0.01, 0.03):
            found = coverage(arguments.studies, seeds, arguments.items, luck)
            print(json.dumps({"seeds": seeds, "luck of a seed": luck, **found}), flush=True)


if __name__ == "__main__":
    main()
