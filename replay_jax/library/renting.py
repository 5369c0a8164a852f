"""What a sweep takes on rented chips: chip hours, time, money and memory."""

import math
from dataclasses import dataclass

from replay_jax.compile.chips import chip_of
from replay_jax.errors import UserError
from replay_jax.sweep.plan.plan import Plan

# Share of a chip's dense peak that training is taken to reach where nothing is said.
USUAL_UTILISATION = 0.4


@dataclass(frozen=True)
class Rental:
    """A sweep on a named slice or machine.

    Attributes:
        topology: its name; chips: how many it has.
        utilisation: share of the chips' dense bfloat16 peak that is assumed.
        flops: of training and of held-out losses, what is left to do.
        hours: by the clock, if edges train one after another on all chips.
        price: of a chip for an hour, in any currency; None where none was given.
        chip_bytes: of parameters, gradients and moments, split over all chips; of the largest run.
        memory_bytes: that a program may take of each chip.
    """

    topology: str
    chips: int
    utilisation: float
    flops: float
    hours: float
    price: float | None
    chip_bytes: int
    memory_bytes: int

    @property
    def holds_state(self) -> bool:
        """Whether what is trained fits, before any activations."""
        return self.chip_bytes <= self.memory_bytes

    @property
    def chip_hours(self) -> float:
        """Chips times hours."""
        return self.chips * self.hours

    @property
    def money(self) -> float | None:
        """What it costs, in the currency of the price."""
        return None if self.price is None else self.price * self.chip_hours

    def to_json(self) -> dict[str, float | int | str | bool | None]:
        """JSON object of `plan --topology --json`."""
        return {
            "topology": self.topology,
            "chips": self.chips,
            "utilisation": self.utilisation,
            "chip_hours": self.chip_hours,
            "hours": self.hours,
            "money": self.money,
            "chip_bytes": self.chip_bytes,
            "memory_bytes": self.memory_bytes,
            "holds_state": self.holds_state,
        }


def fitting(found: Rental) -> str:
    """Memory in one line: a floor, as only compiling knows what activations take."""
    need, have = (f"{size / 2**30:,.1f}" for size in (found.chip_bytes, found.memory_bytes))
    fact = f"parameters, gradients and moments take {need} GiB of {have} on each chip"
    if found.holds_state:
        return f"{fact}; `replay-jax compile` says whether activations fit beside them"
    return f"DOES NOT FIT: {fact}; take more chips, model.lora or moments_dtype bfloat16"


def rental(plan: Plan, topology: str, *, utilisation: float, price: float | None) -> Rental:
    """What is left of a plan on a slice or machine such as "v5e:4x4" or "h100:8".

    Raises:
        UserError: an unknown topology, a utilisation outside 0 to 1, or a negative price.
    """
    if not 0 < utilisation <= 1:
        raise UserError(f"--mfu is {utilisation:g}: a share of the peak lies between 0 and 1")
    if price is not None and price < 0:
        raise UserError(f"--price is {price:g}: give what a chip costs for an hour, 0 or more")
    chip, extent = chip_of(topology)
    chips = math.prod(extent)
    totals = plan.to_json()["totals"]
    flops = float(totals["flops_remaining"]) + float(totals["evaluation_flops_remaining"])
    hours = flops / (chips * chip.peak_flops * utilisation) / 3600
    each = -(-plan.training_bytes // chips)
    return Rental(topology, chips, utilisation, flops, hours, price, each, chip.hbm_bytes)
