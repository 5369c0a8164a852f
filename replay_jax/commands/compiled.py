"""What `compile` found, as lines for a terminal."""

from replay_jax.compile.ahead import CompileReport, gib


def report_lines(report: CompileReport) -> str:
    """The report as lines for a terminal."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in report.mesh.items())
    verdict = "fits" if report.fits else "DOES NOT FIT"
    hbm = report.hbm_bytes_per_device
    lines = [
        f"{report.topology}: {report.devices} x {report.chip}, mesh {mesh} ({report.mesh_reason})",
        f"rows per device {report.rows_per_device}, accumulation {report.accumulation}, "
        f"rematerialisation {report.remat}, compiled in {report.compile_seconds:.0f} s",
        f"memory: {verdict}: state {gib(report.state_bytes_per_device)}, temporaries of training "
        f"{gib(report.temporary_bytes_per_device)} of {gib(hbm)}",
    ]
    lines += [f"{name}: peak {_room(peak, hbm)}" for name, peak in report.peaks.items()]
    has = "" if report.host_memory_bytes is None else f", which has {gib(report.host_memory_bytes)}"
    lines.append(f"host: {gib(report.host_bytes_per_process)} of each process{has}")
    if not report.starts:
        lines.append("it does not start: the processes get unequal rows of a batch")
    found = report.estimate
    if found is None:
        return "\n".join(lines)
    lines += [
        f"work per step: {found.flops_per_device / 1e12:.3g} TFLOP in matrix products (the model "
        f"needs {report.model_flops_per_device / 1e12:.3g}), {found.hbm_bytes_moved / 1e9:.3g} GB "
        f"through HBM, {found.collective_bytes / 1e9:.3g} GB sent",
        f"estimate: {1e3 * found.roofline_seconds:.4g} ms per step, limited by {found.limit}; "
        f"MFU {found.mfu_estimate:.1%} (attention in full), "
        f"{found.mfu_estimate_causal:.1%} (halved)",
        "parts: " + ", ".join(f"{k} {1e3 * v:.3g} ms" for k, v in found.roofline_parts.items()),
    ]
    if found.loops_of_unknown_length:
        lines.append(f"counted once, length unknown: {', '.join(found.loops_of_unknown_length)}")
    return "\n".join(lines)


def _room(peak: int, hbm: int) -> str:
    free = 1 - peak / hbm
    if not peak:
        return "more than there is (the compiler did not say)"
    return f"{gib(peak)} ({f'{free:.0%} free' if peak <= hbm else f'{-free:.0%} too much'})"
