"""Runs that start from a pre-trained model: what they are, what they share, where they begin."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file, save_file
from tiny_sweep import BATCH, RHO, results_of

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.study.analyse import analyse
from replay_jax.config.grid import chain, grid, zipped
from replay_jax.data.judging.tasks import Task
from replay_jax.errors import UserError
from replay_jax.hub.folder import find_pretrained
from replay_jax.library.evaluating import load_folder, load_run, row_nats
from replay_jax.library.exporting import export as export_run
from replay_jax.library.preparing import Prepared
from replay_jax.report.advice import advise
from replay_jax.report.terminal import terminal_table
from replay_jax.sweep.plan.found import Found
from replay_jax.sweep.plan.plan import plan_sweep
from replay_jax.sweep.plan.work import Done
from replay_jax.sweep.results.verify import verify

START = "initial_weights"


@pytest.fixture(scope="module")
def base(finished_sweep, tmp_path_factory):
    """A finished run, and its end state as a model folder."""
    workdir = finished_sweep
    record = results_of(workdir)["replay_fraction=0"]
    folder = tmp_path_factory.mktemp("base") / "model"
    files = export_run(workdir, record["id"][:6], folder, dtype="float32")
    assert "model.safetensors" in files and "config.json" in files
    return workdir, record, folder


@pytest.fixture(scope="module")
def tuned(study, base, tmp_path_factory):
    """Three runs from the exported model, two of which share a beginning."""
    folder = str(base[2])
    sweep = chain(
        grid({START: [folder]}, {RHO: [0.0, 0.5]}), [{START: folder, RHO: 0.5, "data_seed": 7}]
    )
    workdir = tmp_path_factory.mktemp("tuned")
    outcome = study.train(sweep, workdir, here=True)
    assert (outcome.failures, outcome.results) == ((), 3)
    return sweep, workdir


def test_the_first_losses_are_the_last_ones_of_the_model_started_from(base, tuned):
    """Measured on the same rows by the same program, so they agree to the last bit."""
    _, before, _ = base
    for record in results_of(tuned[1]).values():
        first = record["curve"][0]
        assert first["step"] == 0 and first["train_target"] is None
        losses = {role: first[role] for role in ("target", "generic")}
        assert losses == before["losses"]
        assert record["losses"] != before["losses"]
        assert record["initial_weights"]["fingerprint"]
    assert before["initial_weights"] is None
    assert all(point["step"] for point in before["curve"])


def test_what_was_consumed_and_started_from_is_verified(tuned, tmp_path):
    _, workdir = tuned
    assert verify(workdir) == ([], 3)
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    path = next((copy / "runs").glob("*.json"))
    fact = json.loads(path.read_text())
    fact["pretrained"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(fact))
    differences, _ = verify(copy)
    assert any("has the identity" in line for line in differences)
    assert any("leads to the state" in line for line in differences)


def test_shared_beginnings_are_trained_once(study, tuned, tmp_path):
    sweep, workdir = tuned
    plan = study.plan(sweep[:2], None)
    assert plan.steps_planned < plan.steps_naive
    assert study.train(sweep[1:2], tmp_path, here=True).results == 1
    (alone,) = results_of(tmp_path).values()
    assert alone == results_of(workdir)[alone["name"]]


def test_the_start_is_part_of_the_identity_and_the_seed_is_not(study, base, tuned, tmp_path):
    folder = base[2]
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"] = np.nextafter(tensors["model.norm.weight"], np.float32(9))
    save_file(tensors, other / "model.safetensors")
    same = tmp_path / "same"
    shutil.copytree(folder, same)

    def planned(sweep):
        return study.plan(sweep, None).runs

    original, elsewhere = (planned([{START: str(at)}])[0] for at in (folder, same))
    changed, fresh = planned([{START: str(other)}, {}])
    assert original.id == elsewhere.id and (original.chain == elsewhere.chain).all()
    assert len({original.id, changed.id, fresh.id}) == 3
    firsts = {run.chain[0].tobytes() for run in (original, changed, fresh)}
    assert len(firsts) == 3
    seeds = planned(zipped({"seed": [1, 2], "data_seed": [1, 2], START: [str(folder)] * 2}))
    assert seeds[0].id != seeds[1].id
    assert (seeds[0].chain[0] == seeds[1].chain[0]).all()
    with pytest.raises(UserError, match="seed does nothing from initial_weights: vary data_seed"):
        planned(grid({START: [str(folder)]}, {"seed": [1, 2]}))


def test_a_model_of_another_shape_is_refused_before_anything_is_trained(study, base):
    with pytest.raises(UserError, match="model.mlp_dim is 48 and .* has 32"):
        study.plan([{START: str(base[2])}], None, model__mlp_dim=48)


def test_a_sweep_can_be_planned_where_the_model_is_not(study, base):
    """As data can: everything but the identity is known."""
    here = study.plan([{START: str(base[2]), RHO: 0.5}], None).runs[0]
    config = dataclasses.replace(here.config, initial_weights="org/model")
    away = plan_sweep([(config, {})], found=Found(study.stores), done=Done())
    assert away.runs[0].steps == here.steps
    assert away.runs[0].id != here.id


ADAPTERS = {"rank": 4, "alpha": 8.0, "matrices": ("query", "out", "down")}


@pytest.fixture(scope="module")
def adapted(study, base, tmp_path_factory):
    """Two runs of adapters beside the exported model, which share a beginning; all states kept."""
    sweep = grid({START: [str(base[2])]}, {RHO: [0.0, 0.5]})
    workdir = tmp_path_factory.mktemp("adapted")
    given = {"model__lora": ADAPTERS, "execution__keep_states": True}
    outcome = study.train(sweep, workdir, here=True, **given)
    assert (outcome.failures, outcome.results) == ((), 2)
    return sweep, workdir


def test_adapters_begin_at_the_model_and_their_states_hold_nothing_else(study, base, adapted):
    """Losses at step 0 to the last bit; a saved state is a fraction of a whole one."""
    sweep, workdir = adapted
    _, before, _ = base
    for record in results_of(workdir).values():
        first = record["curve"][0]
        assert {role: first[role] for role in ("target", "generic")} == before["losses"]
        assert record["losses"] != before["losses"]
    assert verify(workdir) == ([], 2)
    plan = study.plan(sweep, None, model__lora=ADAPTERS)
    numbers = 4 * (16 + 16 + 16 + 16 + 32 + 16)  # rank x (inputs + outputs) of the three
    assert plan.state_bytes == 3 * 4 * numbers and plan.steps_planned < plan.steps_naive
    states = list((workdir / "states").iterdir())
    for state in states:
        arrays = json.loads((state / "meta" / "metadata").read_text())["checksums"]
        assert len(arrays) == 3 * 6 + 2  # adapters and their moments, two counters
        assert all("_lora_" in name for name in arrays if "layer_0" in name)
    assert states


def test_adapters_gone_on_with_from_disk_are_the_same_run(study, adapted, tmp_path):
    """Shared and alone, and from a saved state beside the model that is read again."""
    sweep, workdir = adapted
    copy = shutil.copytree(workdir, tmp_path / "copy")
    known = results_of(copy)
    (run,) = study.plan(sweep[1:], copy, model__lora=ADAPTERS).runs
    shutil.rmtree(copy / "results")
    end = run.node(run.steps).digest
    for name in ("states", "ends"):
        shutil.rmtree(copy / name / end, ignore_errors=True)
    for segment in (copy / "segments").glob(f"*{end}*"):
        segment.unlink()
    outcome = study.train(sweep[1:], copy, here=True, model__lora=ADAPTERS)
    assert (outcome.failures, outcome.results) == ((), 1)
    (again,) = results_of(copy).values()
    assert again == known[again["name"]]


def test_adapters_count_in_the_identity_and_so_does_their_seed(study, base, adapted):
    sweep = zipped({"seed": [1, 2], "data_seed": [1, 1], START: [str(base[2])] * 2})
    one, other = study.plan(sweep, None, model__lora=ADAPTERS).runs
    assert one.id != other.id and (one.chain[0] != other.chain[0]).any()
    plain = study.plan(sweep[:1], None).runs[0]
    assert plain.id != one.id and (plain.chain[0] != one.chain[0]).any()
    totals = [study.plan(sweep[:1], None, **given).to_json()["totals"]
              for given in ({}, {"model__lora": ADAPTERS})]  # fmt: skip
    measured = [each["evaluation_flops_remaining"] for each in totals]
    assert measured[0] == measured[1] and totals[0]["flops"] > totals[1]["flops"]
    with pytest.raises(UserError, match="model.lora adapts a model that is there"):
        study.plan([{}], None, model__lora=ADAPTERS)
    with pytest.raises(UserError, match="muon, which is for whole matrices"):
        study.plan(sweep[:1], None, model__lora=ADAPTERS, optimizer__name="muon")


def test_an_adapted_run_is_exported_merged_and_as_an_adapter(base, adapted, tmp_path):
    """Both folders hold what the run ended with."""
    workdir, folder = adapted[1], base[2]
    record = next(iter(results_of(workdir).values()))
    export_run(workdir, record["name"], tmp_path / "merged", dtype="float32")
    files = export_run(workdir, record["name"], tmp_path / "adapter", dtype="float32", adapter=True)
    assert files == ["adapter_config.json", "adapter_model.safetensors", "replay_jax.json"]
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["down_proj", "o_proj", "q_proj"]
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert config["base_model_name_or_path"] == str(folder)
    old, new, added = (
        load_file(at)
        for at in (folder / "model.safetensors", tmp_path / "merged" / "model.safetensors",
                   tmp_path / "adapter" / "adapter_model.safetensors")
    )  # fmt: skip
    assert len(added) == 6 and old.keys() == new.keys()
    for name, tensor in old.items():
        inside = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        wanted = tensor
        if f"{inside}A.weight" in added:
            wanted = tensor + 2.0 * added[f"{inside}B.weight"] @ added[f"{inside}A.weight"]
            assert np.abs(wanted - tensor).max() > 1e-4
        np.testing.assert_allclose(new[name], wanted, rtol=1e-5, atol=1e-6)
    tokens = np.random.default_rng(0).integers(0, 257, (8, 17))
    theirs = row_nats(load_folder(str(tmp_path / "merged")), tokens)
    np.testing.assert_allclose(row_nats(load_run(workdir, record["id"]), tokens), theirs, rtol=1e-5)


def test_what_has_no_adapter_or_lost_its_base_is_one_sentence(base, adapted, tmp_path):
    with pytest.raises(UserError, match="was trained whole, without model.lora"):
        export_run(base[0], base[1]["id"], tmp_path / "adapter", adapter=True)
    record = next(iter(results_of(adapted[1]).values()))
    away = base[2].rename(base[2].with_name("away"))
    try:
        with pytest.raises(UserError, match="has adapters of .* not here as it was: put it back"):
            export_run(adapted[1], record["id"], tmp_path / "merged")
        assert export_run(adapted[1], record["id"], tmp_path / "adapter", adapter=True)
    finally:
        away.rename(base[2])
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("nothing", ("no run 'nothing'", "status prints")),
        ("", ("no run ''",)),
    ],
)
def test_a_run_that_is_not_there_is_one_sentence(base, tmp_path, run, words):
    workdir, record, _ = base
    with pytest.raises(UserError) as refusal:
        export_run(workdir, run, tmp_path / "model", dtype="float32")
    assert all(word in str(refusal.value) for word in (*words, record["id"]))


def test_a_run_is_exported_from_the_parameters_that_it_ended_with_or_not_at_all(tuned, tmp_path):
    _, workdir = tuned
    record = next(iter(results_of(workdir).values()))
    assert not list((workdir / "states").iterdir())
    export_run(workdir, record["name"], tmp_path / "model", dtype="float32")
    copy = shutil.copytree(workdir, tmp_path / "copy")
    shutil.rmtree(copy / "ends")
    with pytest.raises(UserError, match="was not kept: .*keep_ends=True"):
        export_run(copy, record["name"], tmp_path / "other", dtype="float32")
    assert (tmp_path / "model").exists() and not (tmp_path / "other").exists()


def test_lanes_of_a_population_start_from_it_too(study, tuned, tmp_path):
    sweep, workdir = tuned
    outcome = study.train(sweep, tmp_path, here=True, execution__population=3)
    assert (outcome.failures, outcome.results) == ((), 3)
    alone = results_of(workdir)
    for name, record in results_of(tmp_path).items():
        assert record["curve"][0] == alone[name]["curve"][0]
        assert record["losses"] == pytest.approx(alone[name]["losses"], rel=1e-5)


def test_hosts_compare_models_and_tasks_as_they_do_data(study, base):
    pretrained = find_pretrained(str(base[2]), study.config.data.store_dir, download=False)
    task = Task("quiz", "quiz.jsonl", "d1", 3, 9)
    facts = Prepared(study.stores, {"mine": pretrained}, {"quiz": task}).shared_facts()
    assert facts["initial weights mine"] == pretrained.fingerprint
    assert facts["task 'quiz'"] == "d1"
    assert facts["data of 'target'"] == study.stores["target"].fingerprint


def test_a_model_to_start_from_may_be_trained_without_any_target(study, tmp_path):
    """Its record says that no target row was seen, and the report has nothing to compare."""
    stage = {
        "steps": 12.0, "shares": [["generic", 1.0, 1.0], ["target", 0.0, 0.0]],
        "learning_rate": None, "optimizer_start": "continue",
    }  # fmt: skip
    unset = ("target_sequences", "target_epochs", "replay_fraction", "stage2_allocation")
    outcome = study.train(
        [{}],
        tmp_path,
        here=True,
        schedule__protocol="stages",
        schedule__stages=[stage],
        **{f"schedule__{name}": None for name in unset},
    )
    assert (outcome.failures, outcome.results) == ((), 1)
    (record,) = results_of(tmp_path).values()
    assert record["target_epochs"] == 0.0
    totals = {entry["source"]: entry["sequences"] for entry in record["ledger"]["totals"]}
    assert totals == {"generic": 12 * BATCH, "target": 0}
    config = AnalysisConfig({"protocol": "stages"}, (), 0.9)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    found = analyse([json.loads(line) for line in lines], config)
    assert "nothing can be recommended" in advise(found)["target"]
    assert render_terminal(found, lines)


def render_terminal(found, lines):
    """The report's tables in a terminal, as text."""
    console = Console(width=120, record=True, file=open(os.devnull, "w"), color_system=None)
    console.print(terminal_table(found, advise(found), [json.loads(line) for line in lines]))
    return console.export_text()
