"""What `plan` says before anything is trained: cost on chips, folded seeds, missing files."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from replay_jax.commands.main import main
from replay_jax.commands.plan import _beside, _range
from replay_jax.config.recipe import load_recipe
from replay_jax.errors import UserError
from replay_jax.library.plan_shown import (
    ledger_table,
    rentals_table,
    rented,
    summary,
    supervised_shown,
)
from replay_jax.library.planning import plan
from replay_jax.library.renting import rental
from replay_jax.model.architecture import parameter_counts


@pytest.fixture(scope="module")
def planned():
    return plan(load_recipe("paper/weight_decay", {"seeds": 2}))


def test_chip_hours_are_flops_over_the_share_of_the_peak(planned):
    totals = planned.to_json()["totals"]
    flops = totals["flops_remaining"] + totals["evaluation_flops_remaining"]
    found = rental(planned, "v5e:4x4", utilisation=0.5, price=2.0)
    assert found.chips == 16
    assert found.chip_hours == pytest.approx(flops / (0.5 * 197e12) / 3600, rel=1e-12)
    assert found.hours == pytest.approx(found.chip_hours / 16) and found.money == pytest.approx(
        2 * found.chip_hours
    )
    eight = rental(planned, "h100:8", utilisation=0.5, price=None)
    assert eight.chip_hours == pytest.approx(flops / (0.5 * 989e12) / 3600)
    assert eight.money is None and "16 chips" in rented(found) and " 50%" in rented(found)


def test_a_plan_says_whether_what_is_trained_fits(planned):
    """Parameters, gradients and moments in float32: 16 bytes a parameter, over all chips."""
    model = planned.runs[0].config.model
    found = rental(planned, "v5e:4x4", utilisation=0.5, price=None)
    assert found.chip_bytes == parameter_counts(model).total  # 16 bytes on 16 chips
    assert found.holds_state and "of 15.8 on each chip; `replay-jax compile`" in rented(found)
    small = dataclasses.replace(found, memory_bytes=10**6)
    assert not small.holds_state and "DOES NOT FIT: parameters" in rented(small)
    assert found.to_json()["holds_state"] is True
    one = rental(planned, "h100:1", utilisation=0.5, price=None)
    assert one.chip_bytes == 16 * found.chip_bytes
    assert one.memory_bytes == int(0.92 * 84_942_979_072)


@pytest.mark.parametrize(
    ("topology", "mfu", "price", "words"),
    [
        ("v9:2x2", 0.4, None, "Topology 'v9:2x2' is not known"),
        ("h100:3", 0.4, None, "h100: 1, 2, 4, 8"),
        ("v5e:4x4x4", 0.4, None, "v5e: 1x1"),
        ("v5e:4x4", 40, None, "--mfu is 40: a share of the peak lies between 0 and 1"),
        ("v5e:4x4", 0.4, -1.0, "--price is -1"),
    ],
)
def test_what_cannot_be_rented_is_refused(planned, topology, mfu, price, words):
    with pytest.raises(UserError) as found:
        rental(planned, topology, utilisation=mfu, price=price)
    assert words in str(found.value)


def test_missing_files_are_named_before_anything_is_prepared(tmp_path):
    here, gone = tmp_path / "here.jsonl", tmp_path / "gone.jsonl"
    here.write_text('{"text": "words"}\n')
    overrides = {"scale": "tiny", "data.generic": str(here), "data.target": str(gone)}
    lines = summary(plan(load_recipe("paper/model_scaling", overrides)))
    missing = [line for line in lines if line.startswith("missing: ")]
    assert len(missing) == 1 and "source 'gone'" in missing[0] and str(gone) in missing[0]
    assert "source 'here' is not tokenized yet: its rows have no numbers" in lines


def test_nothing_is_said_of_labels_where_all_count(planned):
    assert supervised_shown(planned) == []


@pytest.mark.parametrize("width", [40, 60, 80])
def test_nothing_is_cut_in_a_narrow_terminal(planned, width):
    rentals = {"paper/weight_decay": rental(planned, "v5e:4x4", utilisation=0.5, price=2.0)}
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(ledger_table(planned, width))
    console.print(rentals_table(dict.fromkeys(rentals, planned), rentals, width))
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    # What has no room is said to have none.
    assert all(title in text for title in ("rho", "alpha", "seeds", "FLOPs", "money"))
    assert width == 40 or "paper/weight_decay" in text
    assert f"{rentals['paper/weight_decay'].money:,.0f}" in text


def test_several_plans_say_what_their_table_does_not(planned):
    """Each sentence once, of all that it is true of."""
    found = rental(planned, "v5e:4x4", utilisation=0.5, price=None)
    rentals = {"a": found, "b": dataclasses.replace(found, memory_bytes=10**6)}
    first, *lines = _beside({"a": planned, "b": planned}, rentals)
    assert first == "on v5e:4x4 of 16 chips, at 50% of their dense peak (--mfu)"
    assert sum(line.startswith("b: DOES NOT FIT: ") for line in lines) == 1
    missing = [line for line in lines if "missing: source 'c4'" in line]
    assert len(missing) == 1 and missing[0].startswith("a, b: ")
    assert not any("b: missing" in line for line in _beside({"a": planned}, {}))


@pytest.mark.parametrize(
    ("least", "most", "words"),
    [(0.3, 0.8, "a second"), (2.6, 3.4, "3 seconds"), (30, 70, "30 to 70 seconds"),
     (60, 180, "1.0 to 3.0 minutes"), (3 * 3600, 7 * 3600, "3.0 to 7.0 hours")],
)  # fmt: skip
def test_a_range_of_time_is_said_in_the_unit_of_the_longer(least, most, words):
    assert _range(least, most) == words


def test_the_command_folds_seeds_and_adds_configs_up(capsys):
    assert main(["plan", "paper/weight_decay", "--config.seeds=3"]) == 0
    said = capsys.readouterr().out
    assert said.index("36 runs of") < said.index("ledger (") < said.index("0 → ")
    ledger = said[said.index("ledger (") : said.index("36 runs\n")].splitlines()
    assert sum(line.split()[-1:] == ["3"] for line in ledger) == 12
    both = ["plan", "paper/weight_decay", "paper/more_target", "--topology=v6e:2x4", "--json"]
    assert main(both) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["paper/weight_decay", "paper/more_target"]
    assert all(each["rental"]["chips"] == 8 for each in found.values())
    assert main(["plan", "quickstart", "--price=2"]) == 2
    assert "--price is of rented chips" in capsys.readouterr().err
