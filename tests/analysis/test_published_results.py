"""What experiments/ claims follows from the records that lie beside the claim."""

import dataclasses
import re

import pytest
from places import ROOT

from replay_jax.analysis.advice.compare import compare
from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.advice.wording import brief
from replay_jax.analysis.runs.records import load_records, stored_analysis
from replay_jax.analysis.statistics.bootstrap import interval
from replay_jax.analysis.study.analyse import analyse, analyse_anyway
from replay_jax.config.experiments import experiments_of
from replay_jax.config.recipe import load_recipe
from replay_jax.report.advice import advise
from replay_jax.report.answer import settled
from replay_jax.report.tables.task_tables import task_tables

EXPERIMENTS = ROOT / "experiments"
FOLDER = EXPERIMENTS / "quickstart"


def study_in(folder):
    return study_in_file(folder / "results.jsonl")


def study_in_file(path):
    records = load_records(path)
    return analyse(records, stored_analysis(records[0]["config"]["analysis"]))


@pytest.fixture(scope="module")
def study():
    return study_in(FOLDER)


PICKED, FRESH = (FOLDER / "README.md").read_text().split("## On seeds that picked nothing")


def rows_of(text):
    """Budget, ρ, best epochs, both losses and what is said of them, of every row of a table."""
    numbers = r"([\d,]+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \| ([\d.]+)"
    return [
        (int(tokens.replace(",", "")), float(rho), float(epochs), losses, said.split(" | "))
        for tokens, rho, epochs, *losses, said in re.findall(
            rf"^\| {numbers} \| (.*?) ?\|$", text, re.MULTILINE
        )
    ]


def check_losses(study, rows):
    """Every row is a cell at its best epochs; returns the cells in the order of the rows."""
    cells = {(c.key.target_tokens, c.key.replay_fraction): c for c in study.targets[0].cells}
    found = [cells[tokens, rho] for tokens, rho, *_ in rows]
    for (_, _, epochs, losses, _), cell in zip(rows, found, strict=True):
        chosen = cell.chosen
        assert chosen.target_epochs == epochs
        assert [f"{loss:.3f}" for loss in (chosen.target_loss, chosen.generic_loss)] == losses
    return found


def test_the_quickstart_table_follows_from_its_records(study):
    rows = rows_of(PICKED)
    assert len(rows) == len(study.targets[0].cells) == 11
    for cell, (*_, (worth,)) in zip(check_losses(study, rows), rows, strict=True):
        if worth[0].isdigit():
            assert worth == spelled(cell.multiplier, ".2f")


def test_the_fresh_quickstart_follows_from_its_records():
    records = load_records(FOLDER / "fresh.jsonl")
    assert len(records) == 105 and {record["seed"] for record in records} == {4, 5, 6}
    config = stored_analysis(records[0]["config"]["analysis"])
    apart = analyse_anyway(records, dataclasses.replace(config, tuned=()))
    picked = {(tokens, rho): epochs for tokens, rho, epochs, *_ in rows_of(PICKED)}

    def setting(tokens, rho):
        """The cell of the setting that was best on the first seeds."""
        return [
            i
            for i, cell in enumerate(apart.targets[0].cells)
            if (cell.key.target_tokens, cell.key.replay_fraction) == (tokens, rho)
            and float(dict(cell.key.axes)["schedule.target_epochs"]) == picked[tokens, rho]
        ]

    rows = rows_of(FRESH)
    assert len(rows) == 7
    worth = rows[2][-1][0].replace(" (", " times (")
    assert worth in PICKED and worth in (ROOT / "README.md").read_text()
    for cell, row in zip(check_losses(analyse(records, config), rows), rows, strict=True):
        tokens, rho, *_, said = row
        if rho:
            gain = compare(apart.targets[0], setting(tokens, rho), setting(tokens, 0)).gain
            kept = spelled(gain, ".3f")
            assert said == [spelled(cell.multiplier, ".2f"), kept]


def test_the_readme_prints_what_the_quickstart_gives(study):
    """The words may change; the numbers of the records do not."""
    found, text = recommend(study), (FOLDER.parents[1] / "README.md").read_text()
    printed = " ".join(re.search(r"prints\n\n((?: {4}.*\n)+)", text)[1].split())
    worth = found.multiplier
    said = f"worth {worth.value:.2f} times the target data (90 % interval {worth.low:.2f} to"
    assert f"{said} {worth.high:.2f})" in printed
    assert f"saves {-found.generic_cost.value:.3f} nat of generic loss" in printed


