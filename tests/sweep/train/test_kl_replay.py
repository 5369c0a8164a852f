"""Generic rows held to the model that training starts from, as a choice of a sweep."""

import json

import pytest
from tiny_sweep import RHO, results_of
from tiny_texts import params_of

from replay_jax.config.grid import chain, grid
from replay_jax.errors import UserError
from replay_jax.hub.export import write_model_folder
from replay_jax.model.trained import base_bytes
from replay_jax.sweep.plan.objective import held_updates
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.course import Course
from replay_jax.sweep.train.job import step_shape

START, OBJECTIVE = "initial_weights", "training.generic_objective"
CONTINUAL = {
    "schedule__protocol": "continual", "schedule__total_steps": None,
    "schedule__target_epochs": 4.0, "training__evaluate_every": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def start(study, tmp_path_factory):
    """A model folder to start from."""
    folder = tmp_path_factory.mktemp("start") / "model"
    model = study.plan([{}], None).runs[0].config.model
    words = study.stores["generic"].tokenizer
    write_model_folder(folder, params_of(model), model, words, dtype="float32", facts={})
    return str(folder)


@pytest.fixture(scope="module")
def sweep(start):
    both = grid({START: [start]}, {OBJECTIVE: ["next_token", "kl"]}, {RHO: [0.0, 0.5]})
    few = {START: start, OBJECTIVE: "kl", RHO: 1 / 9, "schedule.target_epochs": 8.0}
    return chain(both, [few])


@pytest.fixture(scope="module")
def trained(study, sweep, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("held")
    outcome = study.train(sweep, workdir, here=True, **CONTINUAL)
    assert (outcome.failures, outcome.results) == ((), 5)
    return workdir


def by_choice(workdir):
    """Records by objective and replay fraction."""
    return {
        (record["overrides"][OBJECTIVE], record["overrides"][RHO]): record
        for record in results_of(workdir).values()
    }


def test_without_replay_the_objective_changes_no_bit_and_nothing_is_trained_twice(
    study, sweep, trained
):
    plan = study.plan(sweep, None, **CONTINUAL)
    plain, mixed, held, mixed_held, few = plan.runs
    assert len({run.id for run in plan.runs}) == 5
    assert (held.chain == plain.chain).all()
    assert (mixed_held.chain[1:] != mixed.chain[1:]).any(axis=1).all()
    assert plan.steps_planned == plain.steps + 2 * mixed.steps + few.steps
    assert step_shape(held) == step_shape(plain)
    found = by_choice(trained)
    assert found["kl", 0.0]["losses"] == found["next_token", 0.0]["losses"]
    assert found["kl", 0.5]["losses"] != found["next_token", 0.5]["losses"]
    assert verify(trained) == ([], 5)


def test_held_rows_stay_nearer_to_the_model_and_the_log_tells_both_losses(trained):
    """All are judged by next tokens; the KL, 0 at first, is what the loss is made of."""
    lines = {}
    for path in (trained / "metrics").rglob("metrics.jsonl"):
        records = list(map(json.loads, path.read_text().splitlines()))
        if len(records) == 8:
            lines["kl/generic" in records[0]] = records
    assert lines[False][0]["loss/generic"] == pytest.approx(lines[True][0]["loss/generic"])
    assert lines[True][0]["kl/generic"] == 0
    for line in lines[True]:
        mean = (line["kl/generic"] + line["loss/target"]) / 2
        assert line["loss"] == pytest.approx(mean, rel=1e-5)
    assert lines[True][-1]["kl/generic"] > 1e-3
    curve = by_choice(trained)["kl", 0.5]["curve"]
    assert curve[-1]["train_generic"] == pytest.approx(
        sum(line["loss/generic"] for line in lines[True]) / len(lines[True]), rel=1e-5
    )


def test_plans_count_the_base_and_its_forward_pass(study, start, sweep):
    plain, held = (study.plan([item], None, **CONTINUAL) for item in (sweep[1], sweep[3]))
    model = plain.runs[0].config.model
    assert held.training_bytes - plain.training_bytes == base_bytes(model)
    shapes = [step_shape(plan.runs[0]).training_bytes(average=False) for plan in (plain, held)]
    assert shapes[1] - shapes[0] == base_bytes(model)  # by which the mesh is chosen
    assert held.runs[0].flops / plain.runs[0].flops == pytest.approx(4 / 3)
    lora = {"rank": 4, "alpha": 8.0, "matrices": ("query",)}
    beside = [
        study.plan([item], None, model__lora=lora, **CONTINUAL) for item in (sweep[1], sweep[3])
    ]
    assert beside[0].training_bytes == beside[1].training_bytes
    assert not step_shape(beside[1].runs[0]).carries_base


def test_a_run_that_was_interrupted_is_the_same(study, sweep, trained, tmp_path, monkeypatch):
    """From a checkpoint, although one of its updates has no generic row and knows of no base."""
    (run,) = study.plan(sweep[-1:], None, **CONTINUAL).runs
    assert len(held_updates(run.config, run.schedule)) == run.steps - 1 == 8
    on_step = Course.on_step

    def breaks(self, record):
        if record.index == 5:
            raise RuntimeError("out of memory")
        on_step(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(Course, "on_step", breaks)
        assert study.train(sweep[-1:], tmp_path, here=True, **CONTINUAL).failures
    assert [WorkStore(tmp_path).saved_step(name) for name in WorkStore(tmp_path).state_names()] == [
        3
    ]
    again = study.train(sweep[-1:], tmp_path, here=True, retry_failed=True, **CONTINUAL)
    assert (again.failures, again.results) == ((), 1)
    (record,) = results_of(tmp_path).values()
    assert record == results_of(trained)[record["name"]]


def test_what_cannot_be_held_to_a_base_is_one_sentence(study, start):
    with pytest.raises(UserError, match="from: name one in initial_weights, or use 'next_token'"):
        study.plan([{OBJECTIVE: "kl"}], None)
    with pytest.raises(UserError, match="execution.population 2 trains several models"):
        study.plan([{START: start, OBJECTIVE: "kl"}], None, execution__population=2)
    with pytest.raises(UserError, match="'KL'; use one of next_token, kl"):
        study.plan([{START: start, OBJECTIVE: "KL"}], None)
