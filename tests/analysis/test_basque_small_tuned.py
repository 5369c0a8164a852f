"""What experiments/basque_small_tuned claims follows from the records beside it."""

import re

import pytest
from places import ROOT

from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.runs.records import load_records, stored_analysis
from replay_jax.analysis.study.analyse import analyse

FOLDER = ROOT / "experiments/basque_small_tuned"
RATES = {
    "7.5e-4": 0.00075,
    "1.5e-3": 0.0015,
    "3e-3": 0.003,
    "6e-3": 0.006,
    "1e-2": 0.01,
    "1.5e-2": 0.015,
    "2e-2": 0.02,
}


def spelled(number, digits=3):
    return re.sub(r"^(-?)0\.", r"\1.", f"{number:.{digits}f}")


def quoted(found, digits=3):
    low, high = spelled(found.low, digits), spelled(found.high, digits)
    return f"{spelled(found.value, digits)} ({low} to {high})"


def chosen(record):
    return record["replay_fraction"]["requested"], record["learning_rate"]


def means(records, budget=32768):
    """Mean target and generic loss by replay fraction, rate and epochs."""
    found = {}
    for record in records:
        if record["target_tokens"] == budget:
            found.setdefault((*chosen(record), record["target_epochs"]), []).append(record)
    return {
        place: tuple(sum(r["losses"][role] for r in runs) / len(runs) for role in
                     ("target", "generic"))
        for place, runs in found.items()
    }  # fmt: skip


@pytest.fixture(scope="module")
def text():
    return " ".join((FOLDER / "README.md").read_text().split())


@pytest.fixture(scope="module")
def records():
    return load_records(FOLDER / "results.jsonl")


@pytest.fixture(scope="module")
def answer(records):
    return recommend(analyse(records, stored_analysis(records[0]["config"]["analysis"])))


def test_the_table_follows_from_the_records(text, records):
    found, lines = means(records), []
    for line in re.findall(r"\| (\S+) \| (\S+e-\d) \| ((?:\S+ \| ){3}\S+) \|", text):
        lines.append(line)
        rho, rate, losses = float(line[0]), RATES[line[1]], line[2].split(" | ")
        for epochs, shown in zip((4.0, 8.0, 16.0, 32.0), losses, strict=True):
            place = rho, rate, epochs
            assert (shown.strip().strip("*") != "–") == (place in found), place
            if place in found:
                assert shown.strip("*") == f"{found[place][0]:.3f}"
                is_best = found[place] == min(v for k, v in found.items() if k[0] == rho)
                assert is_best == shown.startswith("**"), place
    assert {(float(rho), RATES[rate]) for rho, rate, _ in lines} == {k[:2] for k in found}
    assert len(records) == 126


def test_the_same_steps_are_compared_at_their_best(text, records):
    found = means(records)
    for steps, *shown in re.findall(r"\| (64|128|256) \| (\S+) \| (\S+) \| (\S+) \|", text):
        for rho, words in zip((0.0, 0.5, 0.75), shown, strict=True):
            epochs = int(steps) * 32 * (1 - rho) / 256
            losses = [v[0] for (r, _, e), v in found.items() if (r, e) == (rho, epochs)]
            assert words == (f"{min(losses):.3f}" if losses else "–"), (steps, rho)


def test_what_it_claims_is_what_the_analysis_gives(text, answer):
    assert f"{quoted(answer.gain)} nat" in text
    worth = answer.multiplier
    assert f"{worth.value:.2f} times the Basque data ({worth.low:.2f} to {worth.high:.2f})" in text


def test_fresh_orders_were_not_chosen_from(text):
    fresh = load_records(FOLDER / "fresh.jsonl")
    assert {record["seed"] for record in fresh} == {4, 5, 6, 7, 8, 9} and len(fresh) == 30
    study = analyse(fresh, stored_analysis(fresh[0]["config"]["analysis"]))
    for rho, rate in ((0.0, 0.0015), (0.0, 0.003), (0.0, 0.006), (0.5, 0.006), (0.75, 0.01)):
        seeds = sorted((r for r in fresh if chosen(r) == (rho, rate)), key=lambda r: r["seed"])
        target, generic = means(fresh)[rho, rate, 16.0 if rate == 0.0015 else 8.0]
        shown = " ".join(f"{r['losses']['target']:.3f}" for r in seeds)
        assert f"| {shown} | {target:.3f} | {generic:.2f} |" in text, (rho, rate)
    gains = {c.key.replay_fraction: c.gain for c in study.targets[0].cells if c.gain}
    for rho in (0.5, 0.75):
        assert quoted(gains[rho]) in text
