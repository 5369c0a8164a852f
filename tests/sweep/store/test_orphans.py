"""What no run needs any more is found with its size, and goes; what some run needs stays."""

import json
import shutil
from pathlib import Path

import pytest

from replay_jax.commands.main import main
from replay_jax.sweep.store.orphans import bytes_in_words, orphans
from replay_jax.sweep.store.stored_run import run_fact, write_runs
from replay_jax.sweep.store.workdir import WorkStore

RHO = "schedule.replay_fraction"


def save(store: WorkStore, digest: str, size: int) -> Path:
    """A folder that counts as a complete state."""
    folder = Path(store.state_path(digest))
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "array").write_bytes(b"0" * size)
    (folder / "commit_success.txt").touch()
    return folder


@pytest.fixture
def begun(study, tmp_path):
    """A sweep of two runs that has begun: its store and plan, nothing trained."""
    plan, store = study.plan([{RHO: 0.0}, {RHO: 0.5}], tmp_path), WorkStore(tmp_path)
    store.create({})
    write_runs(store, [run_fact(plan, number) for number in range(2)], {})
    return store, plan


def names(store):
    return {orphan.path.name: orphan.size for orphan in orphans(store)}


def test_states_of_an_edited_sweep_and_cut_off_saves_go(begun, tmp_path, capsys):
    store, plan = begun
    inside = plan.runs[0].node(3).digest
    kept = [save(store, plan.edges[0].stop.digest, 10), save(store, inside, 10)]
    save(store, "ab" * 16, 2_000)
    (save(store, "cd" * 16, 300) / "commit_success.txt").unlink()
    save(store, "ef" * 16, 4).rename(tmp_path / "damaged")
    shutil.move(tmp_path / "damaged", tmp_path / "x")
    (tmp_path / "damaged").mkdir()
    shutil.move(tmp_path / "x", tmp_path / "damaged" / "ef-0")
    assert names(store) == {"ab" * 16: 2_000, "cd" * 16: 300, "ef-0": 4}
    assert main(["gc", str(tmp_path), "--dry_run"]) == 0
    assert "3 folders, 2.3 kB: may go" in capsys.readouterr().out
    assert len(orphans(store)) == 3
    assert main(["gc", str(tmp_path)]) == 0
    assert "3 folders, 2.3 kB: deleted" in capsys.readouterr().out
    assert orphans(store) == [] and all(folder.exists() for folder in kept)


def test_what_a_run_that_failed_for_good_began_from_goes(begun):
    store, plan = begun
    (first, *ends) = plan.edges
    folder = save(store, first.stop.digest, 7)
    for edge in ends:
        fact = {"kind": "transient", "reason": "", "runs": []}
        store.write_failure(edge.stop.digest, fact)
    assert orphans(store) == []
    for edge in ends[:1]:
        store.write_failure(edge.stop.digest, {**fact, "kind": "deterministic"})
    # The other run still goes on from there.
    assert orphans(store) == []
    for edge in ends:
        store.write_failure(edge.stop.digest, {**fact, "kind": "deterministic"})
    assert names(store) == {folder.name: 7}


def test_kept_ends_are_no_orphans(begun, tmp_path):
    store, plan = begun
    save(store, plan.edges[-1].stop.digest, 7)
    for run in plan.runs:
        (tmp_path / "results" / f"{run.id}.json").write_text("{}")
        path = tmp_path / "runs" / f"{run.id}.json"
        fact = json.loads(path.read_text())
        fact["config"]["execution"]["keep_states"] = True
        path.write_text(json.dumps(fact))
    assert orphans(store) == []


def test_sizes_in_words():
    assert [bytes_in_words(n) for n in (7, 2_304, 1.5e9)] == ["7 bytes", "2.3 kB", "1.5 GB"]
