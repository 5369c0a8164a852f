"""Charts show what the study says: right rows, units on every axis, pictures without a browser."""

import dataclasses
import json
import re
import struct

import numpy as np
import pytest
from fake_records import BASQUE, GSM8K, FakeStudy, fake_records

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse, analyse_anyway
from replay_jax.analysis.study.selection import focus_budget
from replay_jax.analysis.study.study import Study
from replay_jax.report.advice import advise
from replay_jax.report.drawing import draw_figures
from replay_jax.report.elements.picks import picks
from replay_jax.report.elements.theme import DARK, LIGHT, vega_config
from replay_jax.report.elements.words import times
from replay_jax.report.figures.along_figures import along_figures
from replay_jax.report.figures.label_places import placed
from replay_jax.report.figures.loss_figures import loss_figures
from replay_jax.report.figures.replay_figures import replay_figures
from replay_jax.report.figures.run_figures import boundary_figures, pareto_figures, training_figures
from replay_jax.report.figures.study_figures import heatmap_figures, quadratic_figure
from replay_jax.report.figures.worth_figure import efficiency_figure
from replay_jax.report.html import write_pictures
from replay_jax.report.tables.run_tables import ledger_tables
from replay_jax.report.tables.study_tables import controls_table

CONFIG = AnalysisConfig(
    reference={"protocol": "uniform"}, tuned=("schedule.target_epochs",), level=0.9
)
SMALL = FakeStudy(targets=(GSM8K,), seeds=(0, 1))


@pytest.fixture(scope="module")
def records():
    return fake_records(SMALL)


@pytest.fixture(scope="module")
def study(records):
    return analyse(records, CONFIG, resamples=200).targets[0]


def shown_of(study):
    return picks(study, advise(Study((study,), study.level))[study.target])


@pytest.fixture(scope="module")
def shown(study):
    return shown_of(study)


@pytest.fixture(scope="module")
def figures(study, shown, records):
    by_id = {record["id"]: record for record in records}
    quadratic = quadratic_figure(study)
    assert quadratic is not None
    return (
        efficiency_figure(study, shown),
        *replay_figures(study, shown),
        *heatmap_figures(study, shown, {}),
        quadratic,
        *pareto_figures(study),
        *training_figures(study, shown, by_id),
        *boundary_figures(study, shown, by_id),
    )


def table(figure, field):
    """The rows of the one data set of a figure whose rows have a field."""
    found = [rows for rows in figure.spec["datasets"].values() if rows and field in rows[0]]
    assert len(found) == 1, (figure.name, field, len(found))
    return found[0]


def axis_titles(spec):
    found = {}
    for layer in spec["layer"]:
        for channel in ("x", "y"):
            encoding = layer.get("encoding", {}).get(channel)
            if isinstance(encoding, dict) and encoding.get("title"):
                found.setdefault(channel, set()).add(encoding["title"])
    return found


def test_every_figure_has_a_name_of_its_own_a_caption_and_titled_axes(figures):
    assert len({figure.name for figure in figures}) == len(figures) == 14
    for figure in figures:
        titles = axis_titles(figure.spec)
        assert set(titles) == {"x", "y"}, figure.name
        assert all(len(names) == 1 for names in titles.values()), (figure.name, titles)
        assert figure.caption.endswith("."), figure.name
        assert figure.target == "gsm8k"


def test_losses_name_their_unit(figures):
    for figure in figures:
        text = " ".join(name for names in axis_titles(figure.spec).values() for name in names)
        if "loss" in text:
            assert "nats per token" in text, figure.name
        elif not figure.name.startswith(("cosine", "heatmap")):
            pytest.fail(f"{figure.name} shows neither a loss nor a known unit: {text}")


def test_a_specification_is_strict_json_without_theme_colours(figures):
    for figure in figures:
        assert figure.chart.to_dict() == figure.spec  # which Altair holds against the schema
        text = json.dumps(figure.spec, allow_nan=False)
        for theme in (LIGHT, DARK):
            assert theme.muted not in text and theme.grid not in text, figure.name
        assert "http" not in text.replace("https://vega.github.io/schema/", ""), figure.name


def lower(losses, less):
    return losses | {"target": losses["target"] - less}


