"""What Ray is asked for, and what is taken back on an interrupt, with a stand-in for Ray."""

import pickle
import sys
from types import SimpleNamespace

import pytest

from replay_jax.config.execution import ExecutionConfig
from replay_jax.sweep.executors.ray.driver import RayTasks
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


def test_workers_cap_what_is_asked_for(ray):
    assert tasks(ray, 3).slots == 3
    assert tasks(ray, 0).slots > 10_000


def test_stores_travel_by_absolute_paths(study, tmp_path, monkeypatch):
    store = study.stores["generic"]
    monkeypatch.chdir(store.path.parent)
    near = type(store).open(store.path.name)
    assert near.path == store.path
    content = pickle.dumps(near)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(content).fingerprint == store.fingerprint
