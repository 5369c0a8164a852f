"""Measure what `verify` pays for ledgers in pieces: spans of many hosts and saves against one.

    python tools/bench_verify.py [--hosts=16] [--saves=4] [--rounds=5]

Spans are counted as training counts them, of a two-stage run of 256 batches of 1,024 rows with 8.3
million generic rows and 4,096 target rows eight times over; measured is the comparison with what
the plan asks for, in CPU seconds, of one span and of all pieces in turns. Prints each round's
ratio and their median.
"""

import argparse
import statistics
import time

import numpy as np

from replay_jax.data.ledger.compared import check_spans, planned_rows
from replay_jax.data.ledger.counted import RealisedCounter, Span
from replay_jax.data.reading.views import SourceView
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.mixture import step_draws
from replay_jax.schedule.two_stage import two_stage

BATCH, STEPS = 1024, 256
SCHEDULE = two_stage(
    total_steps=STEPS,
    batch_size=BATCH,
    target_sequences=4096,
    target_epochs=8,
    replay_fraction=0.25,
    stage2_allocation=0.5,
    learning_rate=LearningRate(1e-3, "linear", 0.01, 0.1, 0.0),
)
VIEWS = {
    "generic": SourceView("generic", "g", 16, 8_300_000, None, 1, False),
    "target": SourceView("target", "t", 16, 100_000, 4096, 1, True),
}


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hosts", type=int, default=16)
    parser.add_argument("--saves", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    one, many = spans(1, 1), spans(given.hosts, given.saves)
    ratios = []
    for _ in range(given.rounds):
        alone, all_pieces = seconds(one), seconds(many)
        ratios.append(all_pieces / alone)
        print(f"one span {alone:.3f} CPU s, {len(many)} {all_pieces:.3f}: {ratios[-1]:.2f} times")
    print(f"median {statistics.median(ratios):.2f} times")


def spans(hosts: int, saves: int) -> list[Span]:
    """What so many hosts count of the run between so many saves."""
    source, row = planned_rows(
        step_draws(SCHEDULE), SCHEDULE.source_names, VIEWS, start=0, stop=STEPS
    )
    found = []
    for first in range(0, STEPS, STEPS // saves):
        for start in range(0, BATCH, BATCH // hosts):
            rows = slice(start, start + BATCH // hosts)
            counter = RealisedCounter(
                source_names=SCHEDULE.source_names, views=VIEWS, batch_size=BATCH,
                start_step=first, first_sequence=first * BATCH, rows=rows,
            )  # fmt: skip
            for step in range(first, first + STEPS // saves):
                counter.add(
                    step,
                    source=source[step, rows].astype(np.int32),
                    row=row[step, rows],
                    tokens=bytes(16),
                )
            found.append(counter.span())
    return found


def seconds(counted: list[Span]) -> float:
    """CPU seconds of comparing spans with the plan, which they meet."""
    began = time.process_time()
    assert check_spans(counted, SCHEDULE, VIEWS) == []
    return time.process_time() - began


if __name__ == "__main__":
    main()
