"""A run stopped early: which state judges which document, and what records say of it."""

import json

import numpy as np
import pytest
from tiny_sweep import results_of

from replay_jax.commands.main import main
from replay_jax.sweep.results.stopping import chosen_states


def test_no_state_is_judged_by_the_documents_that_chose_it():
    # Even documents are best at state 1, odd ones at state 2.
    nats = [[5, 5, 5, 5], [1, 4, 1, 4], [3, 2, 3, 2]]
    own, chosen = chosen_states(nats)
    assert chosen == (2, 1)
    assert own.tolist() == [2, 1, 2, 1]
    # All agree: both halves choose it; of equals the first.
    assert chosen_states([[9, 9], [1, 1], [1, 1]])[1] == (1, 1)


def test_luck_is_not_taken_for_a_gain():
    """States that are all alike but for the luck of documents: the least is lower, this is not."""
    rng = np.random.default_rng(0)
    gains, naive = [], []
    for _ in range(400):
        nats = 3.0 + 0.1 * rng.standard_normal((10, 40))
        own, _ = chosen_states(nats)
        gains.append(nats[own, np.arange(40)].mean() - 3.0)
        naive.append(nats.mean(axis=1).min() - 3.0)
    error = np.std(gains) / np.sqrt(len(gains))
    assert abs(np.mean(gains)) < 3 * error < 0.003
    assert np.mean(naive) < -0.02


def test_records_say_what_stopping_early_gives(finished_sweep):
    for record in results_of(finished_sweep).values():
        said = record["early_stopping"]
        curve = {point["step"]: point for point in record["curve"]}
        states = [curve[step] for step in said["steps"]]
        generic = np.mean([state["generic"] for state in states])
        assert said["losses"]["generic"] == pytest.approx(generic, abs=1e-4)
        if states[0] == states[1]:
            assert said["losses"]["target"] == pytest.approx(states[0]["target"], abs=1e-4)
        for role in ("target", "generic"):
            documents = record["loss_documents"][role]
            assert len(said["nats"][role]) == len(documents["document"])
            loss = sum(said["nats"][role]) / sum(documents["tokens"])
            assert loss == pytest.approx(said["losses"][role], abs=1e-4)


def test_the_command_judges_runs_by_it_and_says_so(finished_sweep, capsys):
    assert main(["recommend", str(finished_sweep), "--early_stopping", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "early stopping" in said["cautions"]
    assert any("best state" in reason for reason in said["reasons"])