def test_the_quickstart_compares_at_one_learning_rate(study):
    assert "learning rate" not in {caution.kind for caution in recommend(study).cautions}


def test_a_next_seed_changes_the_data_with_the_model(study):
    """The sweep varies seed and data_seed together; advice must not vary one alone."""
    runs = [run for option in recommend(study).next_runs for run in option.runs]
    assert runs
    assert all(run["data_seed"] == run["seed"] for run in runs)


def test_the_tables_of_the_controls_follow_from_their_records():
    folder = EXPERIMENTS / "quickstart_controls"
    text = (folder / "README.md").read_text()
    records = load_records(folder / "results.jsonl")
    (experiment, _), *_ = experiments_of(load_recipe("quickstart_controls"))
    study = analyse(records, experiment.analysis)
    cells = {}
    for cell in study.targets[0].cells:
        key = cell.key
        if key.target_tokens == 4096:
            cells[key.protocol, key.replay_fraction, key.allocation, key.axes] = cell
    rows = re.findall(
        r"^\| (?:ρ = ([\d.]+).*|(constant mixture)) "
        r"\| (\d+) \| ([\d.]+) \| ([\d.]+) \| (.*) \|$",
        text,
        re.MULTILINE,
    )
    assert len(rows) == 4
    for rho, constant, epochs, target, generic, worth in rows:
        cell = cells["uniform" if constant else "two_stage", float(rho or 0), 1.0, ()]
        chosen = cell.chosen
        assert (f"{chosen.target_epochs:g}", f"{chosen.target_loss:.3f}") == (epochs, target)
        assert f"{chosen.generic_loss:.3f}" == generic
        if worth != "1":
            low, high = cell.multiplier.low, cell.multiplier.high
            assert worth == f"{cell.multiplier.value:.2f} ({low:.2f} to {high:.2f})"
    answers = recommend_every_group(study, study.targets[0].target)
    assert len({answer.sentence for answer in answers}) == len(answers) == 5
    # Groups have different rivals, so one more number without its own would mislead.
    shorter = [brief(answer.answered, answer.verdict, "x") for answer in answers]
    assert all(f" against {a.rival.words}" in s for a, s in zip(answers, shorter, strict=True))
    rival = answers[0].rival  # a knob that was tried without a constant mixture does not lead
    assert "constant mixture" in rival.words
    gain, worth = rival.gain, rival.multiplier
    for shown, digits in ((gain, ".3f"), (worth, ".2f")):
        value, low, high = (
            re.sub(r"^0", "", format(number, digits))
            for number in (shown.value, shown.low, shown.high)
        )
        assert re.search(
            rf"{re.escape(value)}[^()]*\({re.escape(low)} to {re.escape(high)}\)", text
        )
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


@pytest.mark.parametrize(("file", "seeds"), [("results", (1, 2, 3)), ("fresh", range(4, 10))])
def test_the_tables_of_early_target_data_follow_from_their_records(file, seeds):
    folder = EXPERIMENTS / "early_target"
    tables = (folder / "README.md").read_text().split("Fresh seeds, nothing chosen on them:")
    text = tables[file == "fresh"]
    lines = re.findall(r"^\| (?:ρ|const|\").* \| \d+ \| [\d. ]+ \| .*\|$", text, re.MULTILINE)
    found = {}
    for record in load_records(folder / f"{file}.jsonl"):
        rho, alpha = rho_of(record), record["allocation"]["requested"]
        place = "constant mixture" if rho is None else f"ρ = {rho:g}, α = {alpha:g}"
        place = place.replace("0.", ".") + (" (usual recipe)" if (rho, alpha) == (0, 1) else "")
        key = place, f"{record['target_epochs']:g}"
        found.setdefault(key, {})[record["seed"]] = record["losses"]
    assert len(lines) == len(found)
    for place, epochs, by_seed, target, generic in filled(lines):
        losses = found[place, epochs]
        assert by_seed.split() == [f"{losses[seed]['target']:.3f}" for seed in seeds]
        for role, shown in (("target", target), ("generic", generic)):
            assert shown == f"{sum(losses[seed][role] for seed in seeds) / len(seeds):.3f}"


