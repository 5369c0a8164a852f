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
        f"memory: {verdict}: peak {gib(report.peak_bytes_per_device)} of {gib(hbm)} "
        f"({_room(report)}), state "
        f"{gib(report.state_bytes_per_device)}, temporaries "
        f"{gib(report.temporary_bytes_per_device)}",
    ]
    others = {
        "evaluation": report.evaluation_peak_bytes_per_device,
        "gradient cosine": report.cosine_peak_bytes_per_device,
        "population": report.population_peak_bytes_per_device,
    }
    lines += [f"{name}: peak {gib(peak)}" for name, peak in others.items() if peak is not None]
    lines.append(f"host: {gib(report.host_bytes_per_process)} of each process")
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


def _room(report: CompileReport) -> str:
    free = 1 - report.peak_bytes_per_device / report.hbm_bytes_per_device
    if report.fits:
        return f"{free:.0%} free"
    return f"{-free:.0%} too much" if report.peak_bytes_per_device else "the compiler did not say"
