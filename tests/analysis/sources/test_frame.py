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


def test_an_axis_that_only_tells_the_two_sides_apart_is_one_nonetheless():
    """A larger model with replay against a smaller one without says nothing of replay."""
    rows = [row | {"model": "large" if row["replay_fraction"] else "small"} for row in runs()]
    alone = advise(analyse_frame(table(rows), axes=["model"]))["target"]
    assert isinstance(alone, str) and "nothing can be recommended" in alone
    assert advise(analyse_frame(table(rows), ignore=["model"]))["target"][0].gain.low > 0


def test_a_model_is_not_read_off_the_curve_of_another():
    rows = [row | {"model": model} for row in runs() for model in ("a", "b")]
    for row in rows:
        if row["model"] == "b":
            row["target_loss"] = 2 + 0.3 * (row["target_loss"] - 2)
    both = {"axes": ["model"], "reference": {"replay_fraction": 0, "model": "a"}}
    found = advise(analyse_frame(table(rows), **both))["target"]
    by_model = {bool(each.answered.own.axes): each for each in found}
    assert by_model[False].multiplier.low < 2 < by_model[False].multiplier.high
    assert by_model[True].multiplier is None and by_model[True].gain.low > 0
    (said,) = (c.words for c in by_model[True].cautions if c.kind == "multiplier")
    assert (
        said == "no multiplier: the reference is not of model b: analyse the runs of model b alone"
    )


def test_a_constant_added_to_the_losses_of_a_seed_changes_nothing():
    """Folds of the held-out text, say: in a whole design what a seed adds cancels."""
    rows = runs()
    moved = [row | {"target_loss": row["target_loss"] + 2.0 * row["seed"]} for row in rows]
    first, second = (
        advise(analyse_frame(table([each | {"loss_unit": "nats"} for each in found])))["target"][0]
        for found in (rows, moved)
    )
    assert second.gain.value == pytest.approx(first.gain.value, abs=1e-3)
    width = first.gain.high - first.gain.low
    assert second.gain.high - second.gain.low == pytest.approx(width, rel=0.3)


def test_settings_of_one_s_own_that_differ_in_the_seventh_digit_are_two():
    rows = [row | {"warmup": steps} for row in runs() for steps in (1000000.5, 1000001.5)]
    for row in rows:
        row["target_loss"] += 0.5 * (row["warmup"] == 1000000.5)
    tuned = analyse_frame(table(rows), tuned=["warmup"]).targets[0]
    assert {cell.chosen.tuned for cell in tuned.cells} == {(("warmup", 1000001.5),)}
    assert "best at 1000001.5, the largest tried" in tuned.cells[0].at_edge[0].words
    apart = analyse_frame(table(rows), axes=["warmup"]).targets[0]
    assert {cell.key.axes[0][1] for cell in apart.cells} == {"1000000.5", "1000001.5"}
    nearly = runs() + [row | {"lr": 0.1 + 0.2} for row in runs()[:1]]
    with pytest.raises(UserError, match="row 1 and row 16 are one run"):
        analyse_frame(table([{"lr": 0.3} | row for row in nearly]), tuned=["lr"])


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


def in_bits(which):
    """Rows of a small gain of which some have their loss in bits, and nothing says so."""
    rows = [
        row | {"target_loss": row["target_loss"] + 0.9 * row["replay_fraction"]} for row in runs()
    ]
    return [
        row | {"target_loss": row["target_loss"] / math.log(2)} if which(row) else row
        for row in rows
    ]


