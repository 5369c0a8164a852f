"""Facts that are damaged until they mean nothing are one sentence that names the file."""

import dataclasses
import json
import math
import os
import time

import pytest

from replay_jax.errors import UserError
from replay_jax.sweep.drive.published import Published
from replay_jax.sweep.drive.status import sweep_status
from replay_jax.sweep.plan.chain import Shared
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.store.environment import environment_digest
from replay_jax.sweep.store.facts import changed_facts
from replay_jax.sweep.store.known import saved_states
from replay_jax.sweep.store.sealing import sealed
from replay_jax.sweep.store.segment import Segment
from replay_jax.sweep.store.stored_run import restore_run, write_runs
from replay_jax.sweep.store.workdir import WorkStore

RUN = {
    "id": "r", "name": "a run", "overrides": {}, "steps": 3,
    "config": {"execution": {"keep_states": False}}, "path": [{"digest": "aa", "step": 3}],
}  # fmt: skip
RESULT = {
    "id": "r", "name": "a run", "overrides": {}, "config": {}, "environments": [],
    "losses": {"target": 3.0, "generic": 4.0},
}  # fmt: skip
SOFTWARE = {"software": {"jax": "1"}}
ENVIRONMENT = f"environments/{environment_digest(SOFTWARE)}.json"
GOOD = {
    "workdir.json": {"format": 4, "common": {}},
    "sweep.json": {"runs": ["r"]},
    "recipe.json": {},
    "runs/r.json": RUN,
    "results/r.json": RESULT,
    ENVIRONMENT: SOFTWARE,
    "failures/aa.json": {"reason": "it failed", "kind": "mistake"},
    "evaluations/k.json": {"nats": 1.0},
}
SPAN = Segment(Node("00", 0), Node("aa", 3), "aa", "e", {"save": 1.0}, [], [])


@pytest.fixture
def store(tmp_path):
    """A directory with one fact of each kind."""
    store = WorkStore(tmp_path)
    store.create({})
    for name, fact in GOOD.items():
        (tmp_path / name).write_text(json.dumps(fact))
    store.write_segment(SPAN)
    return store


def read_all(store):
    """Everything that a command reads."""
    found = (store.common(), store.runs(), store.about(), store.environments(), store.failures())
    return found, store.result("r"), store.evaluation("k"), store.segment("aa"), store.progress()


def test_whole_facts_are_read(store):
    assert read_all(store)[1:] == (RESULT, {"nats": 1.0}, SPAN, None)
    assert sweep_status(store.root)["counts"]["done"] == 1


@pytest.mark.parametrize("name", [*GOOD, "segments/aa.json"])
@pytest.mark.parametrize("text", ["null", "[]", "3", '{"a": ', "[" * 100_000, '"x"'])
def test_another_value_is_one_sentence(store, name, text):
    (store.root / name).write_text(text)
    with pytest.raises(UserError, match=f"{name} is damaged .*: delete it to compute it again"):
        read_all(store)


@pytest.mark.parametrize(
    ("name", "fact", "words"),
    [
        ("sweep.json", {"runs": [1]}, r"runs\[0\] is 1, not str"),
        ("runs/r.json", {**RUN, "path": [{"step": 3}]}, r"path\[0\].digest is missing"),
        ("runs/r.json", {**RUN, "config": {}}, "config.execution is missing"),
        ("results/r.json", {**RESULT, "losses": {}}, "losses.target is missing"),
        (ENVIRONMENT, {"software": {"jax": 1}}, "software.jax is 1, not str"),
        ("failures/aa.json", {"kind": "mistake"}, "reason is missing"),
        ("segments/aa.json", {"start": {"digest": "00", "step": "0"}}, "stop is missing"),
        ("progress.json", {"edges": []}, "time is missing"),
    ],
)
def test_a_part_that_is_missing_is_named(store, name, fact, words):
    (store.root / name).write_text(json.dumps(fact))
    with pytest.raises(UserError, match=f"{name} is damaged .*{words}"):
        read_all(store)