def with_a_knob(records):
    """Beside each run in two stages one of another weight decay, lower where it replays."""
    swept = [
        run
        | {
            "id": f"{run['id']}-decayed",
            "overrides": run["overrides"] | {"optimizer.weight_decay": 0.8},
            "losses": lower(run["losses"], 0.01 if run["replay_fraction"]["requested"] else 0),
            "boundary": None,
        }
        for run in records
        if run["protocol"] != "uniform" and run["target_tokens"] == 4096
    ]
    return [*records, *swept]


def test_all_that_shows_one_schedule_shows_that_of_the_answer():
    """A knob that was tried beside the sweep is lower, and has no constant mixture to beat."""
    one = FakeStudy(seeds=(0, 1), candidate_budgets=(4096,), allocations=(1.0,))
    records = with_a_knob(fake_records(one))
    by_id = {record["id"]: record for record in records}
    study = analyse(records, CONFIG, resamples=100)
    found = advise(study)["gsm8k"]
    target = study.targets[0]
    answer, rival = target.cells[found[0].best], target.cells[found[0].baseline]
    assert answer.key.axes == () and rival.key.protocol == "uniform"
    assert min(cell.chosen.target_loss for cell in target.cells if cell.key.axes) < (
        answer.chosen.target_loss
    )
    shown = picks(target, found)
    drawn = {row["series"]: row["loss"] for row in table(efficiency_figure(target, shown), "start")}
    usual = target.cells[answer.baseline]
    assert drawn == {
        "no replay": usual.chosen.target_loss,
        "best replay": answer.chosen.target_loss,
        "constant mixture": rival.chosen.target_loss,
    }
    ours, theirs = (table_.title for table_ in ledger_tables(target, shown, by_id))
    assert ours == f"The schedule that replays: {by_id[answer.chosen.run_ids[0]]['name']}"
    assert theirs == f"What it is compared with: {by_id[rival.chosen.run_ids[0]]['name']}"
    changes = table(boundary_figures(target, shown, by_id)[0], "change")
    assert {row["series"] for row in changes} == {"0", "0.25", "0.5", "0.75"}
    controls = controls_table(target, shown)
    (bold,) = (row.cells for row in controls.rows if row.strong)
    assert bold[:2] == ("4,096", f"{answer.key.replay_fraction:.4g}")
    assert "Bold: the schedule of the answer." in controls.words


def test_a_legend_names_what_is_not_as_usual_and_nothing_of_it_is_cut():
    """Long names stand on several lines, in as many columns as there is room for."""
    one = FakeStudy(seeds=(0, 1), candidate_budgets=(2048, 4096), allocations=(1.0,))
    rate = "shape linear, peak 0.001, decay fraction 0.9, warmup 8 steps"
    knobs = {"schedule.stage2_optimizer": "reset", "schedule.stage2_learning_rate": rate}
    runs = fake_records(one)
    for key, value in knobs.items():
        runs += [
            run | {"id": f"{run['id']}-{key}", "overrides": run["overrides"] | {key: value}}
            for run in fake_records(one)
            if run["protocol"] != "uniform" and run["target_tokens"] == 4096
        ]
    figures = {f.name: f for f in along_figures(analyse(runs, CONFIG, resamples=50))}
    figure = figures["along_schedule.target_epochs"]
    names = list(dict.fromkeys(row["series"] for row in table(figure, "rho")))
    assert names == [
        "2,048 tokens",
        "4,096 tokens",
        "4,096 tokens, stage2 optimizer reset",
        f"4,096 tokens, stage2 learning rate {rate}",
    ]
    svg = draw_figures([figure])[figure.name].svg
    assert "…" not in svg and float(re.search(r'width="([^"]+)"', svg)[1]) < 800
    words = figures["along_schedule.stage2_learning_rate"]
    svg = draw_figures([words])[words.name].svg
    assert "…" not in svg and ">decay fraction 0.9<" in svg


def test_efficiency_joins_a_schedule_to_what_it_is_worth(study, shown):
    candidates = table(efficiency_figure(study, shown), "equivalent_low")
    rivals = [pick.name(pick.rival) for pick in shown.values()]
    assert rivals == ["constant mixture", "no replay, α 0.5"]
    names = ["no replay"] * 2 + ["best replay"] * 2 + rivals
    assert [row["series"] for row in candidates] == names
    for row in candidates:
        if row["series"] == "best replay":
            pick = shown[row["tokens"]]
            cell = pick.best
            assert row["loss"] == cell.chosen.target_loss
            start = study.cells[cell.baseline].equivalent_tokens.value
            assert row["start"] == pytest.approx(start)
            assert row["equivalent"] == pytest.approx(start * cell.multiplier.value)
            over = (
                f"{times(pick.over_rival)} over {pick.name(pick.rival).removeprefix('constant ')}"
            )
            usual = f"{times(cell.multiplier)} over no replay"
            assert row["label"] == f"{usual}\n{over}"
            assert row["equivalent_low"] <= row["equivalent"] <= row["equivalent_high"]
            assert row["equivalent"] > row["tokens"]


