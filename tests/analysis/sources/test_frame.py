"""Anybody's runs: columns by their names, and what a table may not hold."""

import math

import pyarrow
import pytest

from replay_jax.analysis.sources.columns import ALIASES, columns_of
from replay_jax.analysis.sources.frame import analyse_frame, runs_of_frame
from replay_jax.errors import UserError
from replay_jax.report.advice import advise


def runs(*, seeds=(1, 2, 3), budgets=(1000, 2000, 4000, 8000)):
    """Runs of a law in which replay at .5 is worth twice the data."""
    shift = {1: 0.01, 2: -0.01, 3: 0.004, 4: 0.0}
    return [
        {
            "target_tokens": tokens,
            "replay_fraction": rho,
            "seed": seed,
            "target_loss": 2 + 3 * (tokens * worth / 1000) ** -0.5
            + shift[seed] + 0.002 * math.sin(tokens * worth * seed),
        }
        for tokens in budgets
        for rho, worth in ((0.0, 1.0), *(((0.5, 2.0),) if tokens == 2000 else ()))
        for seed in seeds
    ]  # fmt: skip


def table(rows):
    return pyarrow.Table.from_pylist(rows)


def test_four_columns_are_enough():
    study = analyse_frame(table(runs()))
    found = advise(study)["target"][0]
    assert found.verdict == "replay helps" and found.multiplier.low < 2 < found.multiplier.high


def test_every_alias_is_read_as_its_column():
    given = dict.fromkeys(("target_tokens", "replay_fraction", "seed", "target_loss"))
    for ours, others in ALIASES.items():
        for other in others:
            names = [*(name for name in given if name != ours), other.upper().replace("_", " ")]
            assert columns_of(names, own=(), named={})[ours] == names[-1]


def test_settings_of_ones_own_are_tuned_or_kept_apart():
    rows = [row | {"lr": lr} for row in runs() for lr in (0.1, 0.2)]
    for row in rows:
        row["target_loss"] += 0.5 * (row["lr"] == 0.1)
    tuned = analyse_frame(table(rows), tuned=["lr"]).targets[0]
    assert {cell.chosen.tuned for cell in tuned.cells} == {(("lr", 0.2),)}
    apart = analyse_frame(table(rows), axes=["lr"]).targets[0]
    assert {cell.key.axes for cell in apart.cells} == {(("lr", "0.1"),), (("lr", "0.2"),)}


def test_bits_become_nats():
    rows = runs()
    bits = [row | {"target_loss": row["target_loss"] / math.log(2), "unit": "bits"} for row in rows]
    for a, b in zip(runs_of_frame(table(rows)).records, runs_of_frame(table(bits)).records,
                    strict=True):  # fmt: skip
        assert a["losses"]["target"] == pytest.approx(b["losses"]["target"])


def changed(index, **values):
    rows = runs()
    rows[index] = rows[index] | values
    return rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"taget_loss": 1.0} | runs()[0]], "unknown column 'taget_loss'.*'target_loss'"),
        ([{"loss": 1.0} | runs()[0]], "'loss' and 'target_loss' both mean"),
        ([{"rho": 0.5, "seed": 1, "loss": 2.0}], "no column 'target_tokens'"),
        ([*runs(), runs()[4]], "row 5 and row 16 are one run, of seed 2"),
        (changed(1, target_loss=runs()[0]["target_loss"] / math.log(2)),
         "factor 1.4.*one seems to be in nats"),
        (changed(2, seed=None), "row 3 has no seed"),
        (changed(2, replay_fraction=50.0), "replay_fraction 50 is not in.*percentage"),
        (changed(2, target_tokens=0.5), "no whole number"),
        ([row | {"evaluation": str(row["seed"])} for row in runs()], "different sets"),
        ([row | {"loss_unit": "nits"} for row in runs()], "neither 'nats' nor 'bits'"),
        ([row | {"target_loss": math.nan} for row in runs()], "none of the 15 runs has finite"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_with_the_nearest_fix(rows, words):
    with pytest.raises(UserError, match=words):
        analyse_frame(table(rows))


def test_diverged_runs_are_left_out_and_said():
    found = runs_of_frame(table(changed(3, target_loss=math.inf)))
    assert len(found.records) == 14
    assert found.notes[0] == "left out, because their loss is no finite number: row 4"


def test_seeds_that_do_not_pair_are_said_and_one_seed_cannot_tell():
    rows = [row | {"seed": row["seed"] + 10 * (row["replay_fraction"] > 0)} for row in runs()]
    assert any("no seed in common" in note for note in runs_of_frame(table(rows)).notes)
    assert not any("no seed in common" in note for note in runs_of_frame(table(runs())).notes)
    study = analyse_frame(table(runs(seeds=(1,))))
    assert advise(study)["target"][0].verdict == "cannot tell"


def test_two_columns_of_one_name_are_refused():
    twice = pyarrow.table([[1.0], [2.0]], names=["target_loss", "target_loss"])
    with pytest.raises(UserError, match="two columns have one name, or the first row is no row of"):
        runs_of_frame(twice)