def all_with(**values):
    return [row | values for row in runs()]


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
        (changed(2, replay_fraction=1.0), "fraction 1 is not in.*no target data is trained on"),
        (changed(5, replay_fraction=0.9999999), "row 6: replay_fraction 0.9999999 is 1 to six dec"),
        (changed(5, replay_fraction=1e-7), "row 6: replay_fraction 1e-07 is 0 to six .*: write 0"),
        (changed(2, target_tokens=0.5), "no whole number"),
        (changed(2, target_tokens=0), "target_tokens 0 is not above 0"),
        (changed(2, seed=1.5), "row 3: seed 1.5 is no whole number"),
        (changed(2, target_loss=-3.5), "-3.5 is not above 0, as a negative log-likelihood"),
        (changed(2, target_loss=0), "target_loss 0 is not above 0.*leave the cell empty"),
        (all_with(alpha=1.7), "row 1: allocation 1.7 is not in"),
        (all_with(epochs=0), "row 1: target_epochs 0 is not above 0"),
        (all_with(flops=0), "row 1: flops 0 is not above 0"),
        (in_bits(lambda row: row["replay_fraction"] > 0), "best loss with replay is 1.* loss_unit"),
        (in_bits(lambda row: row["replay_fraction"] == 0), "best loss without replay is 1"),
        ([row | {"target_loss": math.exp(row["target_loss"] + 2)} for row in runs()],
         "are no nats per token.*logarithm of a perplexity"),
        ([row | {"evaluation": str(row["seed"])} for row in runs()], "different sets"),
        ([row | {"loss_unit": "nits"} for row in runs()], "neither 'nats' nor 'bits'"),
        ([row | {"target_loss": math.nan} for row in runs()], "none of the 15 runs has finite"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_with_the_nearest_fix(rows, words):
    with pytest.raises(UserError, match=words):
        analyse_frame(table(rows))


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"protocl": "uniform"}, "names no column: 'protocl'; the nearest is 'protocol'"),
        ({"protocol": "uniform"}, "no run has the protocol 'uniform' .* there are two_stage"),
        ({"seed": 1}, "cannot be told by seed"),
    ],
)
def test_a_reference_that_is_none_is_refused(reference, words):
    with pytest.raises(UserError, match=words):
        runs_of_frame(table(runs()), reference=reference)


def test_a_reference_may_go_by_another_name_of_its_column():
    found = runs_of_frame(table(runs()), reference={"rho": 0})
    assert found.config.reference == {"replay_fraction": 0}


def test_a_column_may_have_a_name_of_its_own():
    rows = [{("nll" if k == "target_loss" else k): v for k, v in row.items()} for row in runs()]
    given = runs_of_frame(table(rows), columns={"target_loss": "nll"})
    assert given.records == runs_of_frame(table(runs())).records
    with pytest.raises(UserError, match="no column 'nl'; the nearest.*'nll'"):
        runs_of_frame(table(rows), columns={"target_loss": "nl"})
    with pytest.raises(UserError, match="no column 'target_los' to be.*target_loss"):
        runs_of_frame(table(rows), columns={"target_los": "nll"})


def test_units_that_are_said_are_believed():
    rows = [row | {"loss_unit": "nats"} for row in in_bits(lambda row: row["replay_fraction"] > 0)]
    assert len(runs_of_frame(table(rows)).records) == 15


def test_a_loss_far_from_that_of_other_seeds_is_said_and_a_guess_left_out():
    notes = runs_of_frame(table(changed(3, target_loss=11.0))).notes
    assert "row 4 differ in their seed only, but in loss by" in notes[-1]
    found = runs_of_frame(table(changed(3, target_loss=900.0)))
    assert len(found.records) == 14
    assert found.notes[0].endswith("worse than a guess (above 19 nats per token): row 4")


def test_equal_losses_under_different_seeds_are_said():
    def note(rows):
        found = [n for n in runs_of_frame(table(rows)).notes if "same loss to the last digit" in n]
        return found[0] if found else ""

    rows = runs()
    assert not note(rows)
    assert "runs of a setting" in note(changed(4, target_loss=rows[3]["target_loss"]))
    first = {(r["target_tokens"], r["replay_fraction"]): r["target_loss"] for r in rows[::-1]}
    ignored = [r | {"target_loss": first[r["target_tokens"], r["replay_fraction"]]} for r in rows]
    assert "runs of 5 settings" in note(ignored) and "(as row 1 and row 2)" in note(ignored)
    rounded = [row | {"target_loss": round(row["target_loss"], 2)} for row in rows]
    rounded[4]["target_loss"] = rounded[3]["target_loss"]
    assert not note(rounded)
    assert "5 settings" in note([r | {"target_loss": round(r["target_loss"], 2)} for r in ignored])


def test_diverged_runs_are_left_out_and_said():
    found = runs_of_frame(table(changed(3, target_loss=math.inf)))
    assert len(found.records) == 14
    assert found.notes[0] == "left out, because their target loss is no finite number: row 4"


