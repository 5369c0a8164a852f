"""Facts on disk: whole or absent, refused when foreign, locked by one coordinator."""

import os
import subprocess
import sys
import time

import pytest

from replay_jax.errors import UserError
from replay_jax.sweep.plan.scheduler import Scheduler
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.plan.work import Task
from replay_jax.sweep.store.facts import fact_names, read_fact, remove_leftovers, write_fact
from replay_jax.sweep.store.known import saved_states
from replay_jax.sweep.store.lock import WorkdirLock, lock_holder
from replay_jax.sweep.store.segment import Segment
from replay_jax.sweep.store.workdir import WorkStore


def test_a_write_that_is_cut_off_changes_nothing(tmp_path, monkeypatch):
    write_fact(tmp_path / "a.json", {"value": 1})

    def cut_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_fact(tmp_path / "a.json", {"value": 2})
    assert read_fact(tmp_path / "a.json") == {"value": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_leftovers_of_killed_writers_are_no_facts(tmp_path):
    write_fact(tmp_path / "a.json", 1)
    (tmp_path / ".tmp-half.json").write_text('{"val')
    assert fact_names(tmp_path) == ["a"]
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_fact(tmp_path / "nothing.json") is None
    assert fact_names(tmp_path / "nowhere") == []


def test_a_damaged_fact_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"val')
    with pytest.raises(UserError, match=r"a\.json is damaged"):
        read_fact(tmp_path / "a.json")


def test_an_unwritable_place_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file"):
        write_fact(tmp_path / "file" / "a.json", 1)
    with pytest.raises(UserError, match="cannot write to the working directory"):
        WorkdirLock(tmp_path / "file" / "w").__enter__()


def test_a_workdir_of_other_data_or_another_version_is_refused(tmp_path):
    WorkStore(tmp_path).create({"data of 'c4'": "aaaa", "threads": 1})
    common = WorkStore(tmp_path).create({"data of 'c4'": "aaaa", "data of 'flan'": "cccc"})
    assert common == {"data of 'c4'": "aaaa", "data of 'flan'": "cccc", "threads": 1}
    with pytest.raises(UserError, match="data of 'c4' = aaaa, not bbbb"):
        WorkStore(tmp_path).create({"data of 'c4'": "bbbb"})
    write_fact(tmp_path / "workdir.json", {"format": 0, "common": {}})
    with pytest.raises(UserError, match="format 0 and this version knows format 4"):
        WorkStore(tmp_path).create({})


def test_a_state_counts_only_when_complete_and_with_its_history(tmp_path):
    store = WorkStore(tmp_path)
    store.create({})
    first, second = Node("aa", 3), Node("bb", 5)
    for node in (first, second):
        folder = store.state_path(node.digest)
        folder.mkdir()
        (folder / "commit_success.txt").write_text("")
    assert saved_states(store) == {}
    spans = {
        node: Segment(start, node, "bb", "00", seconds={}, windows=[], realised=[])
        for start, node in ((Node("00", 0), first), (first, second))
    }
    store.write_segment(spans[second])
    assert saved_states(store) == {}
    store.write_segment(spans[first])
    assert saved_states(store) == {"aa": 3, "bb": 5}
    assert store.history(second) == [spans[first], spans[second]]
    (store.state_path("aa") / "commit_success.txt").unlink()
    assert saved_states(store) == {"bb": 5}
    store.drop_unfinished_states()
    assert not store.state_path("aa").exists() and store.state_path("bb").exists()
    store.drop_state("bb")
    assert saved_states(store) == {} and not store.state_path("bb").exists()


def test_the_second_coordinator_is_told_who_the_first_is(tmp_path):
    assert lock_holder(tmp_path) is None
    with WorkdirLock(tmp_path):
        assert f"process {os.getpid()} " in (lock_holder(tmp_path) or "")
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} on"):
            WorkdirLock(tmp_path, patience=0).__enter__()
    assert lock_holder(tmp_path) is None
    with WorkdirLock(tmp_path, patience=0):
        pass


