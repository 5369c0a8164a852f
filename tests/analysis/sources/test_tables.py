"""Frames of whatever library: one table gives one answer, and what is no table one sentence."""

import datetime
import decimal
import json
import math

import numpy as np
import pyarrow
import pytest

from replay_jax.analysis.sources.frame import analyse_frame, runs_of_frame
from replay_jax.errors import UserError
from replay_jax.report.advice import advise


class NA:
    """As pandas' own: neither equal nor unequal to anything, itself included."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


class Lazy:
    def collect(self):
        raise AssertionError("that may be long, and is the user's to say")


def table(**more):
    """Columns of 15 runs of a law; `more` are columns too, or a function of the row's number."""
    rows = [(t, r, s) for t in (1000, 2000, 4000, 8000) for r in (0.0, 0.5) for s in (1, 2, 3)]
    rows = [row for row in rows if row[1] == 0 or row[0] == 2000]
    columns = {
        "budget": [t for t, _, _ in rows],
        "rho": [r for _, r, _ in rows],
        "seed": [s for _, _, s in rows],
        "loss": [2 + 3 * (t * (1 + r) / 1000) ** -0.5 + math.sin(t + s) / 100 for t, r, s in rows],
    }
    made = {n: [v(k) for k in range(len(rows))] if callable(v) else v for n, v in more.items()}
    return columns | made


def one(value, otherwise):
    return lambda row: otherwise if row else value


def test_one_table_is_one_whatever_holds_it():
    plain = runs_of_frame(table()).records
    for holds in (pyarrow.table, lambda c: {n: np.array(v) for n, v in c.items()}):
        assert runs_of_frame(holds(table())).records == plain
    cents = [decimal.Decimal(str(loss)) for loss in table()["loss"]]
    assert runs_of_frame(table(loss=cents)).records == plain


@pytest.mark.parametrize("missing", [None, math.nan, NA(), np.float64("nan"), np.datetime64("NaT")])
def test_what_is_missing_is_missing_whatever_it_is_called(missing):
    losses = table()["loss"]
    found = runs_of_frame(table(loss=[missing, *losses[1:]]))
    assert len(found.records) == 14 and "no finite number: row 1" in found.notes[0]
    named = runs_of_frame(table(name=one(missing, "a"))).records
    assert [record["name"] for record in named[:2]] == ["row 1", "a"]
    with pytest.raises(UserError, match="row 1 has no protocol: fill it in"):
        runs_of_frame(table(protocol=one(missing, "two_stage")))
    lr = runs_of_frame(table(lr=one(missing, 0.1)), tuned=["lr"]).records[0]["overrides"]
    assert lr == {"lr": None}


@pytest.mark.parametrize(
    "value", [[1, 2], {"a": 1}, np.array([1, 2]), datetime.datetime(2026, 1, 2), np.float32(0.5)]
)
def test_settings_of_any_kind_are_tuned_and_shown(value):
    for said in ({"tuned": ["lr"]}, {"axes": ["lr"]}):
        found = advise(analyse_frame(table(lr=lambda row: value), **said))["target"][0]
        assert json.dumps(found.to_json()["overrides"])


def test_seeds_of_64_bits_are_told_apart():
    seeds = [2**63 + seed for seed in table()["seed"]]
    assert [r["seed"] for r in runs_of_frame(table(seed=seeds)).records] == seeds


def test_without_a_generic_loss_nothing_is_said_of_its_cost():
    study = analyse_frame(table())
    assert study.cells["generic_loss"] == study.cells["generic_cost"] == [None] * 5
    assert np.isnan(study.draws["generic_loss"]).all()
    found = advise(study)["target"][0]
    assert "generic" not in found.sentence and found.to_json()["generic_cost_nats"] is None


def test_what_the_reader_left_out_is_said_of_the_study():
    study = analyse_frame(table(loss=[math.inf, *table()["loss"][1:]]))
    assert study.notes[0] == "left out, because their target loss is no finite number: row 1"
    assert "<p>note: left out, because" in study._repr_html_()
    assert any("generic_loss" in note for note in study.notes)


def test_generic_losses_in_bits_beside_nats_are_refused():
    generic = [3.0 / (math.log(2) if seed == 2 else 1) for seed in table()["seed"]]
    with pytest.raises(UserError, match=r"in generic loss \(3.000 and 4.328\): one seems to be"):
        runs_of_frame(table(generic_loss=generic))


def test_different_sets_are_named_without_a_key_of_our_configuration():
    with pytest.raises(UserError, match=r"row 1 and row 2 were .* sets \('a' and 'b'\)") as error:
        runs_of_frame(table(evaluation=one("a", "b")))
    assert "data." not in str(error.value)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (None, "None is no table of runs: give a frame of pandas"),
        ("runs.csv", "str is no table of runs"),
        ([{"rho": 0}], "list is no table of runs.*a dict of lists by the columns' names"),
        (np.zeros((2, 2)), "ndarray is no table of runs"),
        (Lazy(), "Lazy has no rows yet: give frame.collect()"),
        ({}, "the table holds no run"),
        ({"rho": []}, "the table holds no run"),
        ({"rho": 0.5}, "column 'rho' is float and no list of values"),
        (table() | {7: range(15)}, "names of columns are text, and 7 is none"),
        (table() | {("a", "b"): range(15)}, "names of columns are text, and .'a', 'b'. is none"),
        (table(lr=one("auto", 0.1)) | {"budget": [1] * 3}, "columns of different lengths"),
    ],
)
def test_what_is_no_table_is_refused(frame, words):
    with pytest.raises(UserError, match=words):
        runs_of_frame(frame)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"tuned": "epochs"}, "tuned is a list of columns' names, such as .*, not 'epochs'"),
        ({"axes": None}, "axes is a list of columns' names"),
        ({"ignore": "epochs"}, "ignore is a list of columns' names"),
        ({"ignore": [7]}, "columns are named in words, not as 7"),
        ({"reference": "rho=0"}, "reference is a dict by columns' names, not 'rho=0'"),
        ({"reference": {0: 0}}, "columns are named in words, not as 0"),
        ({"columns": ["target_loss"]}, "columns is a dict by columns' names"),
        ({"columns": {"target_loss": None}}, "columns are named in words, not as None"),
        ({"level": "0.9"}, "level is a number between 0 and 1, such as 0.9, not '0.9'"),
        ({"level": None}, "level is a number between 0 and 1"),
        ({"tuned": ["epochs"]}, "no column 'epochs'"),
        ({"tuned": ["seed"]}, "column 'seed', as seed, can be neither"),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused(said, words):
    with pytest.raises(UserError, match=words):
        runs_of_frame(table(), **said)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("budget", 20000.5, "row 1: target_tokens 20000.5 is no whole number"),
        ("budget", 20000000000.5, "target_tokens 20000000000.5 is no whole number"),
        ("budget", math.inf, "row 1: target_tokens inf is not finite"),
        ("budget", "4M", "row 1: target_tokens '4M' is no number: write it in digits, without a"),
    ],
)
def test_numbers_are_named_in_full_with_the_fix(name, value, words):
    values = [value, *table()[name][1:]]
    if isinstance(value, str):
        values = [value, *map(str, values[1:])]
    with pytest.raises(UserError, match=words):
        runs_of_frame(table(**{name: values}))