def test_seeds_that_do_not_pair_are_said_and_one_seed_cannot_tell():
    rows = [row | {"seed": row["seed"] + 10 * (row["replay_fraction"] > 0)} for row in runs()]
    assert any("no seed in common" in note for note in runs_of_frame(table(rows)).notes)
    assert not any("no seed in common" in note for note in runs_of_frame(table(runs())).notes)
    alone = [row | {"seed": n} for n, row in enumerate(runs(seeds=(1,)))]
    assert not any("seed" in note for note in runs_of_frame(table(alone)).notes)
    for rows in (runs(seeds=(1,)), alone):
        study = analyse_frame(table(rows))
        found = advise(study)["target"][0]
        assert (
            found.verdict == "cannot tell"
            and "every setting ran with one seed" in (study.targets[0].notes[0])
        )
        assert found.reasons[0].startswith("with one seed of each setting the noise")


@pytest.mark.parametrize("called", ["constant", "Constant-Mixture", "constant_mixture", "mixed"])
def test_a_constant_mixture_goes_by_several_names(called):
    mixtures = [
        row | {"protocol": called, "seed": row["seed"]} for row in runs() if row["replay_fraction"]
    ]
    rows = [row | {"protocol": "two_stage"} for row in runs()] + mixtures
    found = advise(analyse_frame(table(rows)))["target"][0]
    assert "no constant mixture" not in found.sentence and found.rival.words == "a constant mixture"
    assert found.verdict == "cannot tell", "its runs are those that replay, to the digit"


def test_a_protocol_without_a_baseline_is_said_and_shares_of_mixtures_are_named():
    joint = [row | {"protocol": "joint"} for row in runs() if row["replay_fraction"]]
    rows = [row | {"protocol": "two_stage"} for row in runs()]
    (said,) = [n for n in runs_of_frame(table(rows + joint)).notes if "'joint'" in n]
    assert "compared with nothing; a constant mixture is called 'constant'" in said
    assert not any("compared with" in note for note in runs_of_frame(table(rows)).notes)
    shares = [row | {"protocol": "mix", "rho": row["replay_fraction"] / n}
              for row in runs() if row["replay_fraction"] for n in (1, 2)]  # fmt: skip
    for row in shares:
        del row["replay_fraction"]
    with pytest.raises(UserError, match=r"row 1 and row 2 are constant .* apart \(0.5 and 0.25\)"):
        runs_of_frame(table(shares))


def test_budgets_in_two_units_are_seen_where_nothing_compares():
    rows = [row | {"target_tokens": row["target_tokens"] // (1000 if row["replay_fraction"] else 1)}
            for row in runs()]  # fmt: skip
    said = advise(analyse_frame(table(rows)))["target"]
    assert "runs with replay: 2; without: 1,000, 2,000, 4,000, 8,000)" in said


def test_where_only_the_protocol_or_an_axis_differs_that_is_named():
    named = [row | {"protocol": "replay" if row["replay_fraction"] else "plain"} for row in runs()]
    said = advise(analyse_frame(table(named)))["target"]
    assert (
        "at 2,000 target tokens, with replay: the protocol 'replay'; without: the protocol " in said
    )
    assert "'plain'); give runs that are to be compared one protocol and equal axes" in said
    models = [row | {"model": "bd"[n % 2] if row["replay_fraction"] else "ac"[n % 2]}
              for n, row in enumerate(runs())]  # fmt: skip
    said = advise(analyse_frame(table(models), axes=["model"]))["target"]
    assert "'two_stage', model b / the protocol 'two_stage', model d; without: " in said


@pytest.mark.parametrize(("rho", "words"), [(0.999, "from 0.997 up"), (0.999999, "0.999999 (pl")])
def test_a_fraction_near_one_is_not_called_one(rho, words):
    rows = [row | {"replay_fraction": rho if row["replay_fraction"] else 0.0} for row in runs()]
    for row in runs():
        if row["replay_fraction"]:
            rows.append(row | {"replay_fraction": 0.99, "target_loss": row["target_loss"] + 0.3})
    (found,) = advise(analyse_frame(table(rows)))["target"]
    assert found.verdict == "replay helps" and words in found.sentence
    assert not any("fraction of 1 " in said or "(1)" in said for said in found.reasons)
    told = [run["schedule.replay_fraction"] for option in found.next_runs for run in option.runs
            if option.narrows == "replay_fraction"]  # fmt: skip
    assert told and all(0 < fraction < 1 for fraction in told)


def test_two_columns_of_one_name_are_refused():
    twice = pyarrow.table([[1.0], [2.0]], names=["target_loss", "target_loss"])
    with pytest.raises(UserError, match="two columns have one name, or the first row is no row of"):
        runs_of_frame(twice)
