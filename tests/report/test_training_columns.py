"""The losses table says what training each schedule was given, where they differ."""

from fake_records import FakeStudy, fake_records

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.study.analyse import analyse
from replay_jax.report.tables.study_tables import losses_tables

SMALL = FakeStudy(
    budgets=(4096,), candidate_budgets=(4096,), allocations=(1.0,), epochs=(16.0,), seeds=(0, 1)
)
CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)


def table(flops):
    """The losses of a study whose runs train so many FLOPs by their replay fraction."""
    records = fake_records(SMALL)
    for record in records:
        record["flops"] = flops(record["replay_fraction"]["requested"] or 0.0)
    study = analyse(records, CONFIG, resamples=50)
    (target,) = study.targets
    found = next(t for t in losses_tables(target) if "Baseline: " in t.words)
    return target, study, found


def test_training_that_differs_has_its_columns():
    target, study, found = table(lambda rho: 4e12 / (1 - rho))
    titles = [column.title for column in found.columns]
    place = titles.index("FLOPs of training")
    assert titles[place + 1] == "gain per 1e13 FLOPs more"
    by_rho = {row.cells[titles.index("ρ")]: row.cells[place : place + 2] for row in found.rows}
    assert by_rho["0"] == ("1.00×", "–") and by_rho["0.5"][0] == "2.00×"
    cell = next(c for c in target.cells if c.key.replay_fraction == 0.5)
    assert by_rho["0.5"][1].startswith(f"{cell.gain.value * 1e13 / 4e12:+.3f}".replace("-", "−"))
    cells = study.cells
    row = next(i for i, rho in enumerate(cells["replay_fraction"]) if rho == 0.5)
    assert cells["flops"][row] == 8e12 and cells["extra_flops"][row] == 4e12
    assert cells["gain_per_extra_flop"][row] == cell.gain.value / 4e12


def test_equal_training_has_none():
    _, study, found = table(lambda rho: 4e12)
    assert not any("FLOPs" in column.title for column in found.columns)
    assert set(study.cells["gain_per_extra_flop"]) == {None}
