"""What fits: search batch sizes and rematerialisation by compiling, never by guessing."""

import dataclasses
from collections.abc import Iterator, Sequence

from replay_jax.compile import ahead as aot
from replay_jax.compile.fitting import NOTHING, Beside
from replay_jax.compile.topology import Target
from replay_jax.errors import UserError
from replay_jax.model.architecture import REMAT_POLICIES
from replay_jax.training.config import StepShape
from replay_jax.training.mesh.config import MeshConfig


def search(
    shape: StepShape, mesh: MeshConfig, target: Target, beside: Beside = NOTHING
) -> list[aot.CompileReport]:
    """Find the most rows per device and the least recomputation that fit; best trial first.

    The batch of one update stays what it is: fewer rows at once mean more accumulation. For every
    rematerialisation policy, cheapest first, the rows are halved until they fit, or are no more
    than a cheaper policy allows. The first trial has the most rows at once and, of those, the
    cheapest policy; the others fit with fewer rows and less recomputation. Raises UserError as
    `compile_report` does, and if nothing fits.
    """
    fitting: list[aot.CompileReport] = []
    smallest: aot.CompileReport | None = None
    for remat in REMAT_POLICIES:
        tried = dataclasses.replace(shape, model=dataclasses.replace(shape.model, remat=remat))
        most = max((trial.rows_per_device for trial in fitting), default=0)
        for smallest in _trials(tried, mesh, target, beside, most=most):
            if smallest.fits:
                fitting.append(smallest)
                break
    if not fitting:
        needs = f": {_needs(smallest)}" if smallest else ""
        raise UserError(
            f"No batch per device fits {target.name}{needs}; use more devices or mesh.fsdp."
        )
    return sorted(fitting, key=lambda trial: -trial.rows_per_device)


def nearest_fit(
    shape: StepShape, mesh: MeshConfig, target: Target, beside: Beside = NOTHING
) -> aot.CompileReport | None:
    """The fewest microbatches with which a step fits that does not, all else the same.

    None if it does not fit with one row per device either.
    """
    trials = _trials(shape, mesh, target, beside, above=shape.accumulation)
    return next((trial for trial in trials if trial.fits), None)


def fastest(reports: Sequence[aot.CompileReport]) -> str:
    """A sentence: which of the trials that fit has the shortest estimate, and what others cost."""
    known = [(r.estimate.roofline_seconds, r) for r in reports if r.estimate is not None]
    if not known:
        return "which is fastest is not known: there are no speeds of these devices to go by"
    seconds, best = min(known, key=lambda pair: pair[0])
    most = reports[0]
    said = (
        f"shortest estimate: {1e3 * seconds:.4g} ms with {best.rows_per_device} rows per device, "
        f"rematerialisation '{best.remat}' and accumulation {best.accumulation}"
    )
    if best is most or most.estimate is None:
        return said
    slower = most.estimate.roofline_seconds / seconds - 1
    return said + f"; the most rows at once ({most.rows_per_device}) cost {slower:.0%} more"


def misfit(report: aot.CompileReport, fitting: aot.CompileReport | None) -> str:
    """A sentence about a step that does not fit, and the nearest setting that does."""
    said = _needs(report)
    if fitting is None:
        return said + "; nor does one row fit: try --search, mesh.fsdp or more devices"
    return said + (
        f"; --config.training.accumulation={fitting.accumulation} fits: "
        f"{aot.gib(fitting.largest[1])}"
    )


def _needs(report: aot.CompileReport) -> str:
    """What a batch needs that does not fit: of a device, or of the host of its process."""
    (program, peak), room = report.largest, report.hbm_bytes_per_device
    if 0 < peak <= room and report.host_memory_bytes is not None:
        return (
            f"a process needs {aot.gib(report.host_bytes_per_process)} of its host, which has "
            f"{aot.gib(report.host_memory_bytes)}"
        )
    return (
        f"{report.rows_per_device} rows per device with rematerialisation '{report.remat}' need "
        f"{aot.gib(peak) if peak else f'more than {aot.gib(room)}'} of the {aot.gib(room)} of a "
        f"{report.chip} for {program}"
    )


def _trials(
    shape: StepShape,
    mesh: MeshConfig,
    target: Target,
    beside: Beside,
    *,
    most: int = 0,
    above: int = 0,
) -> Iterator[aot.CompileReport]:
    """Reports with 1, 2, 4, ... microbatches, those `above` a number.

    As long as a device has a whole number of rows at once, and more than `most`.
    """
    choice = aot.mesh_choice(shape, mesh, target, beside).config
    for accumulation in (2**n for n in range(shape.batch_size.bit_length())):
        rows, rest = divmod(shape.batch_size, accumulation * choice.replica * choice.fsdp)
        if rest or rows <= most:
            return
        if accumulation > above:
            tried = dataclasses.replace(shape, accumulation=accumulation)
            yield aot.compile_report(tried, mesh, target, beside)
