"""What studies say of uneven noise: kinds of run, and single settings, that are noisier."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import Luck, sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.groups import Cell, CellKey
from replay_jax.analysis.study.layout import noisy_notes

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)
KINDS = re.compile(r"runs of (\d) kinds? differ .*?: (.*); (\S+) nat of all others\)")


def notes_on_kinds(draw: int, **luck) -> list[str]:
    records = sweep(worth=lambda rho: 1.0, luck=Luck(0.01, 0.02, **luck), draw=draw)
    notes = analyse(records, CONFIG, resamples=50).target().notes
    return [note for note in notes if KINDS.search(note)]


@pytest.mark.parametrize("draw", range(4))
def test_a_kind_of_run_that_is_noisier_is_named_with_its_deviation(draw):
    noisy = {"with": lambda rho: rho, "without": lambda rho: rho == 0.0}
    for word, is_of_it in noisy.items():
        (note,) = notes_on_kinds(draw, uneven=lambda _, rho, own=is_of_it: 8.0 if own(rho) else 1.0)
        count, listed, others = KINDS.search(note).groups()
        deviations = {kind: float(x) for x, kind in re.findall(r"(\S+) nat of ([^;]*)", listed)}
        assert len(deviations) == int(count)
        kind = f"two_stage {word} replay, 4,096 target tokens"
        assert max(deviations, key=deviations.get) == kind
        assert deviations[kind] == pytest.approx(0.08, rel=0.6)
        assert float(others) == pytest.approx(0.01, rel=0.4)


def test_what_a_seed_adds_to_a_schedule_all_its_epochs_share_and_no_other_schedule_has():
    luck = Luck(own=0.0, shared=0.0, by_schedule=0.1)
    added: dict[tuple[object, ...], list[float]] = {}
    for draw in (luck, Luck(own=0.0, shared=0.0)):
        for number, r in enumerate(sweep(worth=lambda rho: 1.0, luck=draw)):
            schedule = r["protocol"], r["replay_fraction"]["requested"], r["target_tokens"]
            key = number, r["seed"], *schedule
            added.setdefault(key, []).append(r["losses"]["target"])
    of_schedule: dict[tuple[object, ...], set[float]] = {}
    for (_, *key), (with_luck, without) in added.items():
        of_schedule.setdefault(tuple(key), set()).add(round(with_luck - without, 9))
    assert all(len(each) == 1 for each in of_schedule.values())
    values = [each for (each,) in of_schedule.values()]
    assert len(set(values)) == len(values) and np.std(values) == pytest.approx(0.1, rel=0.4)


def test_constant_mixtures_are_named_by_their_budget_and_no_more_than_three_kinds():
    (note,) = notes_on_kinds(0, uneven=lambda tokens, rho: 9.0 if tokens == 8192 else 1.0)
    assert "of constant mixtures, 8,192 target tokens;" in note
    keys = [CellKey("code", "uniform", 1024 * n, (), 1.0, 0.0) for n in range(1, 9)]
    cells = [Cell(key, (), is_reference=False) for key in keys]
    fitted = SimpleNamespace(noisy=np.arange(8) < 5, apart=np.arange(8) == 7)
    noise = SimpleNamespace(fitted=fitted, own=np.arange(1.0, 9.0) ** 2)
    (note,) = noisy_notes(cells, [np.array([n]) for n in range(8)], noise)
    assert KINDS.search(note).groups() == (
        "5",
        "1.000 nat of constant mixtures, 1,024 target tokens; 2.000 nat of constant mixtures, "
        "2,048 target tokens; 3.000 nat of constant mixtures, 3,072 target tokens; 2 more kinds",
        "6.500",
    )


def test_even_noise_names_no_kind():
    assert sum(bool(notes_on_kinds(draw)) for draw in range(10)) <= 2  # odds of one in twenty each
