"""What fits: search batch sizes and rematerialisation by compiling, never by guessing."""

import dataclasses
from collections.abc import Sequence

from replay_jax.compile import ahead as aot
from replay_jax.compile.fitting import NOTHING, Beside
from replay_jax.compile.topology import Target
from replay_jax.errors import UserError
from replay_jax.model.architecture import REMAT_POLICIES
from replay_jax.training.config import StepShape
from replay_jax.training.mesh.config import MeshConfig


def search(
    shape: StepShape, mesh: MeshConfig, *, topology: str | None, beside: Beside = NOTHING
) -> list[aot.CompileReport]:
    """Find the most rows per device and the least recomputation that fit; best trial first.

    The batch of one update stays what it is: fewer rows at once mean more accumulation. For every
    rematerialisation policy, cheapest first, the rows are halved until they fit, or are no more
    than a cheaper policy allows. The first trial has the most rows at once and, of those, the
    cheapest policy; the others fit with fewer rows and less recomputation. Raises UserError as
    `compile_report` does, and if nothing fits.
    """
    target = aot.target_of(topology)
    fitting: list[aot.CompileReport] = []
    smallest: aot.CompileReport | None = None
    for remat in REMAT_POLICIES:
        model = dataclasses.replace(shape.model, remat=remat)
        most = max((trial.rows_per_device for trial in fitting), default=0)
        for accumulation in _accumulations(shape.batch_size):
            tried = dataclasses.replace(shape, model=model, accumulation=accumulation)
            if _rows_per_device(tried, mesh, target, beside) <= most:
                break
            smallest = aot.report_on(tried, mesh, target, beside)
            if smallest.fits:
                fitting.append(smallest)
                break
    if not fitting:
        peak = smallest.peak_bytes_per_device if smallest else 0
        raise UserError(
            f"No batch per device fits {target.name}: one row with full rematerialisation needs "
            f"{aot.gib(peak)} of {aot.gib(target.chip.hbm_bytes)}; use more devices or mesh.fsdp."
        )
    return sorted(fitting, key=lambda trial: -trial.rows_per_device)


def nearest_fit(
    shape: StepShape, mesh: MeshConfig, *, topology: str | None, beside: Beside = NOTHING
) -> aot.CompileReport | None:
    """The fewest microbatches with which a step fits that does not, all else the same.

    None if it does not fit with one row per device either.
    """
    target = aot.target_of(topology)
    for accumulation in _accumulations(shape.batch_size):
        tried = dataclasses.replace(shape, accumulation=accumulation)
        if accumulation <= shape.accumulation:
            continue
        if not _rows_per_device(tried, mesh, target, beside):
            break
        report = aot.report_on(tried, mesh, target, beside)
        if report.fits:
            return report
    return None


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
    peak = report.peak_bytes_per_device
    needs = aot.gib(peak) if peak else f"more than {aot.gib(report.hbm_bytes_per_device)}"
    said = (
        f"{report.rows_per_device} rows per device with rematerialisation '{report.remat}' need "
        f"{needs} of the {aot.gib(report.hbm_bytes_per_device)} of a {report.chip}"
    )
    if fitting is None:
        return said + "; nor does one row fit: try --search, mesh.fsdp or more devices"
    return said + (
        f"; --config.training.accumulation={fitting.accumulation} fits: "
        f"{aot.gib(fitting.peak_bytes_per_device)}"
    )


def _accumulations(batch_size: int) -> list[int]:
    """1, 2, 4, ... as far as they divide the batch."""
    return [2**n for n in range(batch_size.bit_length()) if batch_size % 2**n == 0]


def _rows_per_device(shape: StepShape, mesh: MeshConfig, target: Target, beside: Beside) -> int:
    """Rows of a microbatch on each device; 0 where it does not divide over them."""
    choice = aot.mesh_choice(shape, mesh, target, beside).config
    rows, rest = divmod(shape.batch_size, shape.accumulation * choice.replica * choice.fsdp)
    return 0 if rest else rows
