"""Ahead-of-time compilation: the real step's costs, the search, bad input, and a TPU slice."""

import dataclasses
import functools
import json
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny_training import MODEL

from replay_jax.commands.compiled import report_lines
from replay_jax.commands.main import main
from replay_jax.compile import ahead as aot
from replay_jax.compile import fitting
from replay_jax.compile.ahead import compile_report
from replay_jax.compile.chips import CHIPS, KNOWN_SHAPES
from replay_jax.compile.fitting import NOTHING, Beside, peak_of_failure
from replay_jax.compile.search import fastest, misfit, nearest_fit, search
from replay_jax.compile.topology import Target, tpu_slice
from replay_jax.errors import UserError
from replay_jax.model.architecture import parameter_counts
from replay_jax.model.flops import flops_per_token
from replay_jax.model.lora import LoraConfig
from replay_jax.training.config import StepShape
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh

FIELDS = {
    "topology", "devices", "chip", "fits", "peak_bytes_per_device", "hbm_bytes_per_device",
    "flops_per_device", "model_flops_per_device", "hbm_bytes_moved", "collective_bytes",
    "roofline_seconds", "mfu_estimate", "compile_seconds", "starts",
    "evaluation_peak_bytes_per_device",
}  # fmt: skip
DEEP = dataclasses.replace(MODEL, num_layers=2)
SHAPE = StepShape(DEEP, batch_size=16, seq_len=32, sources=2)
FAKE_CHIP = dataclasses.replace(CHIPS["v4"], name="made up", hbm_bytes=64 * 2**20)


@functools.cache
def local():
    """All local devices as a target whose speeds need no measuring."""
    return Target("local", FAKE_CHIP, (8,), tuple(jax.devices()))


@pytest.fixture(scope="module")
def report():
    """The report of the step, compiled once."""
    return compile_report(SHAPE, MeshConfig(2, 2, 2), local(), Beside(64, lanes=8, cosine=True))


def test_a_report_describes_the_real_step(report):
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(plain) >= FIELDS
    assert (plain["topology"], plain["devices"], plain["chip"]) == ("local", 8, "made up")
    assert plain["fits"] is plain["starts"] is True
    # Beside the state: 64 rows in four microbatches hold less than a step of 16 rows.
    state_and_more = plain["evaluation_peak_bytes_per_device"]
    assert plain["state_bytes_per_device"] < state_and_more < plain["peak_bytes_per_device"]
    # Two gradients instead of one, and a population's lane is a whole model.
    assert plain["cosine_peak_bytes_per_device"] > state_and_more
    assert plain["population_peak_bytes_per_device"] > 12 * parameter_counts(DEEP).total
    # All eight are of this process, and this process is the host.
    most = max(plain[f"{p}peak_bytes_per_device"] for p in ("", "cosine_", "population_"))
    assert plain["host_bytes_per_process"] == 8 * (plain["state_bytes_per_device"] + most)
    assert plain["host_bytes_per_process"] < plain["host_memory_bytes"]
    assert (plain["rows_per_device"], plain["mesh"]["tensor"]) == (4, 2)
    # float32 parameters and two moments; all but the norms are split four ways.
    state = 12 * parameter_counts(DEEP).total
    assert state / 4 < plain["state_bytes_per_device"] < 1.1 * state / 4
    assert plain["peak_bytes_per_device"] > plain["state_bytes_per_device"]
    needed = flops_per_token(DEEP, 32, causal_half=False).total * 16 * 32 / 8
    assert plain["model_flops_per_device"] == needed
    assert 0.7 * needed < plain["flops_per_device"] < needed  # of attention the half alone
    estimate = needed / (FAKE_CHIP.peak_flops * plain["roofline_seconds"])
    assert plain["mfu_estimate"] == pytest.approx(estimate)
    assert 0 < plain["mfu_estimate_causal"] < plain["mfu_estimate"] <= 1.0
    assert plain["collective_bytes"] > 0
    assert plain["loops_of_unknown_length"] == []
    assert "GiB" in report_lines(report) and "fits" in report_lines(report)


@pytest.mark.parametrize(
    ("owners", "starts"),
    [
        ([[[0, 0], [1, 1]], [[0, 0], [1, 1]]], True),  # strided
        ([[[0, 1], [0, 1]], [[2, 3], [2, 3]]], True),  # shared by two
        ([[[0, 0], [0, 0]], [[0, 0], [1, 1]]], False),  # three parts and one
        ([[[0, 1], [1, 2]], [[2, 3], [3, 0]]], False),  # each has another one's half
    ],
)
def test_processes_start_with_as_many_rows_that_are_the_same_or_others(owners, starts):
    devices = [SimpleNamespace(process_index=owner) for owner in np.ravel(owners)]
    grid = np.array(devices).reshape(2, 2, 2)
    mesh = SimpleNamespace(devices=grid, shape={"replica": 2, "fsdp": 2, "tensor": 2})
    assert fitting.starts(mesh) is starts


