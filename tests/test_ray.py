"""Edges on a Ray cluster of two nodes, one of which is lost in mid-sweep."""

import threading

import pytest
from rich.console import Console
from tiny_sweep import make_study, results_of, use_one_device

from replay_jax.sweep.engine import run_sweep
from replay_jax.sweep.grid import grid

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'replay-jax[ray]'")

SWEEP = grid({"seed": [0, 1]}, {"schedule.replay_fraction": [0.0, 0.5]})
LONG = {"schedule__total_steps": 60, "schedule__target_epochs": 10.0, "checkpoint__every": 5}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", "")
        use_one_device(tmp_path_factory.getbasetemp().parent)
        yield make_study(tmp_path_factory.mktemp("corpora"))


@pytest.fixture()
def cluster():
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_losing_a_node_in_mid_sweep_changes_nothing(study, cluster, tmp_path):
    study.train(SWEEP, tmp_path / "local", **LONG)
    second = cluster.add_node(num_cpus=1)
    lost, over = threading.Event(), threading.Event()

    def lose_a_node():
        while len(list((tmp_path / "ray" / "segments").glob("*.json"))) < 4:
            if over.wait(0.02):
                return
        cluster.remove_node(second, allow_graceful=False)
        lost.set()

    thread = threading.Thread(target=lose_a_node)
    thread.start()
    plan = study.plan(SWEEP, tmp_path / "ray", execution__executor="ray", **LONG)
    outcome = run_sweep(
        plan,
        tmp_path / "ray",
        stores=study.stores,
        ray_address=cluster.address,
        profile_steps=None,
        console=Console(quiet=True),
    )
    over.set()
    thread.join()
    assert lost.is_set() and outcome.failures == () and outcome.workers == 2
    assert results_of(tmp_path / "ray") == results_of(tmp_path / "local")
    assert list((tmp_path / "ray" / "states").iterdir()) == []
