"""Results of another environment are refused in one sentence, or accepted and named for good."""

import pytest
from tiny_sweep import results_of

from replay_jax.errors import UserError
from replay_jax.sweep.drive import engine
from replay_jax.sweep.results.verify import mixed_environments, verify
from replay_jax.sweep.store import environment
from replay_jax.sweep.store.environment import PACKAGES, differences, refusal, software
from replay_jax.sweep.store.workdir import WorkStore

RHO = "schedule.replay_fraction"
KEPT = {
    "execution__keep_states": True, "checkpoint__every": 0, "mesh__replica": 0, "mesh__fsdp": 0
}  # fmt: skip
HERE = {"software": {"jax": "1", "code": "aa"}, "machine": {"devices": "4"}}


def test_software_names_code_and_all_versions():
    facts = software()
    assert set(PACKAGES) | {"code", "python"} == set(facts)
    assert facts["jax"] != "none"


def test_another_source_file_is_another_environment(tmp_path, monkeypatch):
    before = environment._code_digest()
    monkeypatch.setattr(environment, "_PACKAGE", tmp_path)
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "step.py").write_text("clip = 1.0\n")
    first = environment._code_digest()
    (tmp_path / "training" / "step.py").write_text("clip = 1\n")
    assert len({before, first, environment._code_digest()}) == 3


def test_flags_are_compared_in_any_order_and_without_the_number_of_devices(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--b=2 --xla_force_host_platform_device_count=8 --a=1")
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--c")
    assert environment.compiler_flags() == "--a=1 --b=2 --c"


def test_what_differs_is_named_and_what_is_not_known_is_not_compared():
    other = {"software": {"jax": "2", "code": "aa"}, "machine": {"devices": "1"}}
    assert differences(HERE, other) == [
        "devices 4 there and 1 here",
        "jax 1 there and 2 here",
    ]
    assert refusal("w", [HERE], {"software": HERE["software"]}) is None
    assert refusal("w", [], other) is None and refusal("w", [other, HERE], HERE) is None
    said = refusal("w", [HERE], other)
    assert said is not None and "(devices 4 there and 1 here; jax 1 there and 2 here)" in said
    assert "--accept_environment" in said


@pytest.fixture(scope="module")
def begun(study, tmp_path_factory):
    """A working directory with one finished run whose states are kept."""
    workdir = tmp_path_factory.mktemp("begun")
    study.train([{RHO: 0.0}, {RHO: 0.5}], workdir, here=True, **KEPT)
    return workdir


def test_another_version_is_refused_before_anything_is_trained(study, begun, monkeypatch):
    facts = {**software(), "jax": "0.0.1"}
    monkeypatch.setattr(engine, "software", lambda: facts)
    with pytest.raises(UserError, match=r"jax [0-9.]+ there and 0\.0\.1 here.*accept_environment"):
        study.train([{RHO: 0.125}], begun, **KEPT)
    # What is finished is not trained, so nothing is refused.
    assert study.train([{RHO: 0.5}], begun, **KEPT).results == 1


def test_another_machine_is_refused_by_what_trains_or_accepted_and_named(study, begun):
    (alone,) = WorkStore(begun).environments()
    sweep = [{RHO: 0.5}, {RHO: 0.25}]
    with pytest.raises(UserError, match=r"devices 1 there and 2 here"):
        study.train(sweep, begun, here=2, **KEPT)
    assert set(WorkStore(begun).environments()) == {alone}
    assert list((begun / "failures").iterdir()) == []
    study.train(sweep, begun, here=2, accept_environment=True, **KEPT)
    store = WorkStore(begun)
    records = {run["name"]: store.result(run["id"]) for run in store.runs()}
    old, new = (records[f"replay_fraction={rho}"] for rho in (0.5, 0.25))
    assert old["environments"] == [alone] and old["machine"]["devices"] == "1"
    first, second = new["environments"]
    assert first == alone and new["machine"]["devices"] == "2"
    assert [span["environment"] for span in new["history"]] == [first, second]
    assert store.environments()[second]["machine"]["devices"] == "2"
    assert new["versions"]["jax"] == software()["jax"]
    # Not a difference, but said.
    assert verify(begun) == ([], 2)
    (line,) = mixed_environments(begun)
    assert line.startswith("replay_fraction=0.25") and second[:8] in line
    assert set(results_of(begun)) == set(records)
