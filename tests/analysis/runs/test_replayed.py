"""Studies of what is replayed: every choice against one run without replay, which counts once."""

import numpy as np
import pytest

from replay_jax.analysis.advice.along import axes_of
from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import record
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.groups import group_records
from replay_jax.report.advice import advise
from replay_jax.report.answer import answers

CONFIG = AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), 0.9)
# Target loss at a replay fraction of .5, generic source and objective; .4 nat below none at best.
CHOICES = {("web", "next_token"): 3.8, ("web", "kl"): 3.6, ("own", "next_token"): 4.1}
NONE = 4.0


def run(generic, objective, rho, seed, loss, **changes):
    luck = 0.01 * np.random.default_rng([seed, int(100 * rho), len(generic + objective)]).normal()
    made = record(
        protocol="continual", replay_fraction=rho, seed=seed, target_loss=loss + luck,
        generic_loss=3.0 + rho / 10, generic=generic, **changes,
    )  # fmt: skip
    told = {"data.generic": generic, "training.generic_objective": objective}
    made["overrides"] |= told
    return {**made, "id": f"{generic} {objective} {rho} {seed}"}


@pytest.fixture(scope="module")
def records():
    found = [
        run(*choice, 0.5, seed, loss) for choice, loss in CHOICES.items() for seed in (0, 1, 2)
    ]
    return [*found, *(run("web", "next_token", 0.0, seed, NONE) for seed in (0, 1, 2))]


@pytest.fixture(scope="module")
def study(records):
    return analyse(records, CONFIG)


def test_each_replay_is_compared_with_none(study):
    gains = {
        dict(cell.key.axes)["replay"]: cell.gain.value
        for cell in study.target().cells
        if cell.key.replay_fraction
    }
    wanted = {"web": 0.2, "web by KL": 0.4, "own": -0.1}
    assert gains == {name: pytest.approx(gain, abs=0.03) for name, gain in wanted.items()}
    answers = recommend_every_group(study, "gsm8k")
    assert len(answers) == 3
    assert "replay web by KL" in answers[0].sentence
    assert answers[0].overrides["training.generic_objective"] == "kl"
    (along,) = [axis for axis in axes_of(study) if axis.key == "replay"]
    assert {at.value for line in along.lines for at in line.gains} == wanted.keys()


def test_the_run_without_replay_counts_once_in_the_noise(records, study):
    """Three cells have it; what is known about seeds is known of four settings, not of six."""
    found = study.target()
    assert len(found.cells) == 6
    losses = np.array(
        [[r["losses"]["target"] for r in records[first : first + 3]] for first in (0, 3, 6, 9)]
    )
    rest = losses - losses.mean(0) - losses.mean(1)[:, None] + losses.mean()
    # Of all runs alike, as where nothing tells kinds of run apart.
    own = np.sqrt((rest**2).sum() / 6)
    assert found.noise == pytest.approx(own, rel=0.5)
    (answer,) = answers(study, advise(study))
    assert "· 12 runs · 3 seeds" in answer.basis
    shared = [cell for cell in found.cells if not cell.key.replay_fraction]
    drawn = found.draws.target[:, [found.cells.index(cell) for cell in shared]]
    assert np.ptp(drawn, axis=1).max() == 0


def test_a_run_without_replay_that_was_listed_for_every_source_is_one(records, study):
    """They end in one state, by which they are known."""
    ended = [{**each, "history": [{"state": each["id"]}]} for each in records]
    again = [
        {
            **each,
            "id": f"{each['id']} again",
            "overrides": {**each["overrides"], "data.generic": "own"},
        }
        for each in ended
        if each["replay_fraction"]["requested"] == 0
    ]
    twice = analyse([*ended, *again], CONFIG).target()
    once = study.target()
    assert [cell.key for cell in twice.cells] == [cell.key for cell in once.cells]
    assert twice.noise == once.noise
    assert [cell.gain for cell in twice.cells] == [cell.gain for cell in once.cells]


def test_sources_of_earlier_stages_too_are_settings_of_their_own(records):
    """Where a run without replay draws generic rows, that of another source is no other's."""
    staged = [{**each, "protocol": "two_stage"} for each in records]
    (group,) = group_records(staged, CONFIG)
    assert sorted(dict(cell.key.axes)["replay"] for cell in group.cells) == [
        "own", "web", "web", "web by KL",
    ]  # fmt: skip


def test_one_source_goes_without_saying(records):
    alone = [each for each in records if each["overrides"]["training.generic_objective"] != "kl"]
    alone = [each for each in alone if each["generic"] == "web"]
    (group,) = group_records(alone, CONFIG)
    assert [cell.key.axes for cell in group.cells] == [(), ()]