def test_the_gains_on_fresh_seeds_follow_from_their_records():
    text = (EXPERIMENTS / "early_target" / "README.md").read_text()
    study = study_in_file(EXPERIMENTS / "early_target" / "fresh.jsonl").targets[0]
    places = {
        (c.key.protocol, c.key.replay_fraction, c.key.allocation): i
        for i, c in enumerate(study.cells)
    }
    rivals = [("two_stage", 0.0, 1.0), ("uniform", 0.0, 1.0), ("two_stage", 0.0, 0.25)]
    rows = re.findall(r"^\| ρ = \.75, α = ([\d.]+) \| (\S+ \(.*\)) \|$", text, re.MULTILINE)
    assert len(rows) == 2
    for alpha, words in rows:
        for rival, shown in zip(rivals, words.split(" | "), strict=True):
            own = places["two_stage", 0.75, float(alpha)]
            gain = compare(study, [own], [places[rival]]).gain
            value, low, high = (
                f"{number:.3f}".replace("0.", ".", 1)
                for number in (gain.value, gain.low, gain.high)
            )
            assert shown == f"{value} ({low} to {high})"


@pytest.mark.parametrize(("file", "seeds"), [("results", (1, 2, 3)), ("fresh", (4, 5, 6, 7))])
def test_the_table_of_placements_follows_from_its_records(file, seeds):
    folder = EXPERIMENTS / "placement"
    records = [
        record
        for record in load_records(folder / f"{file}.jsonl")
        if record["allocation"]["requested"] == 0.5 and record["target_epochs"] == 24
    ]
    losses = {}
    for record in records:
        at = (record["config"]["schedule"]["placement"], rho_of(record))
        losses.setdefault(at, {})[record["seed"]] = record["losses"]["target"]
    table = (folder / "README.md").read_text().split("On fresh seeds:")[file == "fresh"]
    numbers = r"([\d.]+) \| ([\d.]+) \| ([\d.]+)"
    rows = re.findall(rf"^\| {numbers} \| (.*) \| (.*) \|$", table, re.MULTILINE)
    assert len(rows) == 3
    front = " ".join((folder / "README.md").read_text().split("replay-jax run")[0].split())
    gains = [
        sum(losses[place, 0.0][seed] - losses[place, 0.75][seed] for seed in seeds) / len(seeds)
        for place in ("aligned", "paper")
    ]
    words = {"results": "{} nat with aligned placement and {} with", "fresh": "({} and {} on"}
    assert words[file].format(*(f"{gain:.3f}"[1:] for gain in gains)) in front
    for rho, paper, aligned, by_seed, mean in rows:
        ours, theirs = (losses[place, float(rho)] for place in ("aligned", "paper"))
        gaps = [ours[seed] - theirs[seed] for seed in seeds]
        assert paper == f"{sum(theirs.values()) / len(seeds):.3f}"
        assert aligned == f"{sum(ours.values()) / len(seeds):.3f}"
        assert [float(gap) for gap in by_seed.split()] == [round(gap, 3) for gap in gaps]
        if rho != ".75":  # there the two are one schedule
            assert mean == placement_costs(records, float(rho))
            assert mean.replace("+", "").split(" ")[0] in front


def placement_costs(records, rho):
    """Aligned less paper, with the tool's interval, as the page has it."""
    (study,) = analyse(records, stored_analysis(records[0]["config"]["analysis"])).targets
    paper, aligned = (
        next(i for i, cell in enumerate(study.cells)
             if cell.key.replay_fraction == rho and bool(cell.key.axes) == is_aligned)
        for is_aligned in (False, True)
    )  # fmt: skip
    found = study.cells[aligned].target_loss.value - study.cells[paper].target_loss.value
    drawn = study.draws.target[:, aligned] - study.draws.target[:, paper]
    low, high = interval(drawn, level=study.level)
    return f"{found:+.3f} ({low:+.3f} to {high:+.3f})".replace("0.", ".")


def test_placements_are_analysed_by_their_own_settings():
    """One budget makes no law, so that several groups there may be the reference costs nothing."""
    found = study_in(EXPERIMENTS / "placement")
    assert "at least 3 budgets" in found.target().curve_problem
    answers = recommend_every_group(found, found.target().target)
    gains = {
        ("aligned" if each.answered.own.axes else "paper"): each.gain.value for each in answers
    }
    assert gains == pytest.approx({"aligned": 0.170, "paper": 0.035}, abs=2e-3)


