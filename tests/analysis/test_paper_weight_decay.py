"""What experiments/paper/weight_decay claims follows from its records and from the headline's."""

import re

import pytest
from places import ROOT

from replay_jax.analysis.advice.compare import compare
from replay_jax.analysis.runs.records import load_records, stored_analysis
from replay_jax.analysis.study.analyse import analyse_anyway

FOLDER = ROOT / "experiments/paper/weight_decay"
DECAY = "optimizer.weight_decay"


def spelled(found):
    """A value with its interval as the pages write it, without a zero before the point."""
    numbers = [f"{x:.3f}" for x in (found.value, found.low, found.high)]
    value, low, high = (re.sub(r"^(-?)0\.", r"\1.", number) for number in numbers)
    return f"{value} ({low} to {high})"


@pytest.fixture(scope="module")
def records():
    own = load_records(FOLDER / "results.jsonl")
    beside = [
        record
        for record in load_records(FOLDER.parent / "headline" / "results.jsonl")
        if (record["target"], record["protocol"]) == ("gsm8k_train", "two_stage")
    ]
    return own, beside


@pytest.fixture(scope="module")
def study(records):
    own, beside = records
    replayed = [record for record in beside if record["replay_fraction"]["requested"]]
    analysis = stored_analysis(own[0]["config"]["analysis"])
    return analyse_anyway([*own, *replayed], analysis).targets[0]


@pytest.fixture(scope="module")
def text():
    return " ".join((FOLDER / "README.md").read_text().split())


def test_runs_of_both_studies_are_the_same_to_the_last_digit(records):
    own, beside = records
    losses = {record["id"]: record["losses"] for record in own}
    both = [record for record in beside if record["id"] in losses]
    assert len(own) == 36 and len(both) == 3
    assert all(record["losses"] == losses[record["id"]] for record in both)


def test_the_table_follows_from_the_records(study, text):
    rows = 0
    for cell in study.cells:
        shown = []
        for setting in sorted(cell.settings, key=lambda setting: setting.target_epochs):
            seeds = " ".join(f"{loss:.3f}" for loss in setting.target_by_seed)
            shown += [seeds, f"{setting.target_loss:.3f}", f"{setting.generic_loss:.3f}"]
        rho = cell.key.replay_fraction
        name = f"ρ = {rho:g}" if rho else dict(cell.key.axes)[DECAY]
        if rho:
            shown += ["", "", ""]
        line = " | ".join([re.sub(r"\b0\.", ".", name), *shown])
        assert f"| {' '.join(line.split())} |" in text, line
        rows += 1
    assert rows == 6 + 4


def test_the_gains_follow_from_the_records(study, text):
    alone = [i for i, cell in enumerate(study.cells) if not cell.key.replay_fraction]
    replayed = [i for i, cell in enumerate(study.cells) if cell.key.replay_fraction]
    (usual,) = (i for i in alone if dict(study.cells[i].key.axes)[DECAY] == "0.1")
    for own, others in ((alone, [usual]), (replayed, [usual]), (replayed, alone)):
        assert spelled(compare(study, own, others).gain) in text
