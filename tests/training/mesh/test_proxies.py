"""Hosts find each other although the environment names a proxy of the web."""

import os

import jax
import pytest

from replay_jax.training.mesh.hosts import Cluster, connect


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, "nothing said"),
        ({"http_proxy": "p"}, "10.0.0.2"),
        ({"https_proxy": "p", "no_proxy": "localhost,.local"}, "localhost,.local,10.0.0.2"),
        ({"http_proxy": "p", "no_grpc_proxy": "a", "no_proxy": "b"}, "a,10.0.0.2"),
    ],
)
def test_the_coordinator_is_no_web_address(monkeypatch, given, kept):
    for name in ("no_proxy", "no_grpc_proxy", "http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_grpc_proxy", "")  # so that it is restored
    monkeypatch.delenv("no_grpc_proxy")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen = []
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setattr(
        jax.distributed,
        "initialize",
        lambda *_, **__: seen.append(os.environ.get("no_grpc_proxy", "nothing said")),
    )
    connect(Cluster("10.0.0.2:8476", 2, 0), timeout=1.0, preemption_service=False)
    assert seen == [kept]
