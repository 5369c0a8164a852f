"""What experiments/ claims follows from the records that lie beside the claim."""

import re
from pathlib import Path

import pytest

from replay_jax.analysis.analyse import analyse
from replay_jax.analysis.recommend import recommend
from replay_jax.analysis.records import AnalysisConfig, load_records
from replay_jax.strict import from_plain

FOLDER = Path(__file__).parents[1] / "experiments" / "quickstart"


@pytest.fixture(scope="module")
def study():
    records = load_records(FOLDER / "results.jsonl")
    config = from_plain(AnalysisConfig, records[0]["config"]["analysis"], path="analysis")
    return analyse(records, config)


def test_the_quickstart_table_follows_from_its_records(study):
    rows = re.findall(
        r"^\| ([\d,]+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \| (.*) \|$",
        (FOLDER / "README.md").read_text(),
        re.MULTILINE,
    )
    cells = {(c.key.target_tokens, c.key.replay_fraction): c for c in study.targets[0].cells}
    assert len(rows) == len(cells) == 9
    for tokens, rho, epochs, target, generic, worth in rows:
        cell = cells[int(tokens.replace(",", "")), float(rho)]
        assert cell.chosen.target_epochs == int(epochs)
        assert f"{cell.chosen.target_loss:.3f}" == target
        assert f"{cell.chosen.generic_loss:.3f}" == generic
        if worth[0].isdigit():
            assert cell.multiplier is not None
            low, high = cell.multiplier.low, cell.multiplier.high
            assert worth == f"{cell.multiplier.value:.2f} ({low:.2f} to {high:.2f})"


def test_a_next_seed_changes_the_data_with_the_model(study):
    """The sweep varies seed and data_seed together; advice must not vary one alone."""
    runs = [run for option in recommend(study).next_runs for run in option.runs]
    assert runs
    assert all(run["data_seed"] == run["seed"] for run in runs)
