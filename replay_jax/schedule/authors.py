"""The authors' arithmetic: blocks of 2,048 sequences, in each so many target rows, rounded down.

Their library deals the mixture out in blocks, of which the target gets floor(share x 2048) rows and
the generic data the rest, and lets weights change between blocks only, so the transition is rounded
down to one (`data_schedule` and `joint_ptft` of the code to arXiv 2603.04964). What is realised is
thus not what was asked for: over the paper's main grid 31.6 to 33.0 epochs in place of 32, and a
share below 1/2048 draws nothing. Two more differences: finite data is repeated in one and the same
order (`SourceView.same_order`), and the order within a block is random there where ours is even.
"""

from dataclasses import dataclass

from replay_jax.errors import UserError
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.stages import Schedule, Stage

BLOCK = 2048  # sequences


@dataclass(frozen=True)
class Blocks:
    """Sizes as the authors compute them, in floating point as they do.

    Attributes:
        steps: updates of the whole run.
        before: updates before stage 2.
        share1: target share of stage 1 (w1).
        share2: target share of stage 2 (w2).
    """

    steps: int
    before: int
    share1: float
    share2: float


def in_blocks(schedule: Schedule) -> Schedule:
    """Returns a schedule with the sizes that the authors' arithmetic gives for the same request.

    Args:
        schedule: of protocol "two_stage", "fine_tuning" or "uniform", in the paper's placement.

    Raises UserError where a run is not whole blocks, or would draw no target row.
    """
    batch, request = schedule.batch_size, schedule.requested
    if request.protocol not in ("two_stage", "fine_tuning", "uniform"):
        raise UserError(
            f"arithmetic 'authors' knows no protocol {request.protocol!r}: take two_stage, "
            "fine_tuning or uniform, or arithmetic 'exact'"
        )
    if request.placement != "paper":
        raise UserError(
            f"arithmetic 'authors' knows no placement {request.placement!r}: take 'paper'"
        )
    if any(stage.batch_size is not None for stage in schedule.stages):
        raise UserError(
            "arithmetic 'authors' knows no schedule.batch_sizes: leave them out, or take "
            "arithmetic 'exact'"
        )
    if BLOCK % batch:
        raise UserError(
            f"arithmetic 'authors' deals out blocks of {BLOCK} sequences, which batches of {batch} "
            "do not fill: take a power of two up to that"
        )
    sizes = _sizes(schedule, BLOCK // batch)
    rates = [stage.learning_rate for stage in schedule.stages]
    starts = [stage.optimizer_start for stage in schedule.stages]
    head = _stage(schedule, "stage 1", sizes.before, sizes.share1, rates[0], starts[0])
    tail = _stage(
        schedule, schedule.stages[-1].name, sizes.steps - sizes.before, sizes.share2,
        rates[-1] if sizes.before else rates[0], starts[-1],
    )  # fmt: skip
    stages = tuple(stage for stage in (head, tail) if stage is not None)
    if not sum(stage.count(schedule.target) for stage in stages):
        raise UserError(
            f"{request.target_sequences} target sequences x {request.target_epochs:g} epochs are "
            f"less than one of every {BLOCK} sequences, of which the authors' arithmetic draws none"
        )
    return Schedule(batch, stages, request, schedule.generic, schedule.target)


def _sizes(schedule: Schedule, block_steps: int) -> Blocks:
    steps, request = schedule.total_steps, schedule.requested
    assert request.target_sequences is not None and request.target_epochs is not None
    gamma = request.target_sequences * request.target_epochs / schedule.total_sequences
    if steps % block_steps:
        raise UserError(
            f"{steps} steps are not whole blocks of {BLOCK} sequences ({block_steps} steps): "
            f"arithmetic 'authors' needs a multiple of {block_steps}"
        )
    if request.protocol == "uniform":
        return Blocks(steps, 0, gamma, gamma)
    alpha, rho, delta = request.stage2_allocation, request.replay_fraction, request.stage2_steps
    delta = None if delta is None else delta / steps
    if delta is None:
        assert alpha is not None and rho is not None
        delta = gamma * alpha / (1 - rho)
    elif rho is None:
        assert alpha is not None
        rho = 1 - gamma * alpha / delta
    else:
        alpha = delta * (1 - rho) / gamma
    before = int((1 - delta) * steps)
    if request.protocol == "fine_tuning":
        # A run of its own there, so that nothing is rounded to a block but its end.
        before = steps - round(delta * steps)
        if (steps - before) % block_steps:
            raise UserError(
                f"fine-tuning takes {steps - before} steps, not whole blocks of {BLOCK} sequences "
                f"({block_steps} steps), which arithmetic 'authors' needs; change replay_fraction "
                "or target_epochs"
            )
    before -= before % block_steps
    share1 = gamma * (1 - alpha) / (1 - delta) if before else 0.0
    return Blocks(steps, before, share1, 1 - rho)


def _stage(
    schedule: Schedule,
    name: str,
    steps: int,
    share: float,
    rate: LearningRate | None,
    start: str,
) -> Stage | None:
    """A stage of whole blocks; None for one without any."""
    sequences = steps * schedule.batch_size
    if not sequences:
        return None
    target = sequences // BLOCK * int(share * BLOCK)
    counts = ((schedule.generic, sequences - target), (schedule.target, target))
    return Stage(sequences, counts, rate, start, name=name)
