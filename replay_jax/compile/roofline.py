"""An estimate of the time that a compiled step takes on a chip, and what it spends it on.

Each instruction takes at least as long as its FLOPs at the chip's peak, and at least as long as
its HBM bytes at the chip's bandwidth; instructions run one after another. Transfers that XLA runs
beside them (copies to on-chip memory, started collectives) can hide behind them, others cannot.
Latency, vector units and imperfect kernels are not in it: a real step takes longer.
"""

import dataclasses
from collections.abc import Callable

from replay_jax.compile.hlo.costs import OpCost, ProgramCost


@dataclasses.dataclass(frozen=True)
class Speeds:
    """What the estimate divides by; `wire` gives bytes/s for a group of devices (by position)."""

    flops: float
    hbm: float
    wire: Callable[[tuple[int, ...]], float]


@dataclasses.dataclass(frozen=True)
class Share:
    """A part of the step: what it is, the seconds it takes at best, and what holds it up."""

    name: str
    seconds: float
    limit: str


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of one step on one device, in parts.

    `matrix` and `memory` are the instructions limited by FLOPs and by HBM, `exposed_wire` the
    collectives that nothing hides, `hidden` the time of transfers beside compute (copies and
    started collectives), of which only what exceeds the rest counts in `total`.
    """

    matrix: float
    memory: float
    exposed_wire: float
    hidden: float
    shares: tuple[Share, ...]

    @property
    def total(self) -> float:
        """The estimate: seconds per step."""
        return max(self.matrix + self.memory + self.exposed_wire, self.hidden)

    @property
    def parts(self) -> dict[str, float]:
        """The seconds of `total` by what they are spent on."""
        shown = self.matrix + self.memory + self.exposed_wire
        return {
            "matrix units": self.matrix,
            "HBM bandwidth": self.memory,
            "interconnect": self.exposed_wire,
            "transfers beside compute": self.total - shown,
        }

    @property
    def limit(self) -> str:
        """What the step spends most of its time on."""
        return max(self.parts, key=lambda name: self.parts[name])


def roofline(cost: ProgramCost, speeds: Speeds) -> Roofline:
    """Estimate the time of a program's cost at the given speeds."""
    matrix = memory = exposed = hidden_hbm = hidden_wire = 0.0
    shares = []
    for op in cost.ops:
        compute, traffic, shown, beside = _seconds(op, speeds)
        hidden_wire += beside
        if op.beside_compute:
            hidden_hbm += traffic
            continue
        if compute >= traffic:
            matrix += compute
        else:
            memory += traffic
        exposed += shown
        limit = (
            "wire" if shown > max(compute, traffic) else "flops" if compute >= traffic else "hbm"
        )
        shares.append(Share(op.op_name or op.name, max(compute, traffic) + shown, limit))
    shares.sort(key=lambda share: -share.seconds)
    return Roofline(matrix, memory, exposed, max(hidden_hbm, hidden_wire), tuple(shares))


def _seconds(op: OpCost, speeds: Speeds) -> tuple[float, float, float, float]:
    """Seconds of all executions: matrix units, HBM, wire that waits, wire that does not."""
    shown = beside = 0.0
    for collective in op.collectives:
        seconds = op.times * collective.wire_bytes / speeds.wire(collective.group)
        if collective.asynchronous:
            beside += seconds
        else:
            shown += seconds
    compute = op.times * op.flops * op.passes / speeds.flops
    return compute, op.times * op.hbm_bytes / speeds.hbm, shown, beside
