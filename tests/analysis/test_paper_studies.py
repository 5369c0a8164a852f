"""What the pages of experiments/paper/ claim follows from the records beside them."""

import collections
import dataclasses
import functools
import operator
import re
import statistics

import numpy
import pytest
from places import ROOT

from replay_jax.analysis.advice.compare import compare
from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.runs.records import load_records, stored_analysis
from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.report.answer import reasons

PAPER = ROOT / "experiments" / "paper"
EPOCHS = "schedule.target_epochs"
TARGETS = ("gsm8k_train", "code", "basque")


class Page:
    """One study: its words, its records, and every setting of it as a cell of its own."""

    def __init__(self, name, file="results.jsonl"):
        self.text = (PAPER / name / "README.md").read_text()
        self.records = load_records(PAPER / name / file)
        self.analysis = stored_analysis(self.records[0]["config"]["analysis"])
        self.compare_among(self.records)

    def compare_among(self, records):
        """Let `apart` be of these records."""
        self.apart = analyse_anyway(records, dataclasses.replace(self.analysis, tuned=()))

    def rows(self, columns, *, after=""):
        """Rows of so many columns, headers too, of the tables from some words on; no bold."""
        lines = re.findall(r"^\| .* \|$", self.text[self.text.index(after) :], re.MULTILINE)
        cells = ([c.strip().replace("*", "") for c in line[1:-1].split("|")] for line in lines)
        return [row for row in cells if len(row) == columns and set(row[0]) != {"-"}]

    def means(self, role, *fields):
        """Mean losses over the seeds, by what `fields` say of a record, as pages write them."""
        found = collections.defaultdict(list)
        for record in self.records:
            found[tuple(field(record) for field in fields)].append(record["losses"][role])
        return {key: f"{statistics.mean(losses):.3f}" for key, losses in found.items()}

    def gain(self, target, own, others):
        """What the best of some cells gains over the best of others, in nats, as pages write it."""
        study = self.apart.target(target)
        own, others = (
            [i for i, cell in enumerate(study.cells) if chosen(cell)] for chosen in (own, others)
        )
        return spelled(compare(study, own, others).gain)


