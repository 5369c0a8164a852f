"""The example of docs/data.md, trained: generic data of two sources."""

import json
import random
import re
import shutil

import pytest
from places import ROOT
from tiny_sweep import TinyStudy

from replay_jax.config.experiment import resolve
from replay_jax.config.recipe import load_recipe
from replay_jax.data.tokens.prepare import prepare
from replay_jax.report.tables.run_tables import generic_sources_table
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.results.verify_data import verify_data


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The study of the example, its sweep and the working directory of it."""
    folder = tmp_path_factory.mktemp("mixture")
    text = (ROOT / "docs/data.md").read_text().partition("## Generic data of several sources")[2]
    path = folder / "mixture.py"
    path.write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    words = random.Random(0)
    (folder / "data").mkdir()
    for name, letters, documents in (
        ("web", "abcdefgh", 300), ("code", "ijklmnop", 300), ("medicine", "stuvwxyz", 60)
    ):  # fmt: skip
        lines = [
            json.dumps({"text": " ".join("".join(words.choices(letters, k=4)) for _ in range(20))})
            for _ in range(documents)
        ]
        (folder / "data" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        recipe = load_recipe(path, {"execution.workers": 1, "execution.threads": 1})
        base = json.loads(json.dumps(recipe.base))
        for source in base["data"]["sources"].values():
            source["path"] = str(folder / source["path"])
        base["data"]["store_dir"] = str(folder / "stores")
        study = TinyStudy(_Config(base), prepare(resolve(base).data, None))
        outcome = study.train(recipe.sweep, folder / "work", here=True)
    assert (outcome.failures, outcome.results) == ((), 2)
    return study, recipe.sweep, folder / "work"


class _Config:
    """What `TinyStudy` asks a configuration for."""

    def __init__(self, plain):
        self._plain = plain

    def to_dict(self):
        return json.loads(json.dumps(self._plain))


def records(workdir):
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]


def test_the_ledger_counts_every_source(trained):
    _, _, workdir = trained
    for record in records(workdir):
        drawn = {entry["source"]: entry["sequences"] for entry in record["ledger"]["totals"]}
        assert drawn == {"code": 53, "medicine": 16, "web": 123}  # of 24 x 8
        assert record["generic"] == "0.3 code + 0.7 web"
        assert record["replay_fraction"]["requested"] == record["replay_fraction"]["realised"]


def test_runs_share_the_generic_stage(trained):
    study, sweep, _ = trained
    plan = study.plan(sweep, None)
    # Stage 2 has 16 target rows of a batch of 8: 2 steps without replay, 4 with as many of generic.
    assert [(edge.start.step, edge.stop.step) for edge in plan.edges][0] == (0, 20)
    assert plan.steps_planned == 20 + 4 + 4


def test_the_generic_loss_is_the_mean_by_weight_of_what_every_source_gave(trained):
    _, _, workdir = trained
    for record in records(workdir):
        web, code = (record["generic_sources"][name] for name in ("web", "code"))
        assert (web["share"], code["share"]) == (0.7, 0.3)
        assert web["loss"] != code["loss"]
        for field, own in (("losses", "loss"), ("bits_per_byte", "bits_per_byte")):
            mean = 0.7 * web[own] + 0.3 * code[own]
            assert record[field]["generic"] == pytest.approx(mean, rel=1e-12)
        assert record["loss_tokens"] == {"target": 256, "generic": 512}
        assert record["curve"][-1]["generic"] == record["losses"]["generic"]
        assert record["curve"][0]["train_generic"] > 0
        assert record["boundary"]["gradient_cosine"] is None
        by_document = record["loss_documents"]["generic"]
        mean = sum(by_document["nats"]) / sum(by_document["tokens"])
        assert mean == pytest.approx(record["losses"]["generic"], abs=1e-4)
        assert {name.split()[0] for name in by_document["document"]} == {"code", "web"}
    table = generic_sources_table(records(workdir))
    assert [row.cells[2:4] for row in table.rows[:2]] == [("code", "30 %"), ("web", "70 %")]


def test_verify_agrees_and_finds_another_weight(trained, tmp_path):
    _, _, workdir = trained
    assert verify(workdir) == ([], 2)
    found = verify_data(workdir)
    assert (found.differences, len(found.stores)) == ([], 3)
    copy = shutil.copytree(workdir, tmp_path / "copy")
    for path in (copy / "runs").glob("*.json"):
        fact = json.loads(path.read_text())
        assert fact["config"]["data"]["generic"] == [["code", 0.3], ["web", 0.7]]
        fact["config"]["data"]["generic"] = [["code", 0.4], ["web", 0.6]]
        path.write_text(json.dumps(fact))
    assert any("has the identity" in line for line in verify(copy)[0])


def test_one_source_of_weight_one_is_that_source(trained):
    study, _, _ = trained
    single, whole, ordered, other = (
        study.plan([{}], None, data__generic=generic).runs[0]
        for generic in ("web", {"web": 1.0}, {"code": 0.5, "web": 0.5}, {"web": 0.5, "code": 0.5})
    )
    assert single.id == whole.id
    assert (single.chain == whole.chain).all()
    assert single.ledger == whole.ledger
    assert ordered.id == other.id != single.id
