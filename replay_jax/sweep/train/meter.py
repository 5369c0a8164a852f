"""What the log of a job says: rates, utilisation two ways, and where its time went."""

import dataclasses
import math
from collections.abc import Collection

import jax

from replay_jax.compile.peak import process_peak
from replay_jax.model.flops import flops_per_token, forward_flops_per_token
from replay_jax.sweep.plan.objective import held_updates
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.training.metrics import Meter, Progress, TimeSplit, Work


def make_meter(job: EdgeJob, clock: TimeSplit) -> Meter:
    """The meter of a job; measuring a CPU's peak counts as compilation."""
    model, training = job.config.model, job.config.training
    full, half = (
        flops_per_token(model, training.seq_len, causal_half=causal).total
        for causal in (False, True)
    )
    # Updates with rows that are held to a base compute the forward pass of that as well.
    held = sum(job.start.step <= n < job.stop.step for n in held_updates(job.config, job.schedule))
    share = held / max(1, job.stop.step - job.start.step)
    full, half = (
        each + share * forward_flops_per_token(model, training.seq_len, causal_half=causal)
        for each, causal in ((full, False), (half, True))
    )
    with clock.measure("compile"):
        peak = process_peak(model.compute_dtype)
    return Meter(
        clock,
        Work(full, half, peak_flops_per_second=peak),
        tokens_per_step=job.batch_size * training.seq_len,
        stop=job.stop.step,
        every=training.log_every,
    )


def by_the_wall(progress: Progress, sharing: int) -> Progress:
    """Rates by wall time, for a job whose clock counts its own share of each second."""
    full, half = progress.utilisation, progress.utilisation_causal
    return dataclasses.replace(
        progress,
        tokens_per_second=progress.tokens_per_second / sharing,
        utilisation=None if full is None else full / sharing,
        utilisation_causal=None if half is None else half / sharing,
        seconds_left=progress.seconds_left * sharing,
    )


def metric_values(
    progress: Progress, names: tuple[str, ...], held: Collection[str]
) -> dict[str, float | None]:
    """A progress as one record of the metrics file.

    Losses are in nats per token; of sources that are `held` to a base `kl/NAME` is what counts in
    the loss, beside `loss/NAME`, which is that of next tokens. `mfu` counts attention over the full
    square and `mfu_causal` the half that is needed, both as shares of the peak; `goodput` is the
    share of the job's time spent on updates; seconds are sums over the job so far.
    """
    by_source = zip(names, progress.loss_by_source, strict=True)
    minimised = zip(names, progress.minimised_by_source, strict=True)
    values = {
        "loss": progress.loss,
        **{f"loss/{name}": loss for name, loss in by_source},
        **{f"kl/{name}": kl for name, kl in minimised if name in held},
        "learning_rate": progress.learning_rate,
        "gradient_norm": progress.gradient_norm,
        "parameter_norm": progress.parameter_norm,
        "tokens_per_second": progress.tokens_per_second,
        "tokens_per_second_per_device": progress.tokens_per_second / jax.device_count(),
        "mfu": progress.utilisation,
        "mfu_causal": progress.utilisation_causal,
        "goodput": progress.goodput,
        "data_wait_seconds": progress.data_wait_seconds,
        "compile_seconds": progress.compile_seconds,
    }
    # The norm of diverging parameters overflows a step before the loss does and stops the run.
    return {
        name: value if value is not None and math.isfinite(value) else None
        for name, value in values.items()
    }
