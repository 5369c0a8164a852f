"""What a worker process does between its jobs."""

import pickle
import queue
import threading

import pytest

from replay_jax.sweep.executors.local import worker
from replay_jax.sweep.train import edge, outcome


def test_a_worker_that_was_told_to_stop_takes_no_further_job(monkeypatch, tmp_path):
    """SIGTERM from outside is for good: job after job would come back without a step."""
    monkeypatch.setattr(worker.sys, "argv", ["worker", "0", str(tmp_path), "0", "1"])
    monkeypatch.setattr(edge, "EdgeTrainer", lambda store: None)
    stop, done, told = threading.Event(), [], []

    def work(trainer, number, job, **how):
        done.append(number)
        if number == 1:
            stop.set()
        assert number < 3, "it goes on for ever"
        return number

    monkeypatch.setattr(outcome, "work", work)
    jobs = queue.Queue()
    for number in range(4):
        jobs.put(pickle.dumps((number, None, None)))
    with pytest.raises(SystemExit) as end:
        worker._train_in_turn(told.append, jobs, stop)
    assert (done, told, end.value.code) == ([0, 1], [0, 1], None)
