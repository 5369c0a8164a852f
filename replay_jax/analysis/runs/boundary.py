"""What happened inside runs: at the stage boundary, and between training and held-out losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True)
class BoundaryResult:
    """The stage boundary, mean over the seeds of the best setting; None = not measured.

    `target_spike` and `generic_spike` are the loss a few updates after the boundary minus that at
    it; `gradient_cosine` is between the generic and the target gradient there. `gap` is the final
    held-out minus training loss on target rows (over-fitting), over as many last steps in all runs.
    """

    step: float | None
    target_spike: float | None
    generic_spike: float | None
    gradient_cosine: float | None
    gap: float | None


def boundary_of(records: Sequence[Record], window: int) -> BoundaryResult:
    """Mean over seeds of what happened at the stage boundary and of the train/held-out gap.

    Training losses are those of the last `window` steps, the same for all that is compared.
    """
    found = [record["boundary"] for record in records if record["boundary"] is not None]
    gaps = []
    for record in records:
        trained = _trained(record, window)
        gaps.append(None if trained is None else record["losses"]["target"] - trained)
    return BoundaryResult(
        step=_mean([boundary["step"] for boundary in found]),
        target_spike=_mean([b["after"]["target"] - b["before"]["target"] for b in found]),
        generic_spike=_mean([b["after"]["generic"] - b["before"]["generic"] for b in found]),
        gradient_cosine=_mean([boundary["gradient_cosine"] for boundary in found]),
        gap=_mean(gaps),
    )


def shared_window(records: Sequence[Record]) -> int:
    """Steps of the longest last window in which any of the records trained on target rows.

    A record has means between evaluations only, so shorter windows are what the others put
    together, and none is cut.
    """
    found = []
    for record in records:
        lengths = [length for length, loss in _windows(record) if loss is not None]
        found += lengths[-1:]
    return max(found, default=0)


def _trained(record: Record, window: int) -> float | None:
    """Mean training loss on target rows over whole windows that reach `window` steps back.

    Where target rows came later than that, all of them are taken; None where there were none.
    """
    steps, total = 0, 0.0
    for length, loss in reversed(_windows(record)):
        if steps >= window or (loss is None and steps):
            break
        if loss is not None:
            steps += length
            total += length * loss
    return total / steps if steps else None


def _windows(record: Record) -> list[tuple[int, float | None]]:
    """(steps, mean training loss on target rows or None) between evaluations, in order."""
    steps = [0, *(point["step"] for point in record["curve"])]
    lengths = [after - before for before, after in zip(steps, steps[1:], strict=False)]
    losses = [point["train_target"] for point in record["curve"]]
    return list(zip(lengths, losses, strict=True))


def _mean(values: Sequence[float | None]) -> float | None:
    present = [float(value) for value in values if value is not None]
    return sum(present) / len(present) if present else None
