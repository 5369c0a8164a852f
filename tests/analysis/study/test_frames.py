"""A study as frames and in a notebook."""

import json

import numpy as np
import pytest
from places import ROOT

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse


@pytest.fixture(scope="module")
def study():
    config = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)
    records = sweep(
        worth=lambda rho: 1 + rho, budgets=(1024, 4096, 8192), replay_fractions=(0.0, 0.5)
    )
    return analyse(records + [{**run, "target": "basque"} for run in records], config, resamples=50)


def test_cells_and_draws_are_those_of_the_study(study):
    cells, draws = study.cells, study.draws
    flat = [(target, cell) for target in study.targets for cell in target.cells]
    assert {len(column) for column in cells.values()} == {len(flat)}
    for row, (target, cell) in enumerate(flat):
        assert cells["target"][row] == target.target
        assert cells["replay_fraction"][row] == cell.key.replay_fraction
        assert cells["schedule.target_epochs"][row] == cell.chosen.target_epochs
        assert cells["target_loss_high"][row] == cell.target_loss.high
        assert cells["multiplier"][row] == (cell.multiplier and cell.multiplier.value)
        own = draws["cell"] == row
        place = target.cells.index(cell)
        assert np.array_equal(draws["target_loss"][own], target.draws.target[:, place])
        assert draws["draw"][own].tolist() == list(range(50))
        equivalent = np.log(draws["equivalent_tokens"][own])
        assert equivalent == pytest.approx(target.draws.log_equivalent[:, place])


def test_a_notebook_shows_the_cells_with_names_that_are_text(study):
    shown = study._repr_html_()
    assert shown.count("<tr>") == 1 + sum(len(target.cells) for target in study.targets)
    assert "<th>multiplier_low</th>" in shown and "<td>basque</td>" in shown


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_go_in_and_come_out(library, monkeypatch):
    frames = pytest.importorskip(library)
    import replay_jax

    runs = frames.read_csv(ROOT / "docs/examples/runs.csv")
    found = replay_jax.analyse(runs)
    frame = frames.DataFrame(found.cells)
    assert frame.shape[0] == len(found.targets[0].cells) and "multiplier_high" in frame.columns
    assert frames.DataFrame(found.draws).shape == (2000 * frame.shape[0], 5)


def test_the_notebook_runs_from_top_to_bottom(monkeypatch, capsys):
    """Cell by cell in one namespace, as a kernel does, without one."""
    folder = ROOT / "docs/examples"
    monkeypatch.chdir(folder)
    notebook = json.loads((folder / "analyse.ipynb").read_text())
    names: dict[str, object] = {}
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for source in code:
        exec(compile(source, "analyse.ipynb", "exec"), names)  # noqa: S102
    assert len(code) == 5 and names["likely"] > 0.99
    assert "is worth 1.82 times the target data" in capsys.readouterr().out