BASQUE = EXPERIMENTS / "basque_small"


def filled(lines):
    """Cells of Markdown rows; a ditto mark in the first column means the row above it."""
    rows, above = [], ""
    for line in lines:
        first, *rest = [cell.strip().replace("*", "") for cell in line.strip("|\n ").split("|")]
        above = above if first == '"' else first
        rows.append((above, *rest))
    return rows


def mean_by(records, *fields):
    """Mean target and generic loss of the seeds, by what `fields` say of a record."""
    groups = {}
    for record in records:
        groups.setdefault(tuple(field(record) for field in fields), []).append(record["losses"])
    return {
        key: {role: sum(loss[role] for loss in losses) / len(losses) for role in losses[0]}
        for key, losses in groups.items()
    }


def rho_of(record):
    return record["replay_fraction"]["requested"]


def test_the_basque_table_follows_from_its_records():
    text = (BASQUE / "README.md").read_text()
    lines = re.findall(r"^\| (?:[\d,]+|\") \| (?:0|\.5|\.75) \|.*\|$", text, re.MULTILINE)
    records = load_records(BASQUE / "results.jsonl")
    found = mean_by(records, lambda r: r["target_tokens"], rho_of, lambda r: r["target_epochs"])
    cells = {
        (c.key.target_tokens, c.key.replay_fraction): c for c in study_in(BASQUE).targets[0].cells
    }
    assert len(records) == 84 and len(lines) == len(cells) == 8
    for tokens, rho, *losses, worth, english in filled(lines):
        place = int(tokens.replace(",", "")), float(rho)
        cell = cells[place]
        for epochs, loss in zip((2.0, 4.0, 8.0, 16.0), losses, strict=True):
            assert loss == (f"{found[*place, epochs]['target']:.3f}" if loss else "")
            assert bool(loss) == ((*place, epochs) in found)
        assert cell.chosen.target_epochs == 8
        assert english == f"{cell.chosen.generic_loss:.2f}"
        if worth:
            interval = cell.multiplier
            words = f"{interval.value:.2f} ({interval.low:.2f}–{interval.high:.2f})"
            assert worth == re.sub(r"\b0\.", ".", words)


def test_the_basque_tasks_follow_from_their_records():
    text = (BASQUE / "README.md").read_text()
    study = study_in(BASQUE).targets[0]
    records = load_records(BASQUE / "results.jsonl")
    tables = dict(zip(("basque", "english"), task_tables(study, records)[:2], strict=True))
    lines = [row.cells for row in tables["english"].rows]
    basque = {row.cells[:2]: row.cells[3] for row in tables["basque"].rows}
    assert f"| before training | {lines[0][3]} | | | {basque['before training', '']} |" in text
    shown = 0
    for tokens, rho, _, accuracy, change, p, *_ in lines[1:]:
        if tokens in ("32,768", "65,536"):
            share = f"{accuracy} | " + ("| " if change == "baseline" else f"{change} | ")
            row = re.search(
                re.escape(share) + rf"(\S*) ?\| {re.escape(basque[tokens, rho])} \|", text
            )
            assert row, (tokens, rho, share)
            if change != "baseline":
                assert float(row[1]) == pytest.approx(float(p), rel=0.06)
            shown += 1
    assert shown == 6


def test_the_basque_rates_follow_from_their_records():
    text = (BASQUE / "README.md").read_text()
    lines = re.findall(r"^\| (?:3e-3|6e-3|1e-2) \|.*\|$", text, re.MULTILINE)
    records = load_records(BASQUE / "rates.jsonl")
    found = mean_by(records, rho_of, lambda r: r["learning_rate"])
    assert len(records) == 27 and len(lines) == 3
    for rate, *shown in filled(lines):
        for rho, words in zip((0.0, 0.5, 0.75), shown, strict=True):
            seeds, mean = words.split(": ")
            losses = {
                r["seed"]: r["losses"]["target"]
                for r in records
                if rho_of(r) == rho and r["learning_rate"] == float(rate)
            }
            assert seeds.split() == [f"{losses[seed]:.3f}" for seed in (1, 2, 3)]
            assert mean == f"{found[rho, float(rate)]['target']:.3f}"
    best = [min((v["target"], v["generic"]) for k, v in found.items() if k[0] == rho) for rho in
            (0.0, 0.5, 0.75)]  # fmt: skip
    english = " | ".join(f"{generic:.2f}" for _, generic in best)
    assert f"| English at the best | {english} |" in text
    tuned = study_in_file(BASQUE / "rates.jsonl").targets[0]
    gain = next(c.gain for c in tuned.cells if c.key.replay_fraction == 0.75)
    assert f"{gain.value:.3f} less (90 % interval {gain.low:.3f} to {gain.high:.3f})".replace(
        "0.", "."
    ) in text  # fmt: skip


