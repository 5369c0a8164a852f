"""Sources of replay compared in one study: judged by one text, against one run without replay."""

import json

import pytest
from tiny_sweep import RHO, TinyStudy

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.study.analyse import analyse
from replay_jax.config.experiment import resolve
from replay_jax.config.grid import chain, grid
from replay_jax.data.tokens.prepare import prepare
from replay_jax.errors import UserError
from replay_jax.library.gathering import gather
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.results.verify_data import verify_data

CONTINUAL = {
    "schedule__protocol": "continual", "schedule__total_steps": None, "training__evaluate_every": 0,
}  # fmt: skip
JUDGED = {**CONTINUAL, "data__held_out_generic": "generic"}
GENERIC = "data.generic"
SWEEP = chain(grid({GENERIC: ["generic", "other"]}, {RHO: [0.0, 0.5]}))


@pytest.fixture(scope="module")
def sources(study):
    """The tiny study with a third source, of the first one's text in capitals."""
    config = study.config.copy_and_resolve_references()
    text = open(config.data.sources.generic.path).read()
    path = config.data.sources.generic.path.replace("generic.jsonl", "other.jsonl")
    with open(path, "w") as file:
        file.writelines(json.dumps({"text": json.loads(line)["text"].upper()}) + "\n"
                        for line in text.splitlines())  # fmt: skip
    config.data.sources.other = {**config.data.sources.generic.to_dict(), "path": path}
    return TinyStudy(config, prepare(resolve(config.to_dict()).data, None))


@pytest.fixture(scope="module")
def trained(sources, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sources")
    outcome = sources.train(SWEEP, workdir, here=True, **JUDGED)
    assert (outcome.failures, outcome.results) == ((), 4)
    return workdir


def test_one_text_judges_runs_whatever_they_replay(sources, trained):
    plan = sources.plan(SWEEP, None, **JUDGED)
    none, own, again, other = plan.runs
    assert (none.chain == again.chain).all() and plan.steps_planned == none.steps + 2 * own.steps
    judged = {run.id for run in plan.runs} & {
        run.id for run in sources.plan(SWEEP, None, **CONTINUAL).runs
    }
    assert not judged
    records = [json.loads(line) for line in (trained / "results.jsonl").read_text().splitlines()]
    assert len({record["evaluation"] for record in records}) == 1
    by_run = {(r["overrides"][GENERIC], r["overrides"][RHO]): r["losses"] for r in records}
    assert by_run["generic", 0.0] == by_run["other", 0.0]
    # Capitals teach nothing of small letters.
    assert by_run["generic", 0.5]["generic"] < by_run["other", 0.5]["generic"] - 0.1
    assert verify(trained) == ([], 4) and verify_data(trained).differences == []


def test_the_study_says_what_each_source_is_worth(trained):
    found = gather([trained]).study.target()
    places = [(dict(cell.key.axes)["replay"], cell.key.replay_fraction) for cell in found.cells]
    assert sorted(places) == [("generic", 0.0), ("generic", 0.5), ("other", 0.0), ("other", 0.5)]
    for cell in (each for each in found.cells if each.key.replay_fraction):
        baseline = found.cells[cell.baseline]
        assert baseline.key.axes == cell.key.axes and baseline.key.replay_fraction == 0
    costs = {dict(c.key.axes)["replay"]: c.generic_cost.value for c in found.cells if c.gain}
    assert costs["generic"] < costs["other"] - 0.1


def test_sources_that_are_judged_apart_do_not_compare(sources, trained):
    records = [json.loads(line) for line in (trained / "results.jsonl").read_text().splitlines()]
    apart = [{**r, "evaluation": r["overrides"][GENERIC]} for r in records]
    with pytest.raises(UserError, match="or let data.held_out_generic name one source"):
        analyse(apart, AnalysisConfig({"replay_fraction": 0.0}, (), 0.9))
    with pytest.raises(UserError, match="held_out_generic source 'thrid' is not among"):
        sources.plan([{}], None, data__held_out_generic="thrid")
    with pytest.raises(UserError, match="generic and target are both 'target'"):
        sources.plan([{}], None, data__held_out_generic="target")
