"""`replay-jax run` on several hosts without Ray: real processes, one interrupted, one killed."""

import os
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from fake_report import without_pictures
from forked import Command
from in_process import in_this_process
from tiny_sweep import BATCH, RHO, results_of, write_recipe

import replay_jax
from replay_jax.errors import UserError
from replay_jax.sweep.executors.hosts import edges as host_edges
from replay_jax.sweep.executors.hosts.edges import HostEdges
from replay_jax.sweep.executors.hosts.others import Hosts, LostHost
from replay_jax.sweep.executors.hosts.stop_gate import StopGate
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.known import saved_states
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.messages import Ended, Failed, Interrupted, Started
from replay_jax.training.mesh.hosts import Cluster, Roll
from replay_jax.training.mesh.link import Link

# A run without a second stage, at whose beginning gradients would be compared: a program less.
ALL_AT_ONCE = [{"schedule.protocol": "uniform", RHO: None, "schedule.stage2_allocation": None}]


def train_here(folder: Path, workdir: Path) -> None:
    """Train the same runs on two devices of this process, which no host is."""
    with pytest.MonkeyPatch.context() as patch, in_this_process(devices=2):
        without_pictures(patch)
        outcome = replay_jax.run(replay_jax.load_recipe(str(folder / "study.py")), workdir)
    assert (outcome.failures, outcome.results) == ((), 2)


def start_alone(folder: Path, workdir: str) -> Command:
    """Start the same run on one host of two devices."""
    command = ("run", "study.py", f"--workdir={workdir}", "--executor=hosts", "--num_processes=1")
    return Command(folder, command, devices=2)


def start_hosts(folder: Path, workdir: str, *options: str) -> list[Command]:
    """Start the two hosts of a run, with one device each."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    cluster = ("--executor=hosts", f"--coordinator=127.0.0.1:{port}", "--num_processes=2")
    command = ("run", "study.py", f"--workdir={workdir}", *cluster, *options)
    return [Command(folder, (*command, f"--process_id={n}")) for n in range(2)]


def parts_read(workdir: Path) -> list[list[list[list[int]]]]:
    """In which parts every recorded span was read: of each, the blocks of rows of every batch."""
    store = WorkStore(workdir)
    names = [path.stem for path in (workdir / "segments").glob("*.json")]
    facts = [fact for name in names if (fact := store.segment(name))]
    return [[span["batch_rows"] for span in fact.realised] for fact in facts]


def wait_for_span(workdir: Path, running: list[Command]) -> None:
    """Until one more span of training is recorded than there was."""

    def spans() -> int:
        return len(list((workdir / "segments").glob("*.json")))

    before = spans()
    while spans() <= before:
        ended = [process for process in running if process.poll() is not None]
        assert not ended, [process.end() for process in ended]
        time.sleep(0.02)


def end_with_results(workdir: Path, running: Command) -> None:
    """Until both runs have a result; the report, which takes longer, is not needed."""
    results = workdir / "results.jsonl"
    while not results.exists() or results.read_text().count("\n") < 2:
        assert running.poll() is None, running.end()
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.end()


def test_hosts_are_interrupted_killed_and_fewer_and_change_nothing(tmp_path):
    write_recipe(tmp_path)
    train_here(tmp_path, tmp_path / "here")
    out = tmp_path / "out"
    # SIGTERM to a host that does not decide: all save, and end with one code.
    hosts = start_hosts(tmp_path, "out")
    wait_for_span(out, hosts)
    os.kill(hosts[1].pid, signal.SIGTERM)
    said = [process.end() for process in hosts]
    assert [code for code, _, _ in said] == [130, 130], said
    assert "saving the states" in said[0][1] and said[1][2] == ""
    (step,) = saved_states(WorkStore(out)).values()
    assert 0 < step < 24
    # kill -9: the other names it, at once, and ends.
    hosts = start_hosts(tmp_path, "out")
    wait_for_span(out, hosts)
    os.kill(hosts[1].pid, signal.SIGKILL)
    code, _, complaint = hosts[0].end(timeout=30)
    assert code == 1 and f"process 1 ({socket.gethostname()}) is gone" in complaint
    assert not list((out / "failures").iterdir())
    # The same sweep on one host with as many devices: the same bits as if nothing had happened.
    end_with_results(out, start_alone(tmp_path, "out"))
    assert results_of(out) == results_of(tmp_path / "here")
    assert verify(out) == ([], 2)
    # Rows were read in halves by two hosts, and all by one.
    read = parts_read(out)
    assert [[[0, BATCH // 2]], [[BATCH // 2, BATCH]]] in read and [[[0, BATCH]]] in read


def test_hosts_that_share_heads_and_vocabulary_read_the_same_rows(tmp_path):
    write_recipe(tmp_path, ALL_AT_ONCE)
    options = ["--config.mesh.tensor=2", "--config.schedule.total_steps=8"]
    options += ["--config.schedule.target_epochs=2.0", "--config.checkpoint.every=0"]
    hosts = start_hosts(tmp_path, "out", *options)
    said = [process.end() for process in hosts]
    assert [code for code, _, _ in said] == [0, 0], said
    assert all(parts == [[[0, BATCH]]] for parts in parts_read(tmp_path / "out"))
    assert verify(tmp_path / "out") == ([], 1)


class OtherHost:
    """The far end of a link to process 0, in the hands of a test."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
        self.link = Link(far, "process 0")
        self.hosts = Hosts(Roll(Cluster("here:1", 2, 0), {0: "here", 1: "there"}, {1: near}))
        self.edges = HostEdges("/nowhere", self.hosts, threads=0)
        self.begun: list[int] = []

    def begin(self, end: Ended | Failed) -> None:
        """Submit a job that this host ends like that, as its trainer would say."""
        self.edges.submit(7, None, after=None, profile=None)
        assert self.edges.poll(0.0) == [Started(7, "2 hosts")]
        assert self.link.read() == {"do": "job", "root": "/nowhere", "threads": 0}
        self.hosts.events.put((0, end))

    def news(self) -> list:
        """What the executor tells next."""
        while not (news := self.edges.poll(0.1)):
            pass
        return news