def test_every_worth_of_a_table_is_against_its_own_baseline():
    """The best schedule of the controls is worth 1.12 against its rival and 1.73 in its table."""
    records = load_records(EXPERIMENTS / "quickstart_controls" / "results.jsonl")
    (experiment, _), *_ = experiments_of(load_recipe("quickstart_controls"))
    study = analyse(records, experiment.analysis)
    shown = settled(study, advise(study)).targets[0].cells
    (mixed,) = (cell for cell in shown if cell.key.protocol == "uniform")
    best = min(
        (cell for cell in shown if cell.key.target_tokens == 4096 and not cell.key.axes),
        key=lambda cell: cell.chosen.target_loss,
    )
    assert best.key.replay_fraction == 0.75 and best.baseline == mixed.baseline
    assert best.multiplier.value > mixed.multiplier.value > 1.5


def test_the_headline_in_miniature_follows_from_its_records():
    folder = EXPERIMENTS / "paper" / "headline"
    text = (folder / "README.md").read_text()
    study = study_in(folder)
    advice = advise(study)
    rows = re.findall(
        r"^\| (\w+) \| (two_stage|fine_tuning)" + 3 * r" \| ([\d.]+)" + r" \| (.*?) \| (.*?) ?\|$",
        text,
        re.MULTILINE,
    )
    assert len(rows) == 12
    # The constant mixtures there had a cosine: that may be what is credited to replay.
    for answer in (answer for given in advice.values() for answer in given):
        (caution,) = (each.words for each in answer.cautions if each.kind == "learning rate")
        staged = answer.answered.own.protocol == "two_stage"
        rates = "shape cosine and not linear" if staged else "peak 0.003 and not 0.001"
        assert f"a constant mixture had another learning rate over the steps ({rates})" in caution
    for target, protocol, rho, target_loss, generic_loss, worth, gain in rows:
        found = settled(study, advice).target(target)
        (cell,) = [
            c for c in found.cells
            if c.key.protocol == protocol and abs(c.key.replay_fraction - float(rho)) < 1e-6
        ]  # fmt: skip
        assert f"{cell.chosen.target_loss:.3f}" == target_loss
        assert f"{cell.chosen.generic_loss:.3f}" == generic_loss
        if gain:
            assert gain == spelled(cell.gain, ".3f")
        if worth[0] in ".0123456789":
            assert worth == spelled(cell.multiplier, ".2f") and not cell.multiplier.extrapolated
    rivals = {
        target: answer.rival.gain
        for target, given in advice.items()
        for answer in given
        if study.target(target).cells[answer.best].key.protocol == "two_stage"
    }
    front = " ".join(text.split())
    over_mixture = spelled(rivals["gsm8k_train"], ".3f").replace(" (", " nat (")
    assert f"gains {over_mixture}" in front
    assert f"and {spelled(rivals['basque'], '.3f')} for Basque" in front
    assert spelled(rivals["code"], ".3f").replace(" (", ", ")[:-1] in front.replace("(", "")


def spelled(found, form):
    """A value with its interval as the pages write it, without a zero before the point."""
    numbers = [f"{x:{form}}" for x in (found.value, found.low, found.high)]
    bare = [re.sub(r"^(-?)0\.", r"\1.", number) for number in numbers]
    return f"{bare[0]} ({bare[1]} to {bare[2]})"


