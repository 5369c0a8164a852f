"""Edges on a Ray cluster of two nodes, one of which is lost in mid-sweep."""

import json
import threading

import pytest
from rich.console import Console
from tiny_sweep import BATCH, results_of

from replay_jax.config.grid import grid
from replay_jax.sweep.drive.engine import run_sweep
from replay_jax.sweep.executors.local.settings import jax_settings
from replay_jax.sweep.plan.measured import evaluation_steps
from replay_jax.sweep.results.record import build_result
from replay_jax.sweep.store.environment import software
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.job import make_job
from replay_jax.sweep.train.messages import Ended

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'replay-jax[ray]'")

from replay_jax.sweep.executors.ray.board import Board  # noqa: E402
from replay_jax.sweep.executors.ray.remote import train_on_hosts  # noqa: E402

# One cluster at a time.
pytestmark = pytest.mark.xdist_group("ray")

SWEEP = grid({"seed": [0, 1]}, {"schedule.replay_fraction": [0.0, 0.5]})
LONG = {"schedule__total_steps": 60, "schedule__target_epochs": 10.0, "checkpoint__every": 5}


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
    study.train(SWEEP, tmp_path / "local", here=True, **LONG)
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
    with WorkdirLock(tmp_path / "ray") as lock:
        outcome = run_sweep(
            plan,
            lock,
            stores=study.stores,
            about={},
            ray_address=cluster.address,
            profile_steps=None,
            console=Console(quiet=True),
        )
    over.set()
    thread.join()
    assert lost.is_set() and outcome.failures == () and outcome.workers == 2
    assert results_of(tmp_path / "ray") == results_of(tmp_path / "local")
    assert list((tmp_path / "ray" / "states").iterdir()) == []


def test_the_hosts_of_an_edge_form_one_jax_cluster(study, cluster, tmp_path):
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(
        address=cluster.address,
        runtime_env={"env_vars": jax_settings(tmp_path, 1)},
        log_to_driver=False,
    )
    plan = study.plan([{"mesh.replica": 2, "seed": 0}], tmp_path)
    store = WorkStore(tmp_path)
    store.create({})
    job = make_job(plan, plan.tasks[0], store=store, stores=study.stores, accept_environment=False)
    group = ray.util.placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")
    ray.get(group.ready())
    board = ray.remote(Board).options(num_cpus=0).remote(software())
    end = train_on_hosts(str(tmp_path), 0, job, None, board, group=group, hosts=2)
    assert end == Ended(0, 12, True)
    # Both hosts counted their half of every batch, and together what was planned.
    (first, *_) = store.history(job.stop)
    halves = [[[0, BATCH // 2]], [[BATCH // 2, BATCH]]]
    assert [span["batch_rows"] for span in first.realised] == halves
    (run,) = plan.runs
    sharing, steps = [1] * len(store.history(job.stop)), evaluation_steps(run)
    record = build_result(run, store=store, sharing=sharing, steps=steps)
    study.train([{"seed": 0}], tmp_path / "local", here=True)
    (alone,) = results_of(tmp_path / "local").values()
    assert json.loads(json.dumps(record["ledger"])) == alone["ledger"]
    # Two devices add in another order than one.
    assert record["losses"] == pytest.approx(alone["losses"], rel=1e-5)