def test_a_label_lies_on_no_dot_and_on_no_line():
    def row(tokens, loss, **more):
        return {"tokens": tokens, "loss": loss, "label": "", **more}

    ends = {"start": 4096, "equivalent": 8192, "equivalent_low": 7000, "equivalent_high": 9500}
    worth = row(4096, 3.5, **ends) | {"label": "1.72× over y\n1.13× over x"}
    curve = [row(1024 * 2**x, 4.4 - 0.3 * x) for x in np.linspace(0, 5, 81)]
    assert placed([worth], curve, [])[0]["place"] == "below"  # above it is the law
    dots = [row(5000, 3.43), row(11000, 3.5)]
    (found,) = placed([worth], curve, dots)
    assert found["place"] == "before" and found["short"] == "1.72×\n1.13×"
    whole = worth | {"label": "1.72× (1.57–1.87) over y\n1.13× (1.02–1.25) over x"}
    assert placed([whole], curve, dots)[0]["short"] == found["short"]
    left = [row(5000, 3.43), row(3000, 3.5)]
    assert placed([worth], curve, left)[0]["place"] == "over"


def test_a_constant_mixture_stands_beside_what_it_rivals():
    """Else the first figure shows what replay is worth against the weaker of its two rivals."""
    mixed = sweep(worth=lambda rho: 1 + rho, budgets=(2048, 4096), replay_fractions=())
    runs = sweep(worth=lambda rho: 1 + rho, reference="no replay")
    named = [
        {**run, "id": f"mixed {run['id']}", "losses": lower(run["losses"], 0.1)} for run in mixed
    ]
    config = AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), 0.9)
    found = analyse([*runs, *named], config, resamples=100).target()
    figure = efficiency_figure(found, shown_of(found))
    drawn = [row for row in table(figure, "label") if row["series"] == "constant mixture"]
    (own,) = (
        cell
        for cell in found.cells
        if (cell.key.protocol, cell.key.target_tokens) == ("uniform", 4096)
    )
    assert [(row["tokens"], row["loss"]) for row in drawn] == [(4096, own.chosen.target_loss)]
    assert drawn[0]["equivalent"] is None and drawn[0]["setting"] == "16 epochs"
    assert "drawn where it is another: constant mixture;" in figure.caption


def test_amounts_on_an_axis_are_written_as_in_the_text(study, shown):
    drawn = draw_figures([efficiency_figure(study, shown)])
    (svg,) = (drawing.svg for drawing in drawn.values())
    assert ">4,096<" in svg and ">4.1k<" not in svg


def test_the_law_is_marked_where_nothing_was_measured(study, shown):
    law = table(efficiency_figure(study, shown), "piece")
    budgets = [cell.key.target_tokens for cell in study.reference_cells]
    for row in law:
        inside = min(budgets) <= row["tokens"] <= max(budgets)
        assert row["low"] <= row["loss"] <= row["high"]
        if row["range"] == "reference law":
            assert inside
        else:
            assert not min(budgets) < row["tokens"] < max(budgets)
    assert {row["range"] for row in law} == {"reference law", "extrapolated"}


def test_every_seed_is_a_dot_and_the_lowest_mean_is_ringed(study, shown):
    target, generic = replay_figures(study, shown)
    seeds, means = table(target, "seed"), table(target, "best")
    assert len(seeds) == 2 * len(means) == 2 * 2 * 3 * 4  # seeds, budgets, allocations, fractions
    for series in {row["series"] for row in means}:
        line = [row for row in means if row["series"] == series]
        ringed = [row for row in line if row["best"]]
        assert [row["loss"] for row in ringed] == [min(row["loss"] for row in line)]
        assert ringed[0]["rho"] == 0.5
    assert generic.spec != target.spec


