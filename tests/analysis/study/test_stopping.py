"""Runs judged by their best states: a study reads those losses, or refuses where there are none."""

from dataclasses import replace

import numpy as np
import pytest

from replay_jax.analysis.runs.records import AnalysisConfig, check_record
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.stopping import NOTE, stopped_early
from replay_jax.errors import UserError

CONFIG = AnalysisConfig({"protocol": "uniform"}, (), 0.9)
TOKENS = [50, 150]


def overfitted(records):
    """Records whose runs without replay were .1 nat better, and less forgetful, earlier."""
    for record in records:
        without = record["protocol"] == "two_stage" and not record["replay_fraction"]["requested"]
        losses = {role: loss - 0.1 * without for role, loss in record["losses"].items()}
        record["bits_per_byte"] = {role: loss / 2 for role, loss in record["losses"].items()}
        record["loss_documents"] = documents(record["losses"])
        nats = {role: said["nats"] for role, said in documents(losses).items()}
        record["early_stopping"] = {"steps": [3, 5], "losses": losses, "nats": nats}
    return records


def documents(losses):
    return {
        role: {"document": ["a", "b"], "tokens": TOKENS, "nats": [loss * n for n in TOKENS]}
        for role, loss in losses.items()
    }


def test_a_study_judges_every_run_by_its_best_state():
    records = overfitted(sweep(worth=lambda rho: 1 + rho, epochs=(16.0,), noise=0.005))
    check_record(records[0], "here")
    last = analyse(records, CONFIG, resamples=50).target()
    best = analyse(records, replace(CONFIG, early_stopping=True), resamples=50).target()
    assert NOTE in best.notes and NOTE not in last.notes
    for before, after in zip(last.cells, best.cells, strict=True):
        assert before.key == after.key
        gained = 0.1 if before.is_baseline else 0.0
        for old, new in ((before.chosen.target_loss, after.chosen.target_loss),
                         (before.chosen.generic_loss, after.chosen.generic_loss)):  # fmt: skip
            assert old - new == pytest.approx(gained, abs=1e-9)
    # What was given is as it was.
    assert analyse(records, CONFIG, resamples=50).target().cells[0].gain == last.cells[0].gain


def test_all_that_a_record_says_of_its_losses_goes_with_them():
    (record, *_) = overfitted(sweep(worth=lambda rho: 1.0, epochs=(16.0,)))
    (stopped,) = stopped_early([record])
    assert stopped["losses"] == record["early_stopping"]["losses"]
    for role, said in stopped["loss_documents"].items():
        assert np.isclose(sum(said["nats"]) / sum(said["tokens"]), stopped["losses"][role])
        assert stopped["bits_per_byte"][role] == pytest.approx(stopped["losses"][role] / 2)


def test_a_run_that_was_measured_at_its_end_alone_is_named():
    (record, *_) = sweep(worth=lambda rho: 1.0, epochs=(16.0,))
    with pytest.raises(UserError, match=r"measured at its end alone.*training\.evaluate_every"):
        analyse([record], replace(CONFIG, early_stopping=True))
    broken = {**record, "early_stopping": {"steps": [1, "2"], "losses": {}, "nats": {}}}
    with pytest.raises(UserError, match=r"early_stopping"):
        check_record(broken, "here")