def test_the_lock_is_free_only_when_the_last_worker_is_gone(tmp_path):
    lock = WorkdirLock(tmp_path)
    with lock:
        worker = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"],
            stdin=subprocess.PIPE,
            pass_fds=(lock.fd,),
        )
    with pytest.raises(UserError, match="in use"):
        WorkdirLock(tmp_path, patience=0).__enter__()
    worker.kill()
    worker.wait()
    worker.stdin.close()
    deadline = time.monotonic() + 10
    while lock_holder(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    with WorkdirLock(tmp_path, patience=0):
        pass


def task(edge, parent):
    return Task(edge, Node("00", 0), Node(str(edge), 1), parent, False, (edge,), (edge,))


def test_a_failed_task_takes_only_its_own_subtree_with_it():
    tasks = [task(0, None), task(1, 0), task(2, 1), task(3, 0), task(4, None)]
    scheduler = Scheduler(tasks, workers=1)
    assert scheduler.take().edge == 0
    assert scheduler.take().edge == 4
    assert scheduler.take() is None
    scheduler.finish(0)
    assert scheduler.take().edge == 1
    assert [lost.edge for lost in scheduler.fail(1, "not a number")] == [1, 2]
    assert scheduler.failed == {1: "not a number", 2: "not a number"}
    scheduler.put_back(4)
    assert [scheduler.take().edge for _ in range(2)] == [4, 3]
    scheduler.finish(3)
    assert not scheduler.is_over()
    scheduler.finish(4)
    assert scheduler.is_over()


def trunks_and_leaves(seeds, trunk, leaves, leaf):
    """Per seed a shared prefix of `trunk` steps and `leaves` tasks of `leaf` steps below it."""
    tasks = []
    for _ in range(seeds):
        root = len(tasks)
        tasks.append(Task(root, Node("", 0), Node(f"{root}", trunk), None, True, (root,), ()))
        for edge in range(root + 1, root + 1 + leaves):
            stop = Node(f"{edge}", trunk + leaf)
            tasks.append(Task(edge, tasks[root].stop, stop, root, False, (edge,), (edge,)))
    return tasks


def carry_out(tasks, workers, *, rule_for):
    """Steps until all tasks are done side by side, and the order in which they were begun."""
    scheduler = Scheduler(tasks, workers=rule_for)
    now, running, order = 0, [], []
    while not scheduler.is_over():
        while len(running) < workers and (begun := scheduler.take()):
            running.append((now + begun.steps, begun.edge))
            order.append(begun.edge)
        now, edge = min(running)
        running.remove((now, edge))
        scheduler.finish(edge)
    return now, order


def test_the_last_shared_prefix_is_trained_while_others_still_have_work():
    tasks = trunks_and_leaves(seeds=3, trunk=200, leaves=4, leaf=100)
    depth_first, _ = carry_out(tasks, 2, rule_for=1)
    duration, order = carry_out(tasks, 2, rule_for=2)
    # 1,800 steps for two; depth first, 200 of them have nothing beside them.
    assert (depth_first, duration) == (1000, 900)
    assert order.index(10) < len(order) - 5
    assert sorted(order) == list(range(15))


def test_one_worker_goes_depth_first():
    tasks = trunks_and_leaves(seeds=3, trunk=200, leaves=4, leaf=100)
    assert carry_out(tasks, 1, rule_for=1) == (1800, list(range(15)))


def test_no_prefix_begins_early_while_there_is_enough_to_do():
    tasks = trunks_and_leaves(seeds=3, trunk=100, leaves=20, leaf=100)
    _, order = carry_out(tasks, 2, rule_for=2)
    # The third seed's states are not kept while the first two have plenty of work left.
    assert order.index(42) > 30


def test_when_nothing_waits_the_longest_goes_first():
    def tasks(steps):
        ends = [Node(f"{edge}", length) for edge, length in enumerate(steps)]
        return [Task(n, Node("", 0), end, None, False, (n,), (n,)) for n, end in enumerate(ends)]

    assert carry_out(tasks([10, 20, 30, 60]), 2, rule_for=2) == (60, [3, 2, 1, 0])
    assert carry_out(tasks([10, 20, 30, 60]), 2, rule_for=1)[0] == 80