def test_an_average_lies_beside_every_program(monkeypatch):
    for name in ("lower_evaluation", "lower_gradient_cosine", "lower_population"):
        monkeypatch.setattr(fitting, name, lambda *_: None)
    monkeypatch.setattr(fitting, "compiled_or_peak", lambda *_: (object(), 100))
    mesh, numbers = make_mesh(MeshConfig(2, 2, 2), jax.devices()), parameter_counts(DEEP).total

    def peaks(beside):
        kept = fitting.kept_bytes(SHAPE, mesh, beside)
        return fitting.other_peaks(SHAPE, mesh, local(), beside, kept)

    with_, without = (peaks(Beside(64, lanes=16, cosine=True, average=on)) for on in (True, False))
    added = {name: peak - without[name] for name, peak in with_.items()}
    # A quarter of all but the norms on each device; of a population two whole models.
    split = fitting.kept_bytes(SHAPE, mesh, Beside(average=True)).average
    assert numbers < split < 1.1 * numbers
    assert added == {"evaluation": split, "gradient cosine": split, "population": 2 * 4 * numbers}
    assert fitting.kept_bytes(SHAPE, mesh, NOTHING).average == 0


def test_a_base_and_an_average_count_in_the_choice_of_a_mesh():
    """Replicated without them, as parameters, gradients and moments fill just a quarter."""
    held = dataclasses.replace(SHAPE, kl_sources=(0,))
    need, numbers = SHAPE.training_bytes(average=False), parameter_counts(DEEP).total
    assert need == 16 * numbers and held.training_bytes(average=True) == 24 * numbers
    chip = dataclasses.replace(FAKE_CHIP, hbm_bytes=4 * need)
    target = Target("local", chip, (8,), tuple(jax.devices()))

    def ways(shape, beside=NOTHING):
        return aot.mesh_choice(shape, MeshConfig(), target, beside).config.fsdp

    assert ways(SHAPE) == 1
    assert ways(held) == ways(SHAPE, Beside(average=True)) == 2
    # Adapters are held to the parameters that are there anyway.
    adapters = LoraConfig(rank=1, alpha=1.0, matrices=("query",))
    plain, adapted = (
        dataclasses.replace(shape, model=dataclasses.replace(DEEP, lora=adapters))
        for shape in (SHAPE, held)
    )
    assert adapted.training_bytes(average=False) == plain.training_bytes(average=False)


def test_fits_means_every_program_and_the_host(monkeypatch):
    """Room for the step alone is not enough, nor a device's memory without the host's."""
    few, room = 2**20, FAKE_CHIP.hbm_bytes
    peaks = []

    def peak_of(lowered, target):
        return SimpleNamespace(as_text=str), peaks.pop(0)

    for module in (aot, fitting):
        monkeypatch.setattr(module, "compiled_or_peak", peak_of)
    for name in ("transfers", "estimate", "lower_train_step"):
        monkeypatch.setattr(aot, name, lambda *_, **__: None)
    for name in ("evaluation", "gradient_cosine", "population"):
        monkeypatch.setattr(fitting, f"lower_{name}", lambda *_: None)

    def reported(*found, **more):  # step, evaluation, cosine, population
        peaks[:] = found
        beside = Beside(64, 8, cosine=True, **more)
        report = compile_report(SHAPE, MeshConfig(8, 1, 1), local(), beside)
        assert not peaks
        return report

    def fits(*found):
        return reported(*found).fits

    assert fits(few, few, few, few)
    assert not fits(few, room, few, few)  # the moments are beside it
    assert not fits(few, few, room, few)
    assert not fits(few, few, few, room + 1)
    averaged = reported(few, few, few, few, average=True)
    assert averaged.peaks["training"] == few + 4 * parameter_counts(DEEP).total
    monkeypatch.setattr(fitting, "host_memory", lambda: 8 * few)
    assert not fits(few, few, few, few)


def test_of_local_devices_of_unknown_speed_only_the_memory_is_said():
    report = compile_report(SHAPE, MeshConfig(8, 1, 1), aot.target_of(None))
    plain = report.to_json()
    assert plain["starts"] and plain["fits"] and plain["peak_bytes_per_device"] > 0
    assert report.estimate is plain["roofline_seconds"] is plain["mfu_estimate"] is None
    assert "estimate" not in report_lines(report)
    assert "no speeds of these devices" in fastest([report, report])