def test_a_line_has_one_allocation_and_every_baseline_is_on_the_chart(study, shown):
    target, _ = replay_figures(study, shown)
    drawn = [row for rows in target.spec["datasets"].values() for row in rows]
    means = table(target, "best")
    for series in {row["series"] for row in means}:
        allocations = {r["setting"].split(",")[0] for r in means if r["series"] == series}
        assert len(allocations) == 1 and series.endswith(allocations.pop())
    for tokens in study.budgets:
        base = shown[tokens].usual
        assert base.key.allocation == 1.0
        assert any(row["loss"] == base.chosen.target_loss and row["rho"] == 0 for row in drawn)


def few(*places):
    """Runs of two seeds at these (allocation, replay fraction) alone, and no reference."""
    found = []
    one = FakeStudy(
        seeds=(0, 1), candidate_budgets=(4096,), allocations=tuple({place[0] for place in places})
    )
    for run in fake_records(one):
        place = (run["allocation"]["requested"], run["replay_fraction"]["requested"])
        if run["protocol"] != "uniform" and place in places:
            found.append(run)
    return found


def test_every_allocation_with_two_points_has_a_line_and_the_rival_is_drawn():
    runs = few((1.0, 0.0), (1.0, 0.75), (0.5, 0.0), (0.5, 0.75), (0.75, 0.75), (0.25, 0.0))
    less = {0.75: 0.5, 0.25: 0.4}
    runs = [
        run | {"losses": lower(run["losses"], less.get(run["allocation"]["requested"], 0))}
        for run in runs
    ]
    study = analyse_anyway(runs, CONFIG, resamples=50).targets[0]
    figure, _ = replay_figures(study, shown_of(study))
    lines = {}
    for row in table(figure, "best"):
        lines.setdefault(row["series"], []).append(row["rho"])
    assert lines == {"4,096, α 0.75": [0.75], "4,096, α 1": [0, 0.75], "4,096, α 0.5": [0, 0.75]}
    rules = [x for x in figure.spec["layer"] if x["mark"]["type"] == "rule"]
    (across,) = figure.spec["datasets"][rules[0]["data"]["name"]]
    (rival,) = (cell for cell in study.cells if cell.key.allocation == 0.25)
    assert across["series"] == "no replay, α 0.25" and len(rules) == 1
    assert across["loss"] == pytest.approx(rival.chosen.target_loss)
    assert "Dashed across: the best schedule without replay" in figure.caption


def test_a_caption_speaks_of_what_is_drawn_and_zero_has_a_tick():
    runs = few((0.5, 0.75), (1.0, 0.0))
    study = analyse_anyway(runs, CONFIG, resamples=50).targets[0]
    figure, _ = replay_figures(study, shown_of(study))
    for word in ("Lines", "ring", "Grey", "multiplier"):
        assert word not in figure.caption
    (x,) = {str(layer["encoding"]["x"]["axis"]["values"])
            for layer in figure.spec["layer"] if "x" in layer["encoding"]}  # fmt: skip
    assert x == "[0.0, 0.75]"


def test_the_lowest_cell_of_the_heatmap_is_boxed(study, shown):
    figures = heatmap_figures(study, shown, {})
    assert len(figures) == len(study.budgets) == 2
    for figure in figures:
        cells = table(figure, "best")
        assert len(cells) == 4 * 3
        boxed = [cell for cell in cells if cell["best"]]
        assert [cell["loss"] for cell in boxed] == [min(cell["loss"] for cell in cells)]
        assert boxed[0]["dark"] and not max(cells, key=lambda c: c["loss"])["dark"]


def test_the_paper_s_best_cells_are_named_in_the_heatmap(study, shown):
    figure = heatmap_figures(
        study, shown, {(0.5, 0.25): ("flan", "finemath"), (0.875, 1.0): ("x",)}
    )[0]
    named = {(c["rho"], c["alpha"]): c["published"] for c in table(figure, "best")}
    assert {cell: names for cell, names in named.items() if names} == {
        (0.5, 0.25): "flan, finemath"
    }
    assert "one run each" in figure.caption
    assert "one run each" not in heatmap_figures(study, shown, {})[0].caption


