"""A generic source that runs out: an error with both numbers, unless repetition was asked for."""

import pytest
from tiny_sweep import BATCH, results_of

from replay_jax.errors import UserError
from replay_jax.sweep.results.verify import verify

# The small corpus as the generic one runs out after few steps.
STEPS = 50
SWAPPED = {"data__generic": "target", "data__target": "generic", "schedule__total_steps": STEPS}


def test_running_out_is_refused_before_training(study, tmp_path):
    rows = study.stores["target"].row_count("train", 16)
    drawn = STEPS * BATCH - 2 * BATCH
    assert drawn > rows
    with pytest.raises(UserError, match=f"{drawn} rows .*has {rows};.*data.repeat_generic"):
        study.plan([{}], tmp_path, **SWAPPED)


def test_repetition_that_was_asked_for_is_trained_and_counted(study, tmp_path):
    changes = {**SWAPPED, "data__repeat_generic": True}
    outcome = study.train([{}], tmp_path, here=True, training__evaluate_every=0, **changes)
    assert outcome.failures == () and outcome.results == 1
    (record,) = results_of(tmp_path).values()
    generic = {entry["source"]: entry for entry in record["ledger"]["totals"]}["target"]
    assert generic["sequences"] == STEPS * BATCH - 2 * BATCH
    assert generic["epochs"] == generic["sequences"] / study.stores["target"].row_count("train", 16)
    assert generic["epochs"] > 1
    assert verify(tmp_path) == ([], 1)


def test_permission_alone_changes_neither_identity_nor_states(study):
    plain, allowed = (study.plan([{}], None, data__repeat_generic=v) for v in (False, True))
    assert plain.runs[0].id == allowed.runs[0].id
    assert (plain.runs[0].chain == allowed.runs[0].chain).all()