@pytest.mark.parametrize("name", ["practice_instructions", "practice_web"])
@pytest.mark.parametrize(("file", "cells"), [("results.jsonl", 4), ("fresh.jsonl", 2)])
def test_the_tables_of_the_practice_studies_follow_from_their_records(name, file, cells):
    folder = EXPERIMENTS / name
    study, records = study_in_file(folder / file).targets[0], load_records(folder / file)
    front, heading, fresh = (folder / "README.md").read_text().partition("## On seeds that picked")
    assert heading
    lines = re.findall(
        r"^\| (\S+) \| (\d+) \| (\d+) \| ([\d. ]+) \| ([\d.]+) \| (.*) \| ([\d.]+) \| (.*) \|$",
        fresh if file == "fresh.jsonl" else front,
        re.MULTILINE,
    )
    assert len(lines) == len(study.cells) == cells
    for cell, line in zip(study.cells, lines, strict=True):
        rho, epochs, steps, losses, mean, gain, english, cost = line
        own = sorted((r for r in records if rho_of(r) == float(rho)), key=lambda r: r["seed"])
        assert {(r["target_epochs"], r["total_steps"]) for r in own} == {(int(epochs), int(steps))}
        assert losses.split() == [f"{r['losses']['target']:.3f}" for r in own]
        assert mean == f"{cell.chosen.target_loss:.3f}"
        assert english == f"{cell.chosen.generic_loss:.3f}"
        for words, found in ((gain, cell.gain), (cost, cell.generic_cost)):
            ends = "" if found is None else f"{found.low:+.3f} to {found.high:+.3f}"
            value = "" if found is None else f"{found.value:+.3f} ({ends})"
            assert words == re.sub(r"\b0\.", ".", value)
    if file == "fresh.jsonl":
        return
    # What was chosen on seed 1 is said of the seeds that chose nothing, beside the claim.
    usual, replayed = (
        {r["seed"]: r["losses"]["target"] for r in records if rho_of(r) == rho} for rho in (0, 0.75)
    )
    fresh = " and ".join(f"{usual[seed] - replayed[seed]:.3f}".lstrip("0") for seed in (2, 3))
    answer = " ".join((folder / "README.md").read_text().split())
    assert f"chosen on seed 1, and on seeds 2 and 3 it is {fresh}" in answer


@pytest.mark.parametrize(
    ("file", "runs", "heading"),
    [("results.jsonl", 231, "**Replayed**"), ("fresh.jsonl", 76, "## On seeds that picked")],
)
def test_what_was_replayed_follows_from_its_records(file, runs, heading):
    folder = EXPERIMENTS / "replay_sources"
    (study,) = study_in_file(folder / file).targets
    whole = (folder / "README.md").read_text()
    text = whole[whole.index(heading) :]
    lines = re.findall(r"^\| [\w ]+ \| [\d.]+ \| \d+ \| \d+ \|.*\|$", text, re.MULTILINE)[:19]
    places = {(dict(c.key.axes)["replay"], c.key.replay_fraction): i
              for i, c in enumerate(study.cells)}  # fmt: skip
    assert len({line.split("|")[1] + line.split("|")[2] for line in lines}) == 19
    assert len(load_records(folder / file)) == runs
    for line in lines:
        name, rho, epochs, steps, by_seed, target, gain, generic, cost = (
            part.strip() for part in line[1:-1].split("|")
        )
        cell = study.cells[places["original" if name == "none" else name, float(rho)]]
        chosen = cell.chosen
        assert (epochs, steps) == (f"{chosen.target_epochs:g}", f"{chosen.steps:g}")
        assert by_seed.split() == [f"{loss:.3f}" for loss in chosen.target_by_seed]
        assert (target, generic) == (f"{chosen.target_loss:.3f}", f"{chosen.generic_loss:.3f}")
        for shown, found in ((gain, cell.gain), (cost, cell.generic_cost)):
            assert shown == ("" if found is None else spelled(found, ".3f"))
    columns = 3 if file == "results.jsonl" else 2
    against = re.findall(
        r"^\| ([a-z_A-Z ]+)" + columns * r" \| (-?\.\d+ \([^|]*\))" + r" \|$", text, re.MULTILINE
    )
    assert len(against) == 8
    for name, *shown in against:
        found = compare(study, [places[name, 0.5]], [places["original", 0.5]])
        costs = (found.gain, found.cost_at_best, found.generic_cost)
        assert shown == [spelled(each, ".3f") for each in costs[:columns]]
