"""What Ray is asked for, and what is taken back on an interrupt, with a stand-in for Ray."""

import pickle
import sys
from types import SimpleNamespace

import pytest

from replay_jax.config.execution import ExecutionConfig
from replay_jax.errors import UserError
from replay_jax.sweep.drive import engine
from replay_jax.sweep.executors.ray.board import Board
from replay_jax.sweep.executors.ray.driver import RayTasks
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.messages import Started


class FakeRay:
    """Edges are references by name; the board hands out what a test put on it."""

    def __init__(self):
        self.news, self.cancelled, self.stops = [], [], 0
        self.exceptions = SimpleNamespace()

    def board(self):
        def stop():
            self.stops += 1

        return SimpleNamespace(
            drain=SimpleNamespace(remote=lambda: "news"), stop=SimpleNamespace(remote=stop)
        )

    def wait(self, references, *, num_returns, timeout):
        return [], references

    def get(self, reference):
        assert reference == "news"
        news, self.news = self.news, []
        return news

    def cancel(self, reference, *, force, recursive):
        assert not force
        self.cancelled.append(reference)


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def tasks(ray, workers):
    execution = ExecutionConfig("ray", workers, 1, False, (), None, 1, True)
    it = RayTasks("/nowhere", execution, threads=1, address=None)
    it._board = ray.board()
    return it


def test_an_interrupt_takes_back_only_what_has_not_begun(ray):
    it = tasks(ray, 0)
    it._edges = {"first": 1, "second": 2}
    ray.news = [Started(1, "a node")]
    assert it.poll(0.0) == [Started(1, "a node")]
    it.stop()
    # Nothing in the signal handler itself.
    assert ray.cancelled == [] and ray.stops == 0
    it.poll(0.0)
    it.poll(0.0)
    assert ray.cancelled == ["second"] and ray.stops == 1


def test_what_began_just_before_the_interrupt_is_not_taken_back(ray):
    it = tasks(ray, 0)
    it._edges = {"first": 1}
    it.stop()
    ray.news = [Started(1, "a node")]
    it.poll(0.0)
    assert ray.cancelled == [] and ray.stops == 1


def test_no_more_is_asked_for_than_workers_or_twice_what_there_is(ray):
    """An autoscaler answers every edge that is asked for with a machine."""
    ray.cluster_resources = lambda: {"CPU": 16.0, "memory": 1e9}
    for workers, asked in ((0, 32), (3, 3), (100, 100)):
        it = tasks(ray, workers)
        it._take_stock()
        assert (it.workers, it.slots) == (16, asked)
    ray.cluster_resources = lambda: {}
    it = tasks(ray, 0)
    it._take_stock()
    assert (it.workers, it.slots) == (1, 2)


def test_stores_travel_by_absolute_paths(study, tmp_path, monkeypatch):
    store = study.stores["generic"]
    monkeypatch.chdir(store.path.parent)
    near = type(store).open(store.path.name)
    assert near.path == store.path
    content = pickle.dumps(near)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(content).fingerprint == store.fingerprint


HEAD = {"code": "a", "python": "3.11.4", "jax": "0.10.2", "libtpu": "none", "numpy": "2.1"}
TPU = {**HEAD, "libtpu": "0.0.42"}


def test_nodes_of_other_versions_do_not_train():
    # The driver's node has no accelerator, and need not have its packages; the nodes must agree.
    board = Board(HEAD)
    assert board.refusal("10.0.0.2", TPU) is None
    assert board.refusal("10.0.0.3", TPU) is None
    other = {**TPU, "libtpu": "0.0.52"}
    assert "than 10.0.0.2 (libtpu 0.0.42 there and 0.0.52 here)" in board.refusal("n", other)
    other = {**TPU, "jax": "0.12.0", "code": "b"}
    found = board.refusal("10.0.0.4", other)
    assert found.startswith("10.0.0.4 has other code or versions than the driver (code a there")
    assert "jax 0.10.2 there and 0.12.0 here" in found
    # Whoever was refused is nobody's model.
    fresh = Board(HEAD)
    assert fresh.refusal("n", other) is not None and fresh.refusal("m", TPU) is None


def test_a_driver_without_accelerators_goes_on_with_a_ray_sweep(tmp_path, monkeypatch):
    store = WorkStore(tmp_path)
    store.write_environment({"software": TPU, "machine": {"platform": "tpu"}})
    monkeypatch.setattr(engine, "software", lambda: HEAD)
    engine._check_software(store, trains_here=False)
    with pytest.raises(UserError, match="libtpu 0.0.42 there and none here"):
        engine._check_software(store, trains_here=True)
    monkeypatch.setattr(engine, "software", lambda: {**HEAD, "jax": "0.12.0"})
    with pytest.raises(UserError, match="jax 0.10.2 there and 0.12.0 here"):
        engine._check_software(store, trains_here=False)
