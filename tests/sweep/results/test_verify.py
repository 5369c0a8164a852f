"""`verify` finds what was changed: plan, configuration, counted rows, result, version."""

import json
import shutil

import pytest

from replay_jax.errors import UserError
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.results.verify_data import verify_data
from replay_jax.sweep.store.sealing import sealed, unsealed


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """A working directory with one finished run."""
    workdir = tmp_path_factory.mktemp("finished")
    assert study.train([{}], workdir, here=True, checkpoint__every=0).results == 1
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy that a test may spoil."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    assert verify(copy) == ([], 1)
    return copy


def spoil(path, change):
    """Change a fact on disk."""
    fact = json.loads(path.read_text())
    change(fact)
    path.write_text(json.dumps(fact))


def only(folder):
    """The one fact in a folder."""
    (path,) = folder.glob("*.json")
    return path


def found(workdir):
    differences, checked = verify(workdir)
    assert checked == 1
    return "\n".join(differences)


def test_another_configuration_leads_to_another_identity_and_state(workdir):
    spoil(only(workdir / "runs"), lambda fact: fact["config"]["optimizer"].update(b1=0.5))
    text = found(workdir)
    assert "its configuration has the identity" in text
    assert "its configuration leads to the state" in text


def test_a_stored_plan_that_does_not_follow_from_the_configuration(workdir):
    def one_more(fact):
        fact["ledger"]["totals"][0]["sequences"] += 1

    spoil(only(workdir / "runs"), one_more)
    assert "stored plan: " in found(workdir)


def test_a_result_that_claims_other_counts(workdir):
    def one_less(fact):
        fact["ledger"]["totals"][1]["sequences"] -= 1

    spoil(only(workdir / "results"), one_less)
    text = found(workdir)
    assert "stored result: " in text and "stored plan" not in text


def test_fewer_different_rows_than_the_budget(workdir):
    def one_twice(fact):
        (host,) = fact["realised"]
        target = next(count for count in host["counts"] if count["source"] == "target")
        target["rows"][0][0] = target["rows"][1][0]

    spoil(only(workdir / "segments"), one_twice)
    assert "target" in found(workdir)


def test_rows_in_another_order(workdir):
    def another_digest(fact):
        fact["realised"][0]["digest"] = "0" * 32

    spoil(only(workdir / "segments"), another_digest)
    assert found(workdir)


def test_one_sequence_fewer_than_planned(workdir):
    def fewer(fact):
        generic = fact["realised"][0]["counts"][0]
        assert generic["source"] == "generic"
        generic["sequences"] -= 1

    spoil(only(workdir / "segments"), fewer)
    assert "79" in found(workdir)


def test_a_result_that_claims_another_loss(workdir):
    def better(fact):
        fact["losses"]["target"] -= 1.0

    spoil(only(workdir / "results"), better)
    text = found(workdir)
    assert "stored result: losses.target is" in text and "results.jsonl: line 1 is not" in text


def test_training_is_counted_in_flops_which_earlier_records_lack(workdir):
    plan = json.loads(only(workdir / "runs").read_text())
    path = only(workdir / "results")
    record = unsealed(json.loads(path.read_text()))
    assert record["flops"] == plan["flops"] > 0
    path.write_text(json.dumps(sealed({**record, "flops": 2 * record["flops"]})))
    assert "stored result: flops is" in found(workdir)
    del record["flops"]
    path.write_text(json.dumps(sealed(record)))
    (workdir / "results.jsonl").write_text(json.dumps(record) + "\n")
    assert verify(workdir) == ([], 1)


def test_a_result_that_claims_other_versions(workdir):
    spoil(only(workdir / "results"), lambda fact: fact["versions"].update(jax="0.4.1"))
    assert 'stored result: versions.jax is "0.4.1", not' in found(workdir)


def test_an_evaluation_that_was_changed(workdir):
    (path, *_) = sorted((workdir / "evaluations").glob("*.json"))
    spoil(path, lambda fact: fact.update(environment="00"))
    assert f"evaluations/{path.name} was changed after it was written" in found(workdir)


def test_an_environment_that_was_changed(workdir):
    path = only(workdir / "environments")
    spoil(path, lambda fact: fact["machine"].update(device="TPU v4"))
    assert f"environments/{path.name} was changed after it was written" in found(workdir)


def test_published_lines_that_are_not_the_results(workdir):
    path = workdir / "results.jsonl"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    assert "results.jsonl: line 1 is not the result of run" in found(workdir)
    path.write_text("")
    assert "results.jsonl lacks run" in found(workdir)


def test_a_span_that_is_missing(workdir):
    span = only(workdir / "segments")
    span.unlink()
    assert f"segments/{span.name}, a record of what it consumed, is missing" in found(workdir)


def test_a_directory_of_another_version_is_refused_in_words(workdir):
    spoil(workdir / "workdir.json", lambda fact: fact.update(format=1))
    with pytest.raises(UserError, match="format 1 and this version knows format 4"):
        verify(workdir)


def test_a_run_that_another_version_stored_says_how_to_store_it_anew(workdir):
    """Versions before this one knew no tasks; repeating the command writes the facts again."""
    spoil(only(workdir / "runs"), lambda fact: fact["config"].pop("tasks"))
    with pytest.raises(UserError, match="stored by another version .*config.tasks.*stores it anew"):
        verify(workdir)


@pytest.fixture
def stores(workdir, study, tmp_path):
    """A copy of the stores that a test may spoil, and that the runs of `workdir` name."""
    copy = tmp_path / "stores"
    shutil.copytree(study.config.data.store_dir, copy)
    for path in (workdir / "runs").glob("*.json"):
        spoil(path, lambda fact: fact["config"]["data"].update(store_dir=str(copy)))
    return copy


def test_text_is_compared_where_it_is_asked_for(workdir, stores):
    found = verify_data(workdir)
    assert (found.differences, len(found.stores), found.spans, found.uncounted) == ([], 2, 1, 0)


def test_a_target_of_zeros_is_found_by_checksum_and_by_what_was_trained_on(workdir, stores):
    (target,) = (path for path in stores.glob("target-*") if path.is_dir())
    shard = json.loads((target / "manifest.json").read_text())["shards"][0]["folder"]
    tokens = target / shard / "train.tokens"
    tokens.write_bytes(bytes(tokens.stat().st_size))
    assert verify(workdir) == ([], 1)  # looks at no text
    lines = "\n".join(verify_data(workdir).differences)
    assert "train.tokens" in lines and "the tokens consumed (digest" in lines


def test_text_that_is_gone_is_a_difference(workdir, stores):
    (target,) = (path for path in stores.glob("target-*") if path.is_dir())
    (target / "manifest.json").unlink()
    found = verify_data(workdir)
    (line,) = found.differences
    assert line.startswith("the store of 'target' that was trained on") and str(stores) in line
    assert (len(found.stores), found.spans) == (1, 0)


def test_spans_without_checksums_of_tokens_are_named_and_no_difference(workdir, stores):
    path = only(workdir / "segments")
    fact = unsealed(json.loads(path.read_text()))
    del fact["realised"][0]["tokens"]
    path.write_text(json.dumps(sealed(fact)))
    found = verify_data(workdir)
    assert (found.differences, found.uncounted) == ([], 1)
