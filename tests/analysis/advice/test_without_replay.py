"""Losses without replay along an axis: each line changes nothing else, the best replay beside."""

from fake_records import GSM8K, FakeStudy, fake_records

from replay_jax.analysis.advice.without_replay import best_with_replay, losses_along
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.study.analyse import analyse_anyway

DECAY, EPOCHS = "optimizer.weight_decay", "schedule.target_epochs"
CONFIG = AnalysisConfig(reference={"replay_fraction": 0.0}, tuned=(EPOCHS,), level=0.9)
RUNS = [
    record
    for record in fake_records(
        FakeStudy((GSM8K,), seeds=(0, 1), allocations=(1.0,), candidate_budgets=(4096,))
    )
    if record["protocol"] != "uniform"
]


def at_decay(decay, change):
    """The runs without replay at a weight decay, their loss changed by so many nats."""
    return [
        record
        | {
            "id": f"{decay}{record['id']}",
            "overrides": record["overrides"] | {DECAY: decay},
            "losses": record["losses"] | {"target": record["losses"]["target"] + change},
        }
        for record in RUNS
        if not record["replay_fraction"]["requested"]
    ]


def studied(records):
    return analyse_anyway(records, CONFIG).targets[0]


def test_a_study_without_replay_has_a_line_for_every_other_choice():
    runs = at_decay(0.0, 0.0) + at_decay(0.1, -0.05) + at_decay(1.6, 0.02)
    study = studied(runs)
    found = {axis.key: axis.lines for axis in losses_along(study, ())}
    assert set(found) == {DECAY, EPOCHS}
    assert [line.label for line in found[DECAY]] == ["target epochs 8", "target epochs 16"]
    for line in found[DECAY]:
        assert [each.value for each in line.losses] == ["0", "0.1", "1.6"]
        none, little, much = (each.loss for each in line.losses)
        assert abs(little - none + 0.05) < 1e-12 and abs(much - none - 0.02) < 1e-12
        assert line.lowest == little
    assert len(found[EPOCHS]) == 3
    first = found[EPOCHS][0].losses[0]
    mine = [r for r in runs if r["overrides"][DECAY] == 0 and r["target_epochs"] == 8]
    assert sorted(first.by_seed) == sorted(r["losses"]["target"] for r in mine)
    assert losses_along(study, (DECAY, EPOCHS)) == ()
    assert best_with_replay(study) is None


def test_a_constant_mixture_is_not_called_a_schedule_without_replay():
    plain = at_decay(0.1, -0.05) + at_decay(0.0, 0.0)
    mixed = [run | {"id": f"m{run['id']}", "protocol": "uniform"} for run in plain]

    def said(runs):
        return {axis.key: axis.schedules for axis in losses_along(studied(runs), ())}

    assert said(plain) == dict.fromkeys((DECAY, EPOCHS), "without replay")
    assert said(mixed) == dict.fromkeys((DECAY, EPOCHS), "of constant mixtures")
    assert said(plain + mixed)[DECAY] == "without a stage that replays"


def test_the_best_that_replays_stands_beside_a_baseline_of_one_budget():
    study = studied(RUNS + at_decay(0.4, -0.05))
    (axis,) = losses_along(study, (EPOCHS,))
    assert axis.key == DECAY
    for line in axis.lines:  # of the runs that were told nothing, those without replay alone
        usual, decayed = line.losses
        assert abs(usual.loss - decayed.loss - 0.05) < 1e-12
    best = best_with_replay(study)
    replayed = [c for c in study.cells if c.key.replay_fraction > 0]
    assert best is min(replayed, key=lambda cell: cell.chosen.target_loss)
    more = [record | {"target_tokens": 8192, "id": f"m{record['id']}"} for record in RUNS]
    assert best_with_replay(studied(RUNS + more)) is None
