"""What a hierarchical fit knows of a study: its losses, and what settings have in common.

Shape legend: K settings, S seeds, L labels of a kind.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from replay_jax.analysis.study.study import CellResult, TargetStudy, replays


@dataclass(frozen=True)
class Design:
    """Losses [K, S] of one target in nats (nan where there is no run), and what settings share.

    `log_tokens` [K] is ln of the budget about the mean. `of_settings`: what a setting shares with
    others, each name to a label [K] (-1: nothing). `of_seeds`: which settings share the luck of
    their seed, likewise. `rows[cell]` are the settings of a cell, `reference` its cells on the
    reference curve.
    """

    losses: np.ndarray
    log_tokens: np.ndarray
    of_settings: dict[str, np.ndarray]
    of_seeds: dict[str, np.ndarray]
    rows: tuple[np.ndarray, ...]
    reference: tuple[int, ...]


def design_of(found: TargetStudy) -> Design:
    """The runs of a study, and what their losses are thought to share.

    Settings of one cell but for the budget share a schedule (the reference's is the curve itself,
    so it has none); those of one tuned value share its effect; each also has one of its own, which
    takes what is left: how schedules differ between budgets. Whatever settings share of a seed's
    luck (a budget, replay) they may share for good: else luck alone could explain it.
    """
    cells = found.cells
    kinds = [(cell, setting) for cell in cells for setting in cell.settings]
    ends = np.cumsum([0, *(len(cell.settings) for cell in cells)])
    tokens = np.log([float(cell.key.target_tokens) for cell, _ in kinds])
    budget = _labels(cell.key.target_tokens for cell, _ in kinds)
    kind = _labels((cell.key.protocol, replays(cell)) for cell, _ in kinds)
    return Design(
        losses=np.array([setting.target_by_seed for _, setting in kinds]),
        log_tokens=tokens - tokens.mean(),
        of_settings={
            "budget": budget,
            "replay": kind,
            "schedule": _labels(_schedule(cell) for cell, _ in kinds),
            "tuning": _labels(setting.tuned or None for _, setting in kinds),
            "setting": np.arange(len(kinds)),
        },
        of_seeds={
            "seed": np.zeros(len(kinds), int),
            "seed x budget": budget,
            "seed x replay": kind,
            "noise": np.arange(len(kinds)),
        },
        rows=tuple(np.arange(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)),
        reference=tuple(i for i, cell in enumerate(cells) if cell.is_reference),
    )


def _schedule(cell: CellResult) -> Hashable | None:
    key = cell.key
    if cell.is_reference:
        return None
    return key.protocol, key.replay_fraction, key.allocation, key.axes


def _labels(values: Iterable[Hashable | None]) -> np.ndarray:
    """Number of each value in the order of its first coming; -1 for None."""
    seen: dict[Hashable, int] = {}
    return np.array([-1 if v is None else seen.setdefault(v, len(seen)) for v in values])