@pytest.mark.parametrize(
    ("name", "was", "now"),
    [
        ("workdir.json", '"threads":1', '"threads":3'),
        ("results/r.json", "3.0", "2.0"),
        ("segments/aa.json", '"save":1.0', '"save":7.0'),
        ("evaluations/k.json", '"nats":1.0', '"nats":1.5'),
        (ENVIRONMENT, '"jax": "1"', '"jax": "2"'),
    ],
)
def test_a_changed_digit_is_not_taken_for_a_number(store, name, was, now):
    store.create({"threads": 1})
    store.write_result("r", RESULT)
    store.write_evaluation("k", {"nats": 1.0})
    read_all(store)
    text = (store.root / name).read_text()
    assert text.count(was) == 1
    (store.root / name).write_text(text.replace(was, now))
    with pytest.raises(UserError, match=f"{name} is damaged .it was changed.*: delete it"):
        read_all(store)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"3", b"{}", b'{"pid": 1}'])
def test_a_lease_that_nobody_wrote_is_one_sentence(store, content):
    (store.root / "lease").mkdir()
    (store.root / "lease" / "000001.json").write_bytes(content)
    with pytest.raises(UserError, match="000001.json is damaged .*: delete it if nothing runs"):
        sweep_status(store.root)


@pytest.mark.parametrize("fact", [{"runs": ["r"], "checksums": 3}, {"runs": ["r"]}, {"runs": 3}])
def test_the_list_of_runs_is_written_again_whatever_it_was(store, fact):
    (store.root / "sweep.json").write_text(json.dumps(fact))
    if fact["runs"] == 3:
        with pytest.raises(UserError, match="sweep.json is damaged"):
            write_runs(store, [RUN], {})
        return
    (store.root / "runs" / "r.json").write_text("{}")
    write_runs(store, [RUN], {})
    assert store.runs() == [RUN]


@pytest.mark.parametrize("config", [{}, {"execution": 3}, {"execution": {"keep_states": True}}])
def test_a_stored_configuration_that_is_none_is_one_sentence(config):
    with pytest.raises(UserError, match="'a run' was stored by another version or damaged"):
        restore_run({**RUN, "config": config}, Shared())


def test_a_window_without_weight_has_no_loss(store):
    window = {"stop": 3, "nats": {"a": 1.0}, "weights": {}}
    store.write_segment(dataclasses.replace(SPAN, windows=[window]))
    (store.root / "results" / "r.json").unlink()
    (run,) = sweep_status(store.root)["runs"]
    assert run["steps"] == 3 and math.isnan(run["loss"])


@pytest.mark.parametrize("number", ["NaN", "1e999", '"\\ud800"'])
def test_a_number_that_nobody_wrote_is_a_change(store, number):
    (store.root / "evaluations" / "k.json").write_text(f'{{"nats": {number}, "checksum": "00"}}')
    assert changed_facts(store.root) == ["evaluations/k.json"]


def test_a_run_that_somebody_wrote_to_is_stored_anew(store):
    write_runs(store, [RUN], {})
    path = store.root / "runs" / "r.json"
    path.write_text(path.read_text().replace("a run", "b run"))
    os.utime(path, (time.time() + 5,) * 2)
    write_runs(store, [RUN], {})
    assert store.runs() == [RUN]


def test_a_name_that_no_file_can_have_is_one_sentence(store):
    (store.root / "sweep.json").write_text('{"runs": ["a\\u0000b"]}')
    with pytest.raises(UserError, match="there is no file .*null"):
        store.runs()


def test_a_result_with_a_number_that_is_none_is_not_published(store):
    text = json.dumps(RESULT).replace("3.0", "1e999")
    (store.root / "results" / "r.json").write_text(text)
    with pytest.raises(UserError, match="r.json is damaged .*: delete it to compute it again"):
        Published(store, ["r"])


def test_spans_in_a_circle_lead_nowhere(store):
    """A span that ends where it begins would be followed for ever."""
    fact = json.loads((store.root / "segments" / "aa.json").read_text())
    circle = sealed({**fact, "start": fact["stop"]})
    (store.root / "segments" / "aa.json").write_text(json.dumps(circle))
    folder = store.state_path("aa")
    folder.mkdir()
    (folder / "commit_success.txt").write_text("")
    assert saved_states(store) == {}
    with pytest.raises(UserError, match="aa.json is damaged .*steps 3 to 3 of aa"):
        store.history(Node("aa", 3))