def test_a_job_has_ended_when_all_hosts_say_so():
    other = OtherHost()
    other.begin(Ended(7, 12, True))
    assert other.edges.poll(0.05) == []
    other.link.send({"ended": {"step": 12, "finished": True}})
    assert other.news() == [Ended(7, 12, True)]
    other.begin(Failed(7, "Update 3 has loss nan", "trace"))
    other.link.send({"failed": asdict(Failed(-1, "Update 3 has loss nan", "trace"))})
    assert other.news() == [Failed(7, "Update 3 has loss nan", "trace")]
    other.begin(Ended(7, 12, True))
    other.link.send({"failed": asdict(Failed(-1, "the disk is full", ""))})
    assert other.news() == [Failed(7, "process 1 (there): the disk is full", "")]


def test_what_breaks_when_a_host_is_lost_is_no_failure_of_the_job():
    other = OtherHost()
    other.begin(Failed(7, "Gloo: connection reset by peer", ""))
    assert other.edges.poll(0.05) == []
    other.link.close()
    with pytest.raises(LostHost, match=r"process 1 \(there\) is gone"):
        other.news()
    assert other.hosts.is_stuck


def test_a_host_that_fails_alone_ends_all(monkeypatch):
    monkeypatch.setattr(host_edges, "PATIENCE_SECONDS", 0.0)
    other = OtherHost()
    other.begin(Failed(7, "the disk is full", ""))
    with pytest.raises(LostHost, match=r"process 0 \(here\) failed alone: the disk is full"):
        other.news()


def test_an_interrupt_of_any_host_is_heard():
    other = OtherHost()
    other.link.send({"interrupted": True})
    assert other.news() == [Interrupted("process 1 (there)")]


def test_hosts_stop_after_the_last_update_that_any_has_begun():
    other = OtherHost()
    other.edges.stop()
    assert other.edges.poll(0.0) == []
    assert other.link.read() == {"do": "halt"}
    other.link.send({"begun": 5})
    while other.edges.poll(0.05) == [] and not other.edges._gate.should_stop():
        pass
    assert other.link.read() == {"do": "stop", "last": 5}
    assert other.edges._gate.close() == 5


def test_hosts_must_have_the_same_data_and_versions():
    other = OtherHost()
    other.link.send({"prepared": {"data of 'generic'": "ab", "jax": "1"}})
    other.hosts.prepare({"data of 'generic'": "ab", "jax": "1"})
    other.link.send({"prepared": {"data of 'generic'": "ab", "jax": "2"}})
    with pytest.raises(UserError, match=r"process 1 \(there\) has jax 2 and process 0 has 1"):
        other.hosts.prepare({"data of 'generic'": "ab", "jax": "1"})
    other.link.send({"failed": {"reason": "no such file", "details": ""}})
    with pytest.raises(UserError, match=r"process 1 \(there\): no such file"):
        other.hosts.prepare({})


def test_gates_let_all_make_the_same_updates():
    gates = [StopGate() for _ in range(3)]
    made = [0, 0, 0]

    def train(number: int) -> None:
        while not gates[number].should_stop():
            made[number] += 1
            time.sleep(0.001 * (number + 1))

    threads = [threading.Thread(target=train, args=(n,), daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    last = max([gate.close() for gate in gates])
    for gate in gates:
        gate.open(last)
    for thread in threads:
        thread.join()
    assert last > 0 and made == [last] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="options of Linux")
def test_a_peer_that_is_silent_is_given_up_whether_something_was_sent_or_not():
    """Keep-alive asks nothing while something that was sent is not confirmed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    link = Link(near, "process 1")
    asked = [
        near.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    ]
    idle, interval, count = asked
    assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 80_000
    assert idle + interval * count == 80
    link.close()
    far.close()
