"""Real processes: what one began two go on with, like one; and hosts that do not come."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from forked import fork
from interleaved import BYTES_OF_A_ROW, interleaved, train_and_measure
from process_of_a_run import SAVE_EVERY, STEPS, be_one, saved_steps, train
from tiny_store import make_store
from tiny_training import LENGTH, MODEL, ROWS, mesh_of

from replay_jax.errors import UserError
from replay_jax.training.mesh.hosts import Cluster, call_roll, join


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def build(root: Path) -> None:
    random = np.random.default_rng(0)
    for name, documents in (("generic", 60), ("target", 8)):
        ids = [random.integers(0, MODEL.vocab_size - 1, 16).tolist() for _ in range(documents)]
        make_store(root / name, ids, ids[:1], MODEL.vocab_size)


def train_as_two(root: Path) -> None:
    """Go on to the end as two processes with four CPU devices each, and what comes then."""
    address = free_address()
    running = [fork(be_one, (root, address, 2, number)) for number in range(2)]
    for number, process in enumerate(running):
        process.join(120.0)
        assert process.exitcode == 0, (root / f"{number}.err").read_text()[-2000:]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """Trained by one process alone, and by two from where one gave up.

    That was after step 6, two updates after its last save, which two processes make again.
    """
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    for root, stop in ((alone, STEPS), (together, 6)):
        build(root)
        train(root, mesh_of(1, 1, 1), stop=stop, record=root / f"{stop}.0.jsonl")
    assert saved_steps(together / "checkpoints") == (4,)
    train_as_two(together)
    return alone, together


def records(root: Path, stop: int, processes: int) -> list[tuple[int, float, list]]:
    """Per step: its loss, on which all processes agree, and the rows of the whole batch."""
    parts = [
        [json.loads(line) for line in (root / f"{stop}.{n}.jsonl").read_text().splitlines()]
        for n in range(processes)
    ]
    joined = []
    for same_step in zip(*parts, strict=True):
        assert len({(line["step"], line["loss"]) for line in same_step}) == 1
        rows = [row for line in same_step for row in line["rows"]]
        joined.append((same_step[0]["step"], same_step[0]["loss"], rows))
    return joined


def test_what_one_process_began_two_end_like_one(trained):
    """Two that are killed, and one that goes on: tests/sweep/executors/test_hosts.py."""
    alone, together = trained
    assert saved_steps(together / "checkpoints") == (4, 8, 12)
    expected = records(alone, STEPS, 1)
    assert [step for step, _, _ in expected] == list(range(STEPS))
    for stop, processes, began in ((6, 1, 0), (STEPS, 2, 4)):
        seen = records(together, stop, processes)
        assert [step for step, _, _ in seen] == list(range(began, stop))
        for step, loss, rows in seen:
            assert rows == expected[step][2]
            assert loss == pytest.approx(expected[step][1], abs=1e-5)
    assert expected[-1][1] < expected[0][1] - 0.1  # it did learn: equal losses mean something


def test_two_processes_whose_rows_are_strided_train_and_measure_like_one(trained):
    alone = train_and_measure(interleaved(), trained[0] / "checkpoints" / str(SAVE_EVERY))
    found = [json.loads((trained[1] / f"{n}.json").read_text()) for n in range(2)]
    assert [each["rows"] for each in found] == [
        [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    ]  # fmt: skip
    for each in found:
        np.testing.assert_allclose(each["updates"], alone["updates"], rtol=1e-5)
        np.testing.assert_allclose(each["held_out"], alone["held_out"], rtol=1e-6)
    # More than 32 bits count.
    assert found[0]["held_out"][1:] == [ROWS * LENGTH, ROWS * BYTES_OF_A_ROW]


def names(cluster: Cluster, timeout: float) -> dict[int, str]:
    """Call the roll and hang up; the host names by id that this process was told."""
    called = call_roll(cluster, timeout)
    called.close()
    return dict(called.names)


def roll(processes: int, present: list[int], *, timeout: float = 1.5) -> dict[int, object]:
    """What the roll call tells each process that is there: names, or the refusal."""
    address = free_address()

    def one(number: int) -> object:
        hosts = tuple(f"10.0.0.{n}" for n in range(processes))
        try:
            return names(Cluster(address, processes, number, hosts), timeout)
        except UserError as refusal:
            return str(refusal)

    with ThreadPoolExecutor(len(present)) as pool:
        return dict(zip(range(len(present)), pool.map(one, present), strict=True))


def test_the_roll_lets_everybody_go_when_all_have_come():
    said = roll(3, [2, 0, 1], timeout=20.0)
    assert set(said[1]) == {0, 1, 2}
    assert said[0] == said[2] == {0: "127.0.0.1"}


def test_every_process_that_came_is_told_who_did_not():
    said = roll(4, [0, 2])
    assert said[0] == said[1]
    assert "2 of 4 processes did not arrive within 2 s: 1 (10.0.0.1), 3 (10.0.0.3)" in said[0]


def test_a_missing_first_process_is_named_by_its_address():
    assert "Process 0 did not answer at 127.0.0.1:" in roll(2, [1])[0]


def test_two_processes_of_one_id_are_refused():
    said = roll(3, [0, 1, 1], timeout=20.0)
    assert all("Process 1 exists twice" in each for each in said.values())


def test_strangers_at_the_port_are_ignored():
    address = free_address()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(names, Cluster(address, 2, 0), 20.0)
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n", b"seven host\n"):
            while True:
                try:
                    with socket.create_connection(Cluster(address, 2, 0).address) as stranger:
                        stranger.sendall(words)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
        names(Cluster(address, 2, 1), 20.0)
        assert set(first.result()) == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("10.0.0.1", 2, 0), "HOST:PORT"), (("10.0.0.1:80", 2, 2), "Process 2 of 2")],
)
def test_an_impossible_cluster_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        Cluster(*arguments)


def test_a_port_that_is_taken_is_named():
    address = free_address()
    with socket.create_server(("", Cluster(address, 2, 0).address[1])):
        with pytest.raises(UserError, match=f"cannot listen on port {address.split(':')[1]}"):
            names(Cluster(address, 2, 0), 1.0)


def test_one_process_needs_no_address():
    roll = join(None, 1, None, timeout=1.0)
    assert (roll.cluster.num_processes, roll.cluster.process_id, roll.connections) == (1, 0, {})