def test_an_unknown_topology_is_answered_with_the_known_ones():
    for name in ("v9:4x4", "v4:3x5x1", "v5e", "v5e:4x4x4", "h200", "h100:3", "b200:8"):
        with pytest.raises(UserError) as refusal:
            aot.target_of(name)
        assert repr(name) in str(refusal.value)
        assert all(s in str(refusal.value) for shapes in KNOWN_SHAPES.values() for s in shapes)


def test_missing_libtpu_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(UserError, match=r"pip install 'replay-jax\[tpu-compile\]'"):
        tpu_slice("v4:4x4x4")


def test_missing_cuda_plugin_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'replay-jax\[cuda\]'"):
        aot.target_of("h200:1")


@pytest.mark.parametrize(
    ("change", "mesh", "words"),
    [
        ({"seq_len": 128}, MeshConfig(8, 1, 1), ("128", "64")),
        ({"batch_size": 12}, MeshConfig(8, 1, 1), ("12", "8", "nearest")),
        ({}, MeshConfig(1, 1, 8), ("num_heads 4", "tensor 8", "4 would")),
        ({}, MeshConfig(3, 1, 1), ("3", "8 devices")),
    ],
)
def test_what_does_not_fit_the_mesh_is_one_sentence(change, mesh, words):
    with pytest.raises(UserError) as refusal:
        compile_report(dataclasses.replace(SHAPE, **change), mesh, local())
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


def test_the_compilers_own_figure_is_read_when_memory_runs_out():
    message = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (16.52G) exceeds available HBM (15.75G). HLO module: step."
    )
    assert peak_of_failure(message) == int(16.52 * 2**30)
    assert peak_of_failure("RESOURCE_EXHAUSTED: out of memory") == 0
    assert peak_of_failure("INTERNAL: something else") is None


class Memory:
    """Stands in for the compiler: rows need memory, rematerialisation less of it."""

    NEED = {"none": 8, "matmuls": 4, "full": 1}

    def __init__(self, room: int) -> None:
        self.room, self.tried = room, []

    def compile_report(self, shape, mesh, target, beside=None):
        rows = shape.batch_size // (shape.accumulation * 8)
        peak = rows * self.NEED[shape.model.remat]
        self.tried.append((shape.model.remat, rows))
        return aot.CompileReport(
            topology="local", devices=8, chip="made up", mesh={}, mesh_reason="",
            rows_per_device=rows, accumulation=shape.accumulation, remat=shape.model.remat,
            fits=peak <= self.room, starts=True,
            host_bytes_per_process=0, host_memory_bytes=None,
            peaks={"training": peak}, hbm_bytes_per_device=self.room,
            state_bytes_per_device=0, temporary_bytes_per_device=peak, model_flops_per_device=1.0,
            estimate=None, compile_seconds=0.0,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("room", "found", "compiled"),
    [
        (64, [("none", 8)], 1),  # everything fits at once, nothing else is tried
        (32, [("matmuls", 8), ("none", 4)], 3),
        (8, [("full", 8), ("matmuls", 2), ("none", 1)], 8),
        (1, [("full", 1)], 12),
    ],
)
def test_search_finds_the_most_rows_and_the_least_recomputation(monkeypatch, room, found, compiled):
    compiler = Memory(room)
    monkeypatch.setattr(aot, "compile_report", compiler.compile_report)
    shape = dataclasses.replace(SHAPE, batch_size=64)
    trials = search(shape, MeshConfig(8, 1, 1), local())
    assert [(trial.remat, trial.rows_per_device) for trial in trials] == found
    assert len(compiler.tried) == compiled == len(set(compiler.tried))


@pytest.mark.parametrize(
    ("room", "accumulation", "words"),
    [(24, 4, "--config.training.accumulation=4 fits"), (4, None, "nor does one row fit")],
)
def test_what_does_not_fit_is_told_the_nearest_batch_that_does(
    monkeypatch, room, accumulation, words
):
    monkeypatch.setattr(aot, "compile_report", Memory(room).compile_report)
    shape = dataclasses.replace(SHAPE, batch_size=64)
    report = aot.compile_report(shape, MeshConfig(8, 1, 1), local())
    assert not report.fits
    fitting = nearest_fit(shape, MeshConfig(8, 1, 1), local(), NOTHING)
    assert (fitting.accumulation if fitting else None) == accumulation
    said = misfit(report, fitting)
    assert words in said and "8 rows per device" in said and "GiB" in said


