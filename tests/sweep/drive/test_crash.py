"""kill -9 of anything at any time: a sweep that was killed ends as if it never was.

One kill of each kind, one of them with two workers; tools/torture.py makes many more.
"""

import time

from killing import KINDS, LONG, SWEEP, killed_and_whole_agree, start

from replay_jax.sweep.store.known import saved_states
from replay_jax.sweep.store.workdir import WorkStore


def test_kills_of_every_kind_change_nothing(study, tmp_path):
    killed_and_whole_agree(study, tmp_path, kills=len(KINDS), seed=7, population=1)


def test_sigterm_saves_and_the_next_start_goes_on_from_there(study, tmp_path):
    plan = study.plan(SWEEP[:1], tmp_path, **LONG, checkpoint__every=0)
    process = start(plan, study.stores, tmp_path)
    metrics = tmp_path / "metrics"
    while process.is_alive() and not any(p.stat().st_size for p in metrics.glob("*/*.jsonl")):
        time.sleep(0.01)
    process.terminate()
    process.join()
    saved = saved_states(WorkStore(tmp_path))
    assert len(saved) == 1 and 0 < min(saved.values()) < 60
    assert study.plan(SWEEP[:1], tmp_path, **LONG).steps_remaining == 60 - min(saved.values())