def test_a_baseline_is_drawn_along_its_axis_with_what_replay_reaches(records, study):
    decay = "optimizer.weight_decay"
    alone = [r for r in records if r["replay_fraction"]["requested"] == 0]
    alone = [r for r in alone if r["target_tokens"] == 4096 and r["allocation"]["requested"] == 1]
    others = [r for r in records if r["replay_fraction"]["requested"]]
    others = [r for r in others if r["target_tokens"] == 4096]
    swept = [
        r | {"id": f"{r['id']}-{value}", "overrides": r["overrides"] | {decay: value}}
        for r in alone
        for value in (0.0, 0.1, 1.6)
    ]
    config = dataclasses.replace(CONFIG, reference={"replay_fraction": 0.0})
    found = analyse_anyway([*swept, *others], config, resamples=20).targets[0]
    (figure,) = loss_figures(found, ("schedule.target_epochs",), {decay: 0.1})
    rows = [row for rows in figure.spec["datasets"].values() for row in rows]
    means = [row for row in rows if "series" in row]
    assert {row["series"] for row in means} == {"target epochs 8", "target epochs 16"}
    assert {row["value"] for row in means} == {0.0, 0.1, 1.6}
    chosen, best = (row for row in rows if "label" in row)
    assert chosen == {"value": 0.1, "label": "chosen in the paper"}
    replayed = [cell for cell in found.cells if cell.key.replay_fraction > 0]
    assert best["loss"] == min(cell.chosen.target_loss for cell in replayed)
    scale = figure.spec["layer"][0]["encoding"]["x"]["scale"]
    assert (scale["type"], scale["constant"]) == ("symlog", 0.1)  # zero has no logarithm


def test_a_caption_speaks_of_lines_only_where_values_are_numbers():
    one = FakeStudy(seeds=(0, 1), candidate_budgets=(4096,), allocations=(1.0,))
    figures = loss_figures(analyse(fake_records(one), CONFIG, resamples=50).targets[0], (), {})
    lines = {f.name: any(x["mark"]["type"] == "line" for x in f.spec["layer"]) for f in figures}
    assert set(lines.values()) == {True, False}
    for figure in figures:
        assert ("Lines" in figure.caption) == lines[figure.name]


def test_no_heatmap_without_a_swept_allocation():
    one = FakeStudy(allocations=(1.0,), seeds=(0, 1), candidate_budgets=(4096,))
    study = analyse(fake_records(one), CONFIG, resamples=50).targets[0]
    assert heatmap_figures(study, shown_of(study), {}) == ()


def test_the_quadratic_minimum_is_near_the_truth(study):
    minima = table(quadratic_figure(study), "label")
    assert len(minima) == 2
    for row in minima:
        assert row["rho"] == pytest.approx(GSM8K.best_replay, abs=0.05)
        assert row["strength"] == pytest.approx(-np.log1p(-row["rho"]))


def test_the_front_falls_and_nothing_lies_below_it(study):
    for figure in pareto_figures(study):
        points = table(figure, "seeds")
        (front,) = (t for t in figure.spec["datasets"].values() if t != points)
        generic = [row["generic"] for row in front]
        assert generic == sorted(generic, reverse=True)
        for trade in front:
            assert not any(
                row["target"] < trade["target"] and row["generic"] < trade["generic"]
                for row in points
            )
        assert {"constant mixture", "0", "0.5"} <= {row["series"] for row in points}


def test_boundary_changes_start_at_zero(study, records, shown):
    by_id = {record["id"]: record for record in records}
    generic = boundary_figures(study, shown, by_id)[0]
    changes = table(generic, "change")
    at_start = [row["change"] for row in changes if row["offset"] == 0]
    assert at_start and all(change == 0 for change in at_start)
    after = {row["series"]: row["change"] for row in changes if row["offset"] == 4}
    assert after["0"] > after["0.75"]  # replay softens the spike in these records


def test_runs_without_a_boundary_give_no_boundary_figure(study, records, shown):
    bare = {record["id"]: {**record, "boundary": None} for record in records}
    assert boundary_figures(study, shown, bare) == ()


def test_training_curves_belong_to_the_focus_budget(study, records, shown):
    by_id = {record["id"]: record for record in records}
    assert focus_budget(study) == 4096
    target, generic = training_figures(study, shown, by_id)
    rows = table(target, "measured")
    runs = {row["run"].split()[0] for row in rows}
    assert {by_id[run]["target_tokens"] for run in runs} == {4096}
    assert {row["measured"] for row in rows} == {"held out", "training"}
    assert target.name != generic.name


