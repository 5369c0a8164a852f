"""Faults between machines: hosts that lose each other, a lost node or process of Ray's."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fake_devices import with_devices
from rich.console import Console
from tiny_sweep import results_of, write_recipe
from torture_arena import OFTEN, SWEEP, Arena, Wrong, agree, finish, spans

from replay_jax.sweep.drive.engine import run_sweep
from replay_jax.sweep.store.lock import WorkdirLock

_PATIENCE_SECONDS = 600.0
_PORT = 8476
# `ip netns exec` shows what is here in place of /etc.
_ETC = Path("/etc/netns")


def lost_hosts(arena: Arena, chance: random.Random) -> str:
    """Two hosts in network namespaces lose each other in mid-sweep, and are started again."""
    folder = arena.folder / "hosts"
    if not folder.exists():
        folder.mkdir()
        write_recipe(folder)
        alone = ("--executor=hosts", "--num_processes=1")
        _wait([_run(folder, "alone", *alone, devices=2)], wanted=0)
    out, after = f"out{chance.randrange(1 << 30)}", chance.randrange(1, 5)
    with _two_namespaces() as names:
        hosts = _hosts(folder, out, names)
        while spans(folder / out) < after:
            if any(host.poll() is not None for host in hosts):
                raise Wrong(f"a host ended by itself: {[host.communicate() for host in hosts]}")
            time.sleep(0.02)
        _ip("-n", names[0], "link", "set", "there", "down")
        noticed = _wait(hosts, wanted=None)
        _ip("-n", names[0], "link", "set", "there", "up")
        _wait(_hosts(folder, out, names), wanted=0)
    wanted = results_of(folder / "alone")
    agree(folder / out, wanted)
    return f"same: noticed after {max(noticed):.0f} s"


def _hosts(folder: Path, out: str, names: list[str]) -> list[subprocess.Popen[str]]:
    cluster = ("--executor=hosts", f"--coordinator=10.77.0.1:{_PORT}", "--num_processes=2")
    return [
        _run(folder, out, *cluster, f"--process_id={n}", before=("ip", "netns", "exec", name))
        for n, name in enumerate(names)
    ]


def _run(
    folder: Path, out: str, *options: str, devices: int = 1, before: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-m", "replay_jax", "run", "study.py", f"--workdir={out}"]
    return subprocess.Popen(
        [*command, *options], cwd=folder, env=with_devices(devices), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _wait(processes: list[subprocess.Popen[str]], *, wanted: int | None) -> list[float]:
    """Seconds until each has ended, with the code wanted, or with any and one sentence."""
    began, took = time.monotonic(), []
    for process in processes:
        try:
            said = process.communicate(timeout=_PATIENCE_SECONDS)[1]
        except subprocess.TimeoutExpired:
            for each in processes:
                each.kill()
            raise Wrong(f"a host has not ended after {_PATIENCE_SECONDS:.0f} s") from None
        took.append(time.monotonic() - began)
        is_right = process.returncode == wanted if wanted is not None else "is gone" in said
        if not is_right or "Traceback" in said:
            raise Wrong(f"a host ended with {process.returncode}: {said[-2000:]}")
    return took


@contextlib.contextmanager
def _two_namespaces() -> Iterator[list[str]]:
    """Two network namespaces with a cable between them; 10.77.0.1 and 10.77.0.2."""
    names = [f"torture{os.getpid()}{side}" for side in "ab"]
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        peer = ("type", "veth", "peer", "name", "there", "netns", names[1])
        _ip("-n", names[0], "link", "add", "there", *peer)
        for number, name in enumerate(names, 1):
            _ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "there")
            _ip("-n", name, "link", "set", "there", "up")
            # Processes that compute on CPUs meet at the address of their own machine's name.
            hosts = _ETC / name / "hosts"
            hosts.parent.mkdir(parents=True)
            hosts.write_text(f"127.0.0.1 localhost\n10.77.0.{number} {socket.gethostname()}\n")
        yield names
    finally:
        for name in names:
            shutil.rmtree(_ETC / name, ignore_errors=True)
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def lost_node(arena: Arena, chance: random.Random) -> str:
    """One of two Ray nodes, or a process that trains on one, is lost in mid-sweep."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    workdir, over = arena.fresh(), threading.Event()
    try:
        second = cluster.add_node(num_cpus=1)
        whom, after = chance.choice(("node", "process")), chance.randrange(1, 12)

        def strike() -> None:
            while spans(workdir) < after:
                if over.wait(0.02):
                    return
            if whom == "node":
                cluster.remove_node(second, allow_graceful=False)
            else:
                _kill_a_trainer()

        thread = threading.Thread(target=strike)
        thread.start()
        plan = arena.study.plan(SWEEP, workdir, execution__executor="ray", **OFTEN)
        how: dict[str, Any] = {"stores": arena.study.stores, "about": {}, "profile_steps": None}
        with WorkdirLock(workdir) as lock:
            console = Console(quiet=True)
            outcome = run_sweep(plan, lock, ray_address=cluster.address, console=console, **how)
        over.set()
        thread.join()
    finally:
        over.set()
        ray.shutdown()
        cluster.shutdown()
    if outcome.failures:
        raise Wrong(f"a lost {whom}: {outcome.failures}")
    agree(workdir, arena.long)
    finish(arena, workdir)
    return f"same: a {whom} lost"


def _kill_a_trainer() -> None:
    """kill -9 of a process of this user in which Ray trains an edge for this test."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (folder / "cmdline").read_bytes()
            if name.startswith(b"ray::train_edge") and _is_ours(int(folder.name)):
                os.kill(int(folder.name), signal.SIGKILL)
                return


def _is_ours(pid: int) -> bool:
    """Whether a process descends from this one."""
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return False