def test_the_program_that_does_not_fit_is_the_one_that_is_named():
    gib = 2**30
    few = {"training": 20 * gib, "evaluation": 5 * gib, "gradient cosine": 35 * gib}
    report = Memory(32 * gib).compile_report(SHAPE, MeshConfig(8, 1, 1), local())
    report = dataclasses.replace(report, peaks=few, fits=False)  # training alone has room
    said = misfit(report, None)
    assert "need 35.00 GiB of the 32.00 GiB of a made up for gradient cosine" in said
    lines = report_lines(report).splitlines()
    assert "training: peak 20.00 GiB (38% free)" in lines
    assert "gradient cosine: peak 35.00 GiB (9% too much)" in lines
    unsaid = dataclasses.replace(report, peaks={**report.peaks, "evaluation": 0})
    assert "need more than 32.00 GiB of" in misfit(unsaid, None)
    assert "for evaluation" in misfit(unsaid, None)
    host = dataclasses.replace(
        report, peaks={"training": gib}, host_bytes_per_process=8 * gib, host_memory_bytes=4 * gib
    )
    assert "needs 8.00 GiB of its host, which has 4.00 GiB" in misfit(host, None)
    assert "host: 8.00 GiB of each process, which has 4.00 GiB" in report_lines(host)


def test_the_fastest_of_a_search_is_named(report):
    estimate = dataclasses.replace(
        report.estimate, roofline_seconds=report.estimate.roofline_seconds / 2
    )
    other = dataclasses.replace(report, remat="none", rows_per_device=1, estimate=estimate)
    said = fastest([report, other])
    assert "1 rows per device, rematerialisation 'none'" in said
    assert "(4) cost 100% more" in said


def test_search_says_so_when_nothing_fits(monkeypatch):
    monkeypatch.setattr(aot, "compile_report", Memory(0).compile_report)
    with pytest.raises(UserError, match="No batch per device fits"):
        search(SHAPE, MeshConfig(8, 1, 1), local())


def test_the_step_compiles_for_a_tpu_slice_without_a_tpu(monkeypatch):
    pytest.importorskip("libtpu", reason="libtpu is not installed (extra 'tpu')")
    # The CPU has read them; the TPU compiler ends the process at a flag that it does not know.
    monkeypatch.delenv("XLA_FLAGS")
    shape = StepShape(dataclasses.replace(DEEP, compute_dtype="bfloat16"), 8, 64, 2)
    report = compile_report(shape, MeshConfig(1, 4, 1), aot.target_of("v5e:2x2"))
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (plain["devices"], plain["chip"], plain["fits"]) == (4, "TPU v5e", True)
    assert plain["flops_per_device"] > 0 and plain["collective_bytes"] > 0
    assert plain["loops_of_unknown_length"] == []


@pytest.mark.parametrize(
    ("topology", "mesh"), [("h200:1", MeshConfig(1, 1, 1)), ("h100:4", MeshConfig(1, 2, 2))]
)
def test_the_step_compiles_for_gpus_without_a_gpu(topology, mesh):
    pytest.importorskip("jax_cuda12_plugin", reason="no CUDA plugin (extra 'cuda')")
    shape = StepShape(dataclasses.replace(DEEP, compute_dtype="bfloat16"), 8, 64, 2)
    report = compile_report(shape, mesh, aot.target_of(topology))
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    devices = int(topology[-1])
    assert (plain["devices"], plain["fits"]) == (devices, True)
    assert topology[:4].upper() in plain["chip"]
    assert (plain["collective_bytes"] > 0) == (devices > 1)
    assert plain["loops_of_unknown_length"] == []


TWO_MODELS = """
from replay_jax.config.defaults import model_sizes, paper_config

def get_config():
    return paper_config()

def sweep():
    sizes = [model_sizes(words).to_dict() for words in ("8,16,1,1,1,64", "16,16,1,1,1,64")]
    return [{"model": size, "seed": seed} for size in sizes for seed in (0, 1)]
"""


def test_every_different_program_of_a_config_is_compiled_once(tmp_path, monkeypatch, capsys):
    """It was only that of the first run: a larger model later in the sweep went unseen."""
    asked = []

    def compiled(shape, mesh, target, beside):
        asked.append((shape.model.embed_dim, beside.cosine))
        fits = shape.model.embed_dim < 16
        return SimpleNamespace(fits=fits, to_json=lambda: {"fits": fits})

    monkeypatch.setattr(aot, "compile_report", compiled)
    monkeypatch.setattr("replay_jax.compile.search.nearest_fit", lambda *_, **__: None)
    monkeypatch.setattr("replay_jax.compile.search.misfit", lambda *_: "it does not fit")
    monkeypatch.setattr("replay_jax.commands.compiled.report_lines", lambda found: "a slice")
    path = tmp_path / "two.py"
    path.write_text(TWO_MODELS)
    assert main(["compile", str(path), "--json"]) == 2  # the second does not fit
    first, second = json.loads(capsys.readouterr().out)
    assert [width for width, _ in asked] == [8, 16]
    assert (first["fits"], second["fits"]) == (True, False)
    assert main(["compile", str(path)]) == 2
    printed = capsys.readouterr().out
    assert printed.count("two, 2 of 4 runs (") == printed.count(") on a slice") == 2
