"""What experiments/ claims follows from the records that lie beside the claim."""

import re
from pathlib import Path

import pytest

from replay_jax.analysis.analyse import analyse
from replay_jax.analysis.recommend import recommend
from replay_jax.analysis.records import AnalysisConfig, load_records
from replay_jax.strict import from_plain

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FOLDER = EXPERIMENTS / "quickstart"


def study_in(folder):
    records = load_records(folder / "results.jsonl")
    config = from_plain(AnalysisConfig, records[0]["config"]["analysis"], path="analysis")
    return analyse(records, config)


@pytest.fixture(scope="module")
def study():
    return study_in(FOLDER)


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


def test_the_tables_of_the_controls_follow_from_their_records():
    folder = EXPERIMENTS / "quickstart_controls"
    text = (folder / "README.md").read_text()
    cells = {}
    for cell in study_in(folder).targets[0].cells:
        key = cell.key
        if key.target_tokens == 4096:
            cells[key.protocol, key.replay_fraction, key.allocation, key.axes] = cell
    rows = re.findall(
        r"^\| (?:ρ = ([\d.]+), α = ([\d.]+).*|(constant mixture)) "
        r"\| ([\d.]+) \| ([\d.]+) \| (.*) \|$",
        text,
        re.MULTILINE,
    )
    assert len(rows) == 10
    for rho, alpha, constant, target, generic, worth in rows:
        place = ("uniform", 0.0, 1.0) if constant else ("two_stage", float(rho), float(alpha))
        cell = cells[*place, ()]
        assert (f"{cell.chosen.target_loss:.3f}", f"{cell.chosen.generic_loss:.3f}") == (
            target,
            generic,
        )
        if worth != "1":
            low, high = cell.multiplier.low, cell.multiplier.high
            assert worth == f"{cell.multiplier.value:.2f} ({low:.2f} to {high:.2f})"
    for words, axis in (
        ("weight decay .8 instead of .1", "optimizer.weight_decay"),
        (
            "new warmup in stage 2 (a tenth, then to zero)",
            "schedule.stage2_learning_rate",
        ),
        ("fresh optimizer at the boundary", "schedule.stage2_optimizer"),
    ):
        losses = [
            f"{cell.chosen.target_loss:.3f}"
            for (_, _, _, axes), cell in sorted(cells.items(), key=lambda item: item[0][1])
            if [name for name, _ in axes] == [axis]
        ]
        assert f"| {words} | {' | '.join(losses)} |" in text


def test_the_table_of_placements_follows_from_its_records():
    folder = EXPERIMENTS / "placement"
    losses = {}
    for record in load_records(folder / "results.jsonl"):
        if record["allocation"]["requested"] == 0.5 and record["target_epochs"] == 24:
            place = record["config"]["schedule"]["placement"]
            at = (place, record["replay_fraction"]["requested"])
            losses.setdefault(at, {})[record["seed"]] = record["losses"]["target"]
    rows = re.findall(
        r"^\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (.*) \| (.*) \|$",
        (folder / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 3
    for rho, paper, aligned, by_seed, mean in rows:
        ours, theirs = (losses[place, float(rho)] for place in ("aligned", "paper"))
        gaps = [ours[seed] - theirs[seed] for seed in (1, 2, 3)]
        assert paper == f"{sum(theirs.values()) / 3:.3f}"
        assert aligned == f"{sum(ours.values()) / 3:.3f}"
        assert [float(gap) for gap in by_seed.split()] == [round(gap, 3) for gap in gaps]
        assert float(mean.split(" ")[0]) == round(sum(gaps) / 3, 3)
