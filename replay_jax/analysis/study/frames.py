"""A study as columns of equal length, which pandas and polars take as they are, and as HTML.

The targets are those of `study.py`, which calls this.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from replay_jax.analysis.study.spent import spent

Columns = dict[str, list[Any]]
# Of a cell, the values with an interval: each has a column, and its ends one each.
_INTERVALS = ("target_loss", "generic_loss", "equivalent_tokens", "multiplier", "gain",
              "generic_cost")  # fmt: skip


def cell_columns(targets: Sequence[Any]) -> Columns:
    """One row for every cell of every target: what it is, its best setting, and its intervals."""
    rows = [_cell(target, cell) for target in targets for cell in target.cells]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row[name] if name in row else None for row in rows] for name in names}


def draw_columns(targets: Sequence[Any]) -> dict[str, np.ndarray]:
    """One row for every resample of every cell; `cell` is the row of `cell_columns`.

    `target_loss` and `generic_loss` are nats per token, the latter nan where it was not measured;
    `equivalent_tokens` are nan without a law.
    """
    blocks: list[dict[str, np.ndarray]] = []
    first = 0
    for target in targets:
        draws = target.draws
        resamples, cells = draws.target.shape
        missing = np.full(draws.target.shape, np.nan)
        worth = missing if draws.log_equivalent is None else np.exp(draws.log_equivalent)
        blocks.append(
            {
                "cell": np.tile(np.arange(first, first + cells), resamples),
                "draw": np.repeat(np.arange(resamples), cells),
                "target_loss": draws.target.ravel(),
                "generic_loss": draws.generic.ravel(),
                "equivalent_tokens": worth.ravel(),
            }
        )
        first += cells
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def html_table(columns: Mapping[str, Sequence[Any]], notes: Sequence[str]) -> str:
    """Columns as an HTML table, numbers to four digits, and a paragraph for each note below."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    rows = zip(*columns.values(), strict=True)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_words(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    below = "".join(f"<p>note: {html.escape(note)}</p>" for note in notes)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def _cell(target: Any, cell: Any) -> dict[str, Any]:
    key = cell.key
    row: dict[str, Any] = {
        "target": target.target,
        "protocol": key.protocol,
        "target_tokens": key.target_tokens,
        "replay_fraction": key.replay_fraction,
        "allocation": key.allocation,
        **dict(key.axes),
        "target_epochs": cell.chosen.target_epochs,
        **dict(cell.chosen.tuned),
        "steps": cell.chosen.steps,
        "flops": cell.chosen.flops,
        "is_reference": cell.is_reference,
        "is_baseline": cell.is_baseline,
    }
    for name in _INTERVALS:
        found = getattr(cell, name)
        for end in ("value", "low", "high"):
            column = name if end == "value" else f"{name}_{end}"
            row[column] = None if found is None else getattr(found, end)
    return row | _extra(target, cell)


def _extra(target: Any, cell: Any) -> dict[str, float | None]:
    """Training beyond the baseline's, and the gain for each of its FLOPs; None: not known."""
    other = None if cell.baseline is None else target.cells[cell.baseline].chosen
    found = None if other is None else spent(cell.chosen, other)
    if found is None or found.unit != "FLOPs":
        return {"extra_flops": None, "gain_per_extra_flop": None}
    paid = found.extra > 0 and cell.gain is not None
    return {
        "extra_flops": found.extra,
        "gain_per_extra_flop": cell.gain.value / found.extra if paid else None,
    }


def _words(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
