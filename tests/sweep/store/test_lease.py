"""One writer per directory on any storage: who follows, and how the one before is fenced."""

import contextlib
import dataclasses
import errno
import fcntl
import os
import threading
import time

import pytest
from etils import epath
from folder_bucket import folder_as_bucket

from replay_jax.errors import UserError
from replay_jax.sweep.drive.status import sweep_status
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.store import lease, lock
from replay_jax.sweep.store.aside import set_aside
from replay_jax.sweep.store.facts import write_fact
from replay_jax.sweep.store.lease import Fence, Lease, LostLease, newest
from replay_jax.sweep.store.lock import WorkdirLock, lock_holder
from replay_jax.sweep.store.put_if_absent import names_now, put_if_absent, read_now
from replay_jax.sweep.store.segment import Segment
from replay_jax.sweep.store.stored_run import write_runs
from replay_jax.sweep.store.workdir import WorkStore

HEARTBEAT, SILENCE = 0.05, 1.0
SEGMENT = Segment(Node("aa", 0), Node("bb", 3), "bb", "", {}, [], [])


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Seconds instead of minutes."""
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", HEARTBEAT)
    monkeypatch.setattr(lease, "_SURE_SECONDS", SILENCE / 2)
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.02)
    for module in (lease, lock):
        monkeypatch.setattr(module, "SILENCE_SECONDS", SILENCE)


@pytest.fixture(params=["disk", "disk without links", "disk without locks", "bucket"])
def root(request, tmp_path, monkeypatch):
    """A working directory on some storage, held by leases alone where there are no locks."""

    def refuse(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    if request.param == "bucket":
        folder_as_bucket(tmp_path / "cloud", monkeypatch)
        return epath.Path("gs://bucket/w")
    if request.param == "disk without links":
        monkeypatch.setattr(os, "link", refuse)
    if request.param == "disk without locks":
        monkeypatch.setattr(fcntl, "flock", refuse)
    return epath.Path(tmp_path / "w")


def never(seconds):
    raise AssertionError(f"waited {seconds} s")


def taken(root) -> Lease:
    """A lease whose holder's machine has no lock to say more."""
    held = Lease(root)
    held.take(alone=False, say=lambda _: None)
    return held


def stop(held: Lease) -> None:
    """What SIGSTOP does to a holder: no heartbeat follows, and nothing is let go."""
    held._over.set()
    time.sleep(3 * HEARTBEAT)


