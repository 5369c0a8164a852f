"""A project of W&B through a stand-in for its public API."""

import json
import sys

import pytest
from fake_wandb import FakeWandb
from places import ROOT

from replay_jax.analysis.sources.logged import Logged, table_of
from replay_jax.analysis.sources.wandb_runs import read_wandb
from replay_jax.errors import UserError
from replay_jax.library.analysing.places import Spoken, analyse_wandb
from replay_jax.sweep.drive.trackers import send_to_wandb


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def finished(wandb, number, config, summary, state="finished"):
    run = wandb.init(id=str(number), name=f"run-{number}", project="p", config=config)
    run.summary, run.state = summary, state


def sweep(wandb):
    """Budgets of 1, 2, 4 thousand tokens without replay, one of them with, two seeds."""
    number = 0
    for tokens, rho in ((1000, 0.0), (2000, 0.0), (4000, 0.0), (2000, 0.5)):
        for seed in (0, 1):
            number += 1
            loss = 4.0 - 0.4 * tokens / 2000 - 0.2 * rho + 0.01 * seed
            config = {"data": {"target_tokens": tokens, "rho": rho}, "seed": seed,
                      "loss": "cross_entropy", "layers": [2, 2]}  # fmt: skip
            summary = {"eval": {"nll": loss}, "loss": 9.0 - loss, "_step": 100 + number}
            finished(wandb, number, config, summary)


def test_settings_and_last_values_become_columns(wandb):
    sweep(wandb)
    finished(wandb, 99, {}, {"eval": {"nll": 1.0}}, state="crashed")
    found = analyse_wandb("team/p", Spoken(columns={"target_loss": "eval.nll"}))
    assert wandb.asked == [("team/p", False)]
    assert found.folder.name == "p_report" and len(found.records) == 8
    assert found.records[0]["losses"]["target"] == 3.8  # not what is called loss
    assert found.records[0]["name"] == "run-1"
    assert found.notes[0] == "left out, because W&B does not call them finished: run-99 (crashed)"
    (target,) = found.study.targets
    assert {(c.key.target_tokens, c.key.replay_fraction) for c in target.cells} == {
        (1000, 0), (2000, 0), (4000, 0), (2000, 0.5)}  # fmt: skip


@pytest.mark.parametrize(
    ("spoken", "words"),
    [
        (Spoken(columns={"target_loss": "eval.nil"}), "the nearest name is 'eval.nll'"),
        (Spoken(columns={"seed": "depth"}), "no run has 'depth'"),
        (Spoken(tuned=("layer",)), "no run has 'layer'; the nearest name is 'layers'"),
    ],
)
def test_the_nearest_name_is_said(wandb, spoken, words):
    sweep(wandb)
    with pytest.raises(UserError, match=words):
        analyse_wandb("team/p", spoken)


def test_what_is_not_there_or_not_clear_is_refused():
    def table(settings, values, **spoken):
        runs = [
            Logged(f"r{n}", s, v) for n, (s, v) in enumerate(zip(settings, values, strict=True))
        ]
        return table_of(runs, **{"named": {}, "own": (), "ignore": (), **spoken})

    good = {"budget": 10, "opt.seed": 1, "rho": 0.0}
    found = table([good], [{"eval/loss": 2.0}])
    assert found == {
        "target_tokens": [10], "replay_fraction": [0.0], "seed": [1], "target_loss": [2.0],
        "name": ["r0"],
    }  # fmt: skip
    both = table([{**good, "loss": "cross_entropy"}], [{"loss": 2.0, "opt.seed": 9}])
    assert (both["target_loss"], both["seed"]) == ([2.0], [1])
    with pytest.raises(UserError, match=r"no run has 'target_loss' .* the nearest is 'eval_lss'"):
        table([good], [{"eval_lss": 2.0}])
    with pytest.raises(UserError, match="opt.seed, data.seed all mean 'seed': say --column=seed="):
        table([{**good, "data.seed": 1}], [{"loss": 2.0}])
    with pytest.raises(UserError, match="differ between runs: lr; name each"):
        table([{**good, "lr": n} for n in (1, 2)], [{"loss": 2.0}] * 2)
    tuned = table([{**good, "opt.lr": n} for n in (1, "auto")], [{"loss": 2.0}] * 2, own=("lr",))
    assert tuned["lr"] == ["1", "auto"]
    with pytest.raises(UserError, match=r"numbers \(1\) and truth values \(True\)"):
        table([{**good, "opt.lr": n} for n in (1, True)], [{"loss": 2.0}] * 2, own=("lr",))


def test_a_run_of_ours_comes_back_whole(wandb, tmp_path):
    lines = (ROOT / "experiments/quickstart/results.jsonl").read_text().splitlines()
    record = json.loads(lines[0])
    send_to_wandb(record, tmp_path, "p")
    ((run,), notes) = read_wandb("team/p")
    assert run.record == record and notes == () and run.name == record["name"]


def test_faults_of_wandb_are_the_users_in_words(wandb, monkeypatch):
    with pytest.raises(UserError, match="no run of team/p has finished: W&B lists 0"):
        read_wandb("team/p")
    wandb.fault = ValueError("Could not find project p\nand more")
    with pytest.raises(UserError, match="W&B does not give team/p: Could not find project p$"):
        read_wandb("team/p")
    with pytest.raises(UserError, match="not of the form ENTITY/PROJECT"):
        read_wandb("p")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'replay-jax\[wandb\]'"):
        read_wandb("team/p")