def spelled(found, form=".3f"):
    value, low, high = (bare(f"{x:{form}}") for x in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def bare(number):
    """A number in words without a zero before its point."""
    return re.sub(r"^(-?)0\.", r"\1.", number)


def has(axis, value):
    """Whether a cell has this value of an axis."""
    return lambda cell: float(dict(cell.key.axes)[axis]) == value


def grouped(found):
    """Shown losses of every target."""
    losses = collections.defaultdict(list)
    for (name, *_), loss in found.items():
        losses[name].append(loss)
    return losses


@pytest.fixture(scope="module")
def epochs():
    return Page("fine_tuning_epochs")


def target_of(record):
    return record["target"]


def epochs_of(record):
    return record["target_epochs"]


def second_rate(record):
    return record["config"]["schedule"]["stage2_learning_rate"]["peak"]


def test_losses_by_epochs_of_fine_tuning(epochs):
    numbers, *rows = epochs.rows(8)
    found = {
        role: epochs.means(role, target_of, second_rate, epochs_of)
        for role in ("target", "generic")
    }
    losses = [row for row in rows if row[0] != "target"]
    assert len(losses) == 12 and len(found["target"]) == 36
    for number, (name, rate, *shown) in enumerate(losses):
        of_role = found["target" if number < 6 else "generic"]
        assert shown == [of_role[name, float(rate), float(epoch)] for epoch in numbers[2:]]


def test_what_the_paper_s_number_of_epochs_gains_over_others(epochs):
    gains = epochs.rows(5, after="| target | 64 epochs against 8")[:4]
    assert [name for name, *_ in gains] == ["target", *TARGETS]
    for name, *shown in gains[1:]:
        assert shown == [
            epochs.gain(name, has(EPOCHS, 64), has(EPOCHS, other)) for other in (8, 32, 128, 256)
        ]


def test_epochs_of_fine_tuning_on_fresh_seeds(epochs):
    page = Page("fine_tuning_epochs", "fresh.jsonl")
    assert len(page.records) == 144 and {run["seed"] for run in page.records} == {3, 4, 5, 6}
    rows = page.rows(5, after="| target, fresh seeds")[1:4]
    assert [name for name, *_ in rows] == list(TARGETS)
    for name, *shown in rows:
        assert shown == [
            page.gain(name, has(EPOCHS, 64), has(EPOCHS, other)) for other in (8, 32, 128, 256)
        ]
    best = []
    for study in (epochs, page):
        found = study.means("target", target_of, second_rate, epochs_of)
        settings = {key[:2] for key in found}
        best.append({s: min((k for k in found if k[:2] == s), key=found.get) for s in settings})
    assert best[0] == best[1] and len(best[0]) == 6


def test_what_the_paper_s_pair_costs_against_the_best(epochs):
    found = epochs.means("target", target_of, second_rate, epochs_of)
    best = {name: min(losses) for name, losses in grouped(found).items()}
    means = {name: float(found[name, 3e-4, 64.0]) - float(least) for name, least in best.items()}
    said = re.search(r"costs \.(\d+) \(word.*\.(\d+) \(code\) and \.(\d+) nat", epochs.text)
    shown = [float(f".{digits}") for digits in said.groups()]
    assert shown == pytest.approx([means[name] for name in TARGETS], abs=2e-3)


@pytest.fixture(scope="module")
def fresh():
    return Page("headline", "fresh.jsonl")


def test_what_the_headline_picked_on_fresh_seeds(fresh):
    front, below = fresh.text.split("## On seeds that picked nothing")
    picked = {tuple(row[:3]): row[6] for row in fresh.rows(7)[1:13]}
    _, *rows = fresh.rows(7, after=below)
    assert len(rows) == 6 and len(fresh.records) == 72
    for target, protocol, rho, gain, confirmed, over_mixture, confirmed_mixture in rows:
        assert gain == picked[target, protocol, rho]
        replayed, none = (staged(protocol, float(value)) for value in (rho, 0))
        assert confirmed == fresh.gain(target, replayed, none)
        if over_mixture:
            value, _, ends = over_mixture.partition(" ")
            assert value in front and ends.strip("()").split(" to ")[0] in front
            assert confirmed_mixture == fresh.gain(target, replayed, constant_mixture)
    means = [
        statistics.mean(float(row[column].split()[0]) for row in rows[:3]) for column in (6, 5)
    ]
    said = re.search(r"replay gains \.(\d+) nat on average where it gained \.(\d+)", below)
    assert [f"{mean:.3f}" for mean in means] == [f"0.{digits}" for digits in said.groups()]


def test_weight_decay_on_the_same_fresh_seeds(fresh):
    text = " ".join((PAPER / "weight_decay" / "README.md").read_text().split())
    plain, decayed = staged("two_stage", 0), staged("two_stage", 0, "0.4")
    found = {
        target: [
            fresh.gain(target, decayed, plain),
            fresh.gain(target, staged("two_stage", rho), decayed),
        ]
        for target, rho in (("gsm8k_train", 7 / 8), ("code", 1 / 2), ("basque", 1 / 2))
    }
    by_decay, by_replay = (gain.replace(" (", " nat over # (") for gain in found["gsm8k_train"])
    assert by_decay.replace("#", ".1") in text
    assert by_replay.replace("#", "that decay").removesuffix(")") in text
    values = {target: [gain.split()[0] for gain in gains] for target, gains in found.items()}
    assert "code: {} and {}, Basque: {} and {})".format(*values["code"], *values["basque"]) in text


@pytest.fixture(scope="module")
def scaling():
    """The page of model scaling, and its study as the tool analyses it."""
    page = Page("model_scaling")
    return page, analyse_anyway(page.records, page.analysis)


def test_runs_to_add_keep_the_pairs_of_seed_and_data_seed(scaling):
    """Seeds 0, 1, 2 were run with data seeds 42, 43, 44: others would not be the same rows."""
    runs = [run for option in recommend(scaling[1]).next_runs for run in option.runs]
    assert {run["seed"] for run in runs} == {0, 1, 2, 3}
    assert all(run["data_seed"] == 42 + run["seed"] for run in runs)


def test_gains_of_three_sizes_of_models(scaling):
    page, found_study = scaling
    (study,) = found_study.targets
    sizes = {record["config"]["model"]["embed_dim"]: record["model"] for record in page.records}
    found = {}
    for position, cell in enumerate(study.cells):
        width = int(re.search(r"'embed_dim': (\d+)", dict(cell.key.axes)["model"])[1])
        found[width, cell.key.replay_fraction] = position
    _, *rows = page.rows(8)
    assert len(rows) == len(found) == 15 and len(page.records) == 45
    for parameters, width, _, rho, by_seed, target, generic, gain in rows:
        cell = study.cells[found[int(width), float(rho)]]
        assert parameters == f"{sizes[int(width)]['total']:,}"
        assert by_seed.split() == [f"{loss:.3f}" for loss in cell.chosen.target_by_seed]
        assert target == f"{cell.chosen.target_loss:.3f}"
        assert generic == f"{cell.chosen.generic_loss:.3f}"
        assert gain == ("" if cell.gain is None else spelled(cell.gain))

    def gained(losses):
        """What .875 gains at the smallest size less what it gains at the largest."""
        small, large = ((losses(found[w, 0.0]) - losses(found[w, 0.875])) for w in (32, 64))
        return small - large

    value = gained(lambda i: study.cells[i].target_loss.value)
    low, high = interval(gained(lambda i: study.draws.target[:, i]), level=study.level)
    by_seed = gained(lambda i: numpy.array(study.cells[i].chosen.target_by_seed))
    words = " ".join(page.text.split())
    assert f"by {spelled(Interval(value, low, high))} nat, but one" in words
    shown = ", ".join(bare(f"{x:.3f}") for x in by_seed)
    assert f"says the opposite ({shown})" in words


def test_gains_of_three_sizes_on_fresh_seeds():
    page = Page("model_scaling", "fresh.jsonl")
    assert len(page.records) == 60 and {run["seed"] for run in page.records} == {3, 4, 5, 6}
    (study,) = analyse_anyway(page.records, page.analysis).targets
    place = {}
    for position, cell in enumerate(study.cells):
        width = int(re.search(r"'embed_dim': (\d+)", dict(cell.key.axes)["model"])[1])
        place[width, cell.key.replay_fraction] = position
    _, *rows = page.rows(6, after="| fresh: width")
    assert len(rows) == 3
    for width, none, *gains in rows:
        own = [place[int(width), rho] for rho in (0.0, 0.25, 0.5, 0.75, 0.875)]
        assert none == f"{study.cells[own[0]].chosen.target_loss:.3f}"
        assert gains == [spelled(study.cells[i].gain) for i in own[1:]]

    def falls(losses):
        small, large = (losses(place[w, 0.0]) - losses(place[w, 0.875]) for w in (32, 64))
        return small - large

    value = falls(lambda i: study.cells[i].target_loss.value)
    low, high = interval(falls(lambda i: study.draws.target[:, i]), level=study.level)
    by_seed = falls(lambda i: numpy.array(study.cells[i].chosen.target_by_seed))
    *most, last = (bare(f"{x:.3f}") for x in by_seed)
    said = f"by {spelled(Interval(value, low, high))} nat: {', '.join(most)} and {last} by seed"
    assert said in " ".join(page.text.split())


def staged(protocol, rho, decay=None):
    """Whether a cell is of this protocol and fraction, at the usual weight decay or another."""
    axes = (("optimizer.weight_decay", decay),) if decay else ()
    return lambda cell: (
        (cell.key.protocol, cell.key.axes) == (protocol, axes)
        and cell.key.replay_fraction == pytest.approx(rho, abs=1e-6)
    )


def constant_mixture(cell):
    return cell.key.protocol == "uniform"


@pytest.fixture(scope="module")
def repetitions():
    return Page("repetitions")


def batches_of(record):
    return record["target_tokens"] / 2048


def rate_of(record):
    return record["learning_rate"]


def series_of(budget, peak, epochs):
    """Whether a cell has so many batches of target data, this rate and these epochs."""
    return lambda cell: (
        cell.key.target_tokens == 2048 * budget
        and has("schedule.learning_rate.peak", peak)(cell)
        and has(EPOCHS, epochs)(cell)
    )


def test_losses_by_repetitions(repetitions):
    numbers, *rows = repetitions.rows(8)
    losses = [row for row in rows if row[0] != "batches"]
    assert len(losses) == 6 and len(repetitions.records) == 42
    for number, (budget, peak, *shown) in enumerate(losses):
        found = repetitions.means(
            "target" if number < 3 else "generic", batches_of, rate_of, epochs_of
        )
        places = [(float(budget), float(peak), float(epoch)) for epoch in numbers[2:]]
        assert shown == [found.get(place, "") for place in places]


def test_what_the_best_number_of_repetitions_gains(repetitions):
    _, *rows = repetitions.rows(5)
    assert len(rows) == 3
    for series, best, *gains in rows:
        budget, peak = (float(part) for part in series.split(", "))
        own = series_of(budget, peak, float(best))
        others = (series_of(budget, peak, n) for n in (int(best) / 2, int(best) * 2, 32))
        assert gains == [repetitions.gain("gsm8k_train", own, other) for other in others]


@pytest.mark.parametrize(
    ("file", "target", "table"),
    [
        ("fresh", "gsm8k_train", "| fresh: batches"),
        ("fresh_code", "code", "| code: batches"),
    ],
)
def test_repetitions_on_fresh_seeds_have_the_same_best(repetitions, file, target, table):
    page = Page("repetitions", f"{file}.jsonl")
    assert {run["target"] for run in page.records} == {target}
    assert len(page.records) == 56 and {run["seed"] for run in page.records} == {3, 4, 5, 6}
    numbers, *rows = page.rows(11, after=table)
    assert len(rows := rows[:3]) == 3
    losses = [
        study.means("target", batches_of, rate_of, epochs_of) for study in (repetitions, page)
    ]
    for budget, peak, *shown, half, twice, most in rows:
        places = [(float(budget), float(peak), float(epoch)) for epoch in numbers[2:8]]
        assert shown == [losses[1].get(place, "") for place in places]
        tried = [place for place in places if place in losses[1]]
        (best,) = {min(tried, key=lambda place: float(found[place])) for found in losses}
        own = series_of(*best)
        others = (series_of(*best[:2], epochs) for epochs in (best[2] / 2, best[2] * 2, 32.0))
        assert [half, twice, most] == [page.gain(target, own, other) for other in others]


def test_a_constant_mixture_at_replay_s_rate_is_not_told_from_replay():
    page = Page("constant_mixture")
    beside = [
        record
        for record in load_records(PAPER / "headline" / "results.jsonl")
        if (record["target"], record["protocol"]) == ("gsm8k_train", "two_stage")
    ]
    rates = {str(r["config"]["schedule"]["learning_rate"]) for r in [*page.records, *beside]}
    assert len(rates) == 1 and len(page.records) == 33 and len(beside) == 15
    page.compare_among([*page.records, *beside])
    (study,) = page.apart.targets
    shown = {}
    for cell in study.cells:
        chosen, rho = cell.chosen, bare(f"{cell.key.replay_fraction:g}")
        name = "constant mixture" if cell.key.protocol == "uniform" else f"ρ = {rho}"
        shown[name, f"{chosen.target_epochs:g}"] = [
            " ".join(f"{loss:.3f}" for loss in chosen.target_by_seed),
            f"{chosen.target_loss:.3f}",
            f"{chosen.generic_loss:.3f}",
        ]
    _, *rows = page.rows(5)
    assert len(rows) == len(shown) == 11 + 5
    above = ""
    for name, epochs, *cells in rows:
        above = above if name == '"' else name
        assert cells == shown[above, epochs]

    def mixed(*epochs):
        return lambda cell: constant_mixture(cell) and cell.chosen.target_epochs in epochs

    every = [int(epochs) for name, epochs in shown if name == "constant mixture"]
    replayed, alone = (
        lambda cell, wanted=wanted: (
            cell.key.protocol == "two_stage" and bool(cell.key.replay_fraction) == wanted
        )
        for wanted in (True, False)
    )
    compared = [(replayed, mixed(*every)), (mixed(*every), alone)]
    compared += [(mixed(32), mixed(other)) for other in (16, 48, 96)]
    gains = [row[1] for row in page.rows(2)[1:]]
    assert gains == [page.gain("gsm8k_train", own, others) for own, others in compared]
    value, _, ends = gains[0].partition(" ")
    front = " ".join(page.text[: page.text.index("replay-jax run")].split())
    assert f"{value} nat better (90 % interval {ends[1:-1]})" in front


def two_stages(chosen):
    """Whether a cell has two stages, and an allocation and a fraction that are chosen."""
    return lambda cell: (
        cell.key.protocol == "two_stage" and chosen(cell.key.allocation, cell.key.replay_fraction)
    )


@pytest.fixture(scope="module")
def grid():
    """The page of rho and alpha, its runs by the headline's law, and beside constant mixtures."""
    page = Page("mid_training")
    law = [
        record
        for record in load_records(PAPER / "headline" / "results.jsonl")
        if (record["target"], record["protocol"]) == ("gsm8k_train", "uniform")
    ]
    by_law = analyse_anyway([*page.records, *law], page.analysis)
    mixtures = load_records(PAPER / "constant_mixture" / "results.jsonl")
    rates = {str(r["config"]["schedule"]["learning_rate"]) for r in [*page.records, *mixtures]}
    assert (len(page.records), len(law), len(rates)) == (60, 27, 1)
    page.compare_among([*page.records, *mixtures])
    return page, by_law


def test_losses_and_worth_by_replay_fraction_and_allocation(grid):
    page, by_law = grid
    cells = {
        (cell.key.replay_fraction, cell.key.allocation): cell
        for cell in by_law.targets[0].cells
        if cell.key.protocol == "two_stage"
    }
    shown = {
        "Target loss, nats": lambda cell: f"{cell.chosen.target_loss:.3f}",
        "Generic loss:": lambda cell: f"{cell.chosen.generic_loss:.3f}",
        "Worth, in times": lambda cell: (
            "baseline" if cell.multiplier is None else spelled(cell.multiplier, ".2f")
        ),
    }
    for words, said in shown.items():
        (_, *allocations), *rows = page.rows(5, after=words)[:6]
        for rho, *found in rows:
            places = [(float(rho), float(alpha.split("=")[1])) for alpha in allocations]
            assert found == [said(cells[place]) for place in places]
    best = min(cells.values(), key=lambda cell: cell.chosen.target_loss)
    value, _, ends = spelled(best.multiplier, ".2f").partition(" ")
    front = " ".join(page.text[: page.text.index("replay-jax run")].split())
    answer = recommend(by_law)
    counted = spelled(answer.answered.usual.multiplier, ".2f").partition(" (")[2].rstrip(")")
    said = f"{value} times the target data (90 % interval {ends[1:-1]}; {counted} with the pick"
    assert said in front
    (mixture,) = (each.words for each in answer.cautions if each.kind == "mixture")
    assert "had another learning rate over the steps (shape cosine and not linear)" in mixture
    (why,) = reasons(by_law, {answer.target: (answer,)})
    (alone,) = (line for line in why.items if "α = 0.5 was not tuned" in line)
    assert alone.startswith("ρ = 0 with")  # and no capital of it, which reads P


def test_replay_and_early_target_data_alone_and_together(grid):
    page, _ = grid
    usual = two_stages(lambda alpha, rho: (alpha, rho) == (1, 0))
    replay = two_stages(lambda alpha, rho: alpha == 1 and rho > 0)
    early = two_stages(lambda alpha, rho: alpha < 1 and rho == 0)
    both = two_stages(lambda alpha, rho: alpha < 1 and rho > 0)
    compared = [
        (two_stages(lambda alpha, rho: rho > 0), usual), (replay, usual), (early, usual),
        (replay, early), (both, early), (both, replay),
        (both, constant_mixture), (early, constant_mixture),
    ]  # fmt: skip
    gains = [row[1] for row in page.rows(2)[1:9]]
    assert gains == [page.gain("gsm8k_train", own, others) for own, others in compared]
    (_, *allocations), *rows = page.rows(5, after="What each ρ gains")
    assert len(rows) == 4
    for rho, *found in rows:
        for alpha, gain in zip(allocations, found, strict=True):
            place = float(alpha.split("=")[1])
            own, none = (
                two_stages(lambda a, r, wanted=(place, wanted): (a, r) == wanted)
                for wanted in (float(rho), 0)
            )
            assert gain == page.gain("gsm8k_train", own, none)


def test_the_best_of_rho_and_alpha_on_fresh_seeds():
    page = Page("mid_training", "fresh.jsonl")
    beside = [
        record
        for record in load_records(PAPER / "headline" / "fresh.jsonl")
        if (record["target"], record["protocol"]) == ("gsm8k_train", "two_stage")
        and record["overrides"].get("optimizer.weight_decay") is None
    ]
    runs = [*page.records, *beside]
    assert len(page.records) == 16 and {run["seed"] for run in runs} == {3, 4, 5, 6}
    page.compare_among(runs)
    cells = {
        f"{schedule_of(cell)}, {cell.chosen.target_epochs:g} epochs": cell
        for cell in page.apart.targets[0].cells
    }
    _, *losses = page.rows(4, after="## On seeds that picked nothing")[:7]
    for name, by_seed, mean, generic in losses:
        chosen = cells[name].chosen
        assert by_seed.split() == [f"{loss:.3f}" for loss in chosen.target_by_seed]
        assert [mean, generic] == [f"{chosen.target_loss:.3f}", f"{chosen.generic_loss:.3f}"]
    _, *gains = page.rows(2, after="| on fresh seeds")[:7]
    assert len(losses) == len(gains) == 6
    before = Page("mixture_or_replay")
    first = {
        f"{schedule_of(cell)}, {cell.chosen.target_epochs:g} epochs": cell.chosen.target_loss
        for cell in before.apart.target("gsm8k_train").cells
    }
    for compared, gain in gains:
        own, other = compared.split(" against ")
        sides = (functools.partial(operator.is_, cells[name]) for name in (own, other))
        assert gain == page.gain("gsm8k_train", *sides)
        if "48" not in compared:  # which these seeds had no part in, and those did
            assert abs(first[other] - first[own] - float(gain.split()[0])) < 3e-3


KINDS = {
    "none": two_stages(lambda alpha, rho: alpha == 1 and not rho),
    "replay at the end": two_stages(lambda alpha, rho: alpha == 1 and rho > 0),
    "early target data, no replay": two_stages(lambda alpha, rho: alpha < 1 and not rho),
    "both": two_stages(lambda alpha, rho: alpha < 1 and rho > 0),
    "constant mixture": constant_mixture,
    "the best that replays": two_stages(lambda alpha, rho: rho > 0),
    "the best that does not": lambda cell: not KINDS["the best that replays"](cell),
}


def schedule_of(cell):
    """A schedule as the page of mixtures and replay names it."""
    rho, alpha = (bare(f"{n:g}") for n in (cell.key.replay_fraction, cell.key.allocation))
    return "constant mixture" if constant_mixture(cell) else f"ρ = {rho}, α = {alpha}"


def test_every_schedule_at_its_own_best_number_of_epochs():
    page = Page("mixture_or_replay")
    kept = [record for record in page.records if record["target_epochs"] < 96]
    assert f" {len(page.records)} runs: " in page.text
    assert f"these {len(page.records) - len(kept)} runs are left out" in page.text
    page.compare_among(kept)
    for target, heading in zip(TARGETS, ("Word problems:", "Code:", "Basque:"), strict=True):
        cells = {
            (schedule_of(cell), f"{cell.chosen.target_epochs:g}"): cell.chosen
            for cell in page.apart.target(target).cells
        }
        (_, *epochs), *rows = page.rows(7, after=f"\n{heading}")[:9]
        shown = {
            (name, epoch): loss
            for name, *losses in rows
            for epoch, loss in zip(epochs, losses, strict=True)
            if loss
        }
        assert shown == {place: f"{chosen.target_loss:.3f}" for place, chosen in cells.items()}
        rows = [row[1:] for row in page.rows(6, after="| target | schedule") if row[0] == target]
        assert len(rows) == 5
        for (schedule, epoch, by_seed, mean, generic), kind in zip(rows, KINDS, strict=False):
            best = min(
                (cell for cell in page.apart.target(target).cells if KINDS[kind](cell)),
                key=lambda cell: cell.chosen.target_loss,
            )
            assert (schedule, float(epoch)) == (schedule_of(best), best.chosen.target_epochs)
            assert by_seed.split() == [f"{loss:.3f}" for loss in best.chosen.target_by_seed]
            assert mean == f"{best.chosen.target_loss:.3f}"
            assert generic == f"{best.chosen.generic_loss:.3f}"
    _, *gains = page.rows(4)
    assert len(gains) == 9
    for compared, *shown in gains:
        own, other = (KINDS[name] for name in compared.split(" against "))
        assert shown == [page.gain(target, own, other) for target in TARGETS]


def test_replay_loses_in_basque_on_fresh_seeds():
    page = Page("mixture_or_replay", "fresh.jsonl")
    beside = [
        record
        for record in load_records(PAPER / "headline" / "fresh.jsonl")
        if (record["target"], record["protocol"]) == ("basque", "two_stage")
        and record["overrides"].get("optimizer.weight_decay") is None
    ]
    page.compare_among([*page.records, *beside])
    assert len(page.records) == 8 and {run["seed"] for run in page.records} == {3, 4, 5, 6}

    def none(epochs):
        return lambda cell: KINDS["none"](cell) and cell.chosen.target_epochs == epochs

    sides = (none(48), none(32), constant_mixture)
    gains = [row[1] for row in page.rows(2, after="| replay (ρ = .5, 32 epochs)")[1:4]]
    assert gains == [page.gain("basque", KINDS["replay at the end"], side) for side in sides]


def test_code_on_fresh_seeds_beside_the_seeds_that_picked():
    fresh, picked = (
        Page("mixture_or_replay", f"{name}.jsonl") for name in ("fresh_code", "results")
    )
    assert len(fresh.records) == 20 and {run["seed"] for run in fresh.records} == {3, 4, 5, 6}
    before = {row[0]: row[2] for row in picked.rows(4)}
    rows = fresh.rows(3, after="| code on fresh seeds")[1:8]
    assert len({compared for compared, *_ in rows}) == 7
    for compared, gain, earlier in rows:
        own, other = (KINDS[name] for name in compared.split(" against "))
        assert gain == fresh.gain("code", own, other)
        assert earlier == before[compared]
