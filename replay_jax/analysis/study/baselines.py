"""What a cell is compared with."""

from collections.abc import Sequence

from replay_jax.analysis.study.groups import Cell, describe


def baseline_of(cells: Sequence[Cell], index: int) -> tuple[int | None, str]:
    """The tuned cell without replay to compare with: (index or None, why not).

    Same budget; same protocol and axes, except that a constant mixture or free stages, which have
    no baseline of their own, borrow another protocol's. Of several allocations the largest: all
    target data at the end is the usual way.
    """
    own = cells[index].key
    found = [
        i
        for i, cell in enumerate(cells)
        if cell.key.replay_fraction == 0
        and cell.key.protocol != "uniform"
        and cell.key.target_tokens == own.target_tokens
    ]
    same = [
        i for i in found if (cells[i].key.protocol, cells[i].key.axes) == (own.protocol, own.axes)
    ]
    if not same and own.protocol in ("uniform", "stages"):
        same = found
    if not same:
        return None, f"no run without replay to compare with ({describe(own)})"
    return max(same, key=lambda i: cells[i].key.allocation), ""