def test_training_losses_stand_in_the_middle_of_their_window_and_cross_no_gap(
    study, records, shown
):
    by_id = {record["id"]: record for record in records}
    rows = table(training_figures(study, shown, by_id)[0], "measured")
    trained = [row for row in rows if row["measured"] == "training"]
    lines = {}
    for row in trained:
        lines.setdefault(row["run"], []).append(row["step"])
    for run, steps in lines.items():
        curve = by_id[run.split()[0]]["curve"]
        ends = [0, *(point["step"] for point in curve)]
        windows = {(a + b) / 2: point for a, b, point in zip(ends, ends[1:], curve, strict=False)}
        assert all(windows[step]["train_target"] is not None for step in steps)
        inside = [windows[step] for step in windows if steps[0] <= step <= steps[-1]]
        assert len(inside) == len(steps)  # no window without target rows between two of a line
    gaps = {**by_id[trained[0]["run"].split()[0]]}
    gaps["curve"] = [point | {"train_target": 3.0} for point in gaps["curve"]]
    gaps["curve"][2]["train_target"] = None
    broken = table(training_figures(study, shown, by_id | {gaps["id"]: gaps})[0], "measured")
    own = {row["run"] for row in broken if row["run"].startswith(f"{gaps['id']} training")}
    assert len(own) == 2


def test_without_a_law_the_points_are_still_drawn():
    two = FakeStudy(budgets=(4096, 8192), seeds=(0, 1))
    study = analyse(fake_records(two), CONFIG, resamples=50).targets[0]
    assert study.curve is None and study.curve_problem
    candidates = table(efficiency_figure(study, shown_of(study)), "equivalent_low")
    assert all(row["equivalent"] is None for row in candidates)
    figure = efficiency_figure(study, shown_of(study))
    assert "worth" not in figure.title
    for word in ("law", "band", "dotted", "bar"):
        assert word not in figure.caption.split()
    assert figure.caption.startswith("Grey: the reference recipe, constant mixture")


def test_without_a_law_one_amount_of_data_says_nothing_of_worth():
    one = FakeStudy(budgets=(4096,), candidate_budgets=(4096,), seeds=(0, 1))
    study = analyse_anyway(fake_records(one), CONFIG, resamples=50).targets[0]
    assert efficiency_figure(study, shown_of(study)) is None


def test_targets_get_figures_of_their_own():
    both = FakeStudy(targets=(GSM8K, BASQUE), seeds=(0, 1), allocations=(1.0,))
    found = analyse(fake_records(both), CONFIG, resamples=50)
    names = [efficiency_figure(study, shown_of(study)).name for study in found.targets]
    assert names == ["efficiency_basque", "efficiency_gsm8k"]


def test_pictures_need_no_browser(figures, tmp_path):
    chosen = tuple(f for f in figures if f.name.startswith(("efficiency", "heatmap_gsm8k_4096")))
    paths = write_pictures(draw_figures(chosen), tmp_path / "figures")
    assert [path.suffix for path in paths] == [".svg", ".png"] * 2
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert content[:8] == b"\x89PNG\r\n\x1a\n"
            width, height = struct.unpack(">II", content[16:24])
            assert width > 1400 and height > 400
        else:
            text = content.decode()
            assert text.startswith("<svg") and "nats per token" in text or "4096" in path.name
    assert not list((tmp_path / "figures").glob(".*"))


def test_themes_differ_in_colour_only():
    light = vega_config(LIGHT, background="transparent", font="sans-serif")
    dark = vega_config(DARK, background="transparent", font="sans-serif")

    def keys(value):
        return {k: keys(v) for k, v in value.items()} if isinstance(value, dict) else None

    assert keys(light) == keys(dark) and light != dark
    assert len(LIGHT.series) == len(DARK.series) == 6


def test_a_line_along_an_axis_joins_numbers_and_never_words():
    """Between two targets there is nothing that a line could stand for."""
    both = FakeStudy(targets=(GSM8K, BASQUE), seeds=(0, 1), allocations=(1.0, 0.5))
    figures = {f.name: f for f in along_figures(analyse(fake_records(both), CONFIG, resamples=50))}
    marks = {
        name: {layer["mark"]["type"] for layer in figure.spec["layer"]}
        for name, figure in figures.items()
    }
    assert "line" in marks["along_target_tokens"] and "line" in marks["along_allocation"]
    assert "line" not in marks["along_target"] and "point" in marks["along_target"]
