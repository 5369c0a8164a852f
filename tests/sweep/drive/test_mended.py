"""Doing what a refusal says mends what was damaged; tools/torture.py tries it on every file."""

import json
import re
from pathlib import Path

import pytest
from tiny_sweep import results_of

from replay_jax.errors import UserError
from replay_jax.sweep.results.verify import verify


def test_what_is_gone_says_what_brings_it_back(study, tmp_path):
    study.train([{}], tmp_path, here=True)
    before = results_of(tmp_path)
    for folder in ("results", "environments"):
        for path in (tmp_path / folder).glob("*.json"):
            path.unlink()
    with pytest.raises(UserError, match=r"environments/\w+.json is gone") as refused:
        study.train([{}], tmp_path, here=True)
    Path(re.search(r"delete (\S+)", str(refused.value))[1]).unlink()
    study.train([{}], tmp_path, here=True)
    assert results_of(tmp_path) == before and verify(tmp_path) == ([], 1)
    # Where a span is gone `run` has the result all the same; verify says how to get it back.
    span = min((tmp_path / "segments").glob("*.json"))
    span.unlink()
    (said,) = verify(tmp_path)[0]
    assert span.name in said
    Path(re.search(r"delete (\S+\.json)", said)[1]).unlink()
    study.train([{}], tmp_path, here=True)
    assert results_of(tmp_path) == before and verify(tmp_path) == ([], 1) and span.exists()
    # Without the names of the documents a result would lack their losses, and say nothing of it.
    places = sorted((tmp_path / "evaluations").glob("*.json"))
    (documents, *_) = (path for path in places if "document" in json.loads(path.read_text()))
    documents.unlink()
    for path in (tmp_path / "results").glob("*.json"):
        path.unlink()
    with pytest.raises(UserError, match=f"{documents.name} is gone") as refused:
        study.train([{}], tmp_path, here=True)
    Path(re.search(r"delete (\S+\.json)", str(refused.value))[1]).unlink()
    study.train([{}], tmp_path, here=True)
    assert results_of(tmp_path) == before and verify(tmp_path) == ([], 1) and documents.exists()


def test_a_place_that_cannot_be_written_to_is_one_sentence(study, tmp_path):
    (tmp_path / "workers").write_text("a file where the workers' logs go")
    with pytest.raises(UserError, match=f"cannot write .*workers.* {tmp_path}: File exists"):
        study.train([{}], tmp_path)