def test_one_of_many_makes_a_file_and_whole(root):
    path, won = root / "lease" / "000001.json", []

    def make(word):
        if put_if_absent(path, word):
            won.append(word)

    threads = [threading.Thread(target=make, args=(str(number) * 50,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [read_now(path)]
    # A request that was sent twice, as its answer was lost, is known again.
    assert put_if_absent(path, won[0]) and not put_if_absent(path, "other")
    assert names_now(path.parent) == ["000001.json"]


def test_a_second_coordinator_is_refused_and_deletes_nothing(root, monkeypatch):
    with WorkdirLock(root) as first:
        store = WorkStore(root, first.lease)
        store.create({})
        saving = store.state_path("ab" * 16)
        (saving / "state").mkdir(parents=True)
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} on "):
            WorkdirLock(root, patience=0).__enter__()
        assert (saving / "state").exists()
        first.lease.confirm()
        assert lock_holder(root) == str(newest(root)[1])
    # It has let go, so nobody waits.
    monkeypatch.setattr(time, "sleep", never)
    assert lock_holder(root) is None
    with WorkdirLock(root, patience=0) as second:
        assert second.lease.number == first.lease.number + 1


def test_a_silent_one_is_followed_and_fenced(root):
    first = taken(root)
    stop(first)
    first._over.clear()
    waited, began = [], time.monotonic()
    second = Lease(root)
    second.take(alone=False, say=waited.append)
    assert time.monotonic() - began >= SILENCE and len(waited) == 1
    assert second.number == first.number + 1
    old, new = WorkStore(root, first), WorkStore(root, second)
    new.create({})
    new.write_segment(SEGMENT)
    new.state_path("cc").mkdir(parents=True)
    for publish in (
        lambda: old.write_result("run", {}),
        lambda: old.drop_state("cc"),
        lambda: old.drop_unfinished_states(),
        lambda: set_aside(old, "cc"),
        lambda: old.write_failure("cc", {}),
        lambda: write_runs(old, [], {}),
        lambda: old.create({}),
        # Its workers, on whatever machine, know the number alone.
        lambda: WorkStore(root, Fence(root, first.number)).write_segment(SEGMENT),
    ):
        with pytest.raises(LostLease, match=r"was taken over by process \d+ on .*writes nothing"):
            publish()
    assert new.state_path("cc").exists() and new.result("run") is None
    assert not (root / "sweep.json").exists() and new.failures() == {}
    WorkStore(root, Fence(root, second.number)).write_segment(SEGMENT)
    first.release()
    assert not newest(root)[1].released
    second.release()
    assert newest(root)[1].released


def test_of_several_that_wait_for_a_silent_one_one_follows(root):
    stop(taken(root))
    followers, refused = [], []

    def follow():
        try:
            followers.append(taken(root))
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=follow) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(followers) == 1 and len(refused) == 4
    assert all("in use by" in reason for reason in refused)
    followers[0].confirm()
    followers[0].release()


def test_one_that_slept_through_several_is_fenced_too_and_no_number_comes_again(tmp_path):
    first = taken(tmp_path)
    stop(first)
    for _ in range(4):
        with WorkdirLock(tmp_path):
            pass
    with pytest.raises(LostLease):
        Fence(tmp_path, first.number).confirm()
    late = Lease(tmp_path)
    # It had read the first one long ago, and tries the next.
    late._try(2)
    assert late.number == 0 and newest(tmp_path)[0] == 5


def test_a_lock_of_this_machine_knows_at_once_that_the_holder_is_dead(tmp_path, monkeypatch):
    stop(taken(tmp_path))
    monkeypatch.setattr(time, "sleep", never)
    with WorkdirLock(tmp_path) as held:
        assert held.lease.number == 2


def test_a_lock_of_each_machine_its_own_does_not_let_another_one_in(tmp_path, monkeypatch):
    """As on NFS mounted with local locks: the lock is free here, and the holder is alive there."""
    held = taken(tmp_path)
    monkeypatch.setattr(lease, "_kernel", lambda: "that of another machine")
    with pytest.raises(UserError, match="in use by"):
        WorkdirLock(tmp_path).__enter__()
    held.release()


def test_a_holder_whose_storage_is_away_for_a_while_goes_on(tmp_path, monkeypatch):
    held = taken(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(lease, "write_text", lambda *_: (_ for _ in ()).throw(OSError(5, "EIO")))
        time.sleep(SILENCE)
        with pytest.raises(OSError):
            held.confirm()
    held.confirm()
    held.release()


@pytest.mark.parametrize("code", ["ENOLCK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EACCES"])
def test_a_file_system_without_locks_is_no_traceback(tmp_path, monkeypatch, code):
    def no_locks(*_):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    if code == "EACCES":
        with pytest.raises(UserError, match="cannot lock .*: Permission denied"):
            WorkdirLock(tmp_path).__enter__()
        return
    with WorkdirLock(tmp_path) as held:
        assert held.fd == -1
        with pytest.raises(UserError, match="in use by"):
            WorkdirLock(tmp_path).__enter__()


def test_status_of_a_bucket_names_who_is_at_work_there_and_nobody_who_is_gone(root):
    write_fact(root / "workdir.json", {"format": 4, "common": {}})
    write_fact(root / "sweep.json", {"runs": []})
    progress = {"steps_done": 1, "steps_total": 9, "seconds_left": None, "edges": []}
    with WorkdirLock(root) as held:
        WorkStore(root, held.lease).write_progress({**progress, "time": time.time()})
        found = sweep_status(root)
        assert found["coordinator"].startswith(f"process {os.getpid()} on ")
        assert found["silent_seconds"] < 5
    assert sweep_status(root)["coordinator"] is None
    left = dataclasses.replace(newest(root)[1], released=False, kernel="of another")
    write_fact(lease._path(root, newest(root)[0]), dataclasses.asdict(left))
    assert sweep_status(root)["coordinator"] is not None
    time.sleep(SILENCE)
    assert sweep_status(root)["coordinator"] is None


def test_a_damaged_lease_is_one_sentence(tmp_path):
    (tmp_path / "lease").mkdir()
    for content in ("", "{", "[]", '{"pid": 1}'):
        (tmp_path / "lease" / "000004.json").write_text(content)
        with pytest.raises(UserError, match="000004.json is damaged .*: delete it if nothing runs"):
            taken(tmp_path)
    with contextlib.suppress(UserError):
        lock_holder(tmp_path)
