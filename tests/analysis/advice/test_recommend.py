"""Recommendation, what to run next, and pilots for a large run."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from replay_jax.analysis.advice.pilots import transfer
from replay_jax.analysis.advice.recommend import Recommendation, recommend
from replay_jax.analysis.advice.verdict import HELPS, HURTS
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import record, sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.comparisons import one_further
from replay_jax.errors import UserError

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)


def helps(rho: float) -> float:
    return 0.8 * math.exp(2 * rho - 2 * rho * rho)


def hurts(rho: float) -> float:
    return 0.8 * math.exp(-2 * rho)


def advice(records: list[dict[str, Any]], **where: Any) -> Recommendation:
    return recommend(analyse(records, CONFIG, resamples=400), **where)


def test_clear_gain_is_recommended_with_all_fields():
    found = advice(sweep(worth=helps, draw=2))
    assert found.verdict == "replay helps"
    assert found.replay_fraction.value == 0.5
    assert 0.25 < found.replay_fraction.low < 0.5 < found.replay_fraction.high < 0.75
    # Against the constant mixture, which is worth its budget, and against the usual recipe.
    assert found.multiplier.low < helps(0.5) < found.multiplier.high
    assert found.usual.multiplier.low < helps(0.5) / helps(0) < found.usual.multiplier.high
    assert found.generic_cost.value == pytest.approx(0.6, abs=0.03)
    assert found.usual.generic_cost.value == pytest.approx(-0.3, abs=0.03)
    assert found.target_epochs == 16.0
    assert "is worth 1." in found.sentence and "90 % interval" in found.sentence
    cost = found.generic_cost
    words = f"costs {cost.value:.3f} nat of generic loss ({cost.low:.3f} to {cost.high:.3f})."
    assert found.sentence.endswith(words)
    assert "against a constant mixture, 1." in found.sentence
    assert "(no earlier allocation without replay was run)" in found.sentence
    output = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert {
        "replay_fraction",
        "allocation",
        "multiplier",
        "generic_cost_nats",
        "verdict",
        "next_runs",
        "usual",
        "not_run",
        "noise",
    } <= set(output)
    for name in ("replay_fraction", "multiplier"):
        assert {"value", "low", "high"} <= set(output[name])
    assert output["overrides"]["schedule.replay_fraction"] == 0.5
    assert "seed" not in output["overrides"]


def forgetting(epochs: tuple[float, ...]) -> list[dict[str, Any]]:
    """A sweep in which each epoch costs .02 nat of generic loss, and the rival gains by epochs.

    What replays is best at 8 epochs; the usual recipe gains .004 nat by every doubling.
    """
    rng = np.random.default_rng(5)
    runs = []
    for tokens in (1024, 2048, 4096, 8192):
        for rho in (0.0, 0.5) if tokens == 4096 else (0.0,):
            for count in epochs if rho == 0 else (4.0, 8.0, 16.0):
                for seed in range(3):
                    loss = 3 + 40 / math.sqrt(tokens * (1.8 if rho else 1.0))
                    loss += 0.03 * abs(math.log2(count / 8)) if rho else -0.004 * math.log2(count)
                    own = rng.normal(0, 0.0002, 2)
                    runs.append(
                        record(
                            replay_fraction=rho,
                            target_tokens=tokens,
                            seed=seed,
                            target_epochs=count,
                            target_loss=loss + own[0],
                            generic_loss=4 + 0.02 * count * (1 - rho) + own[1],
                        )
                    )
    return runs  # fmt: skip


def test_more_epochs_for_the_baseline_leave_the_cost_where_it_was():
    """Each at its best moves by .64 nat as the baseline is tuned on; at equal epochs nothing."""
    config = AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), 0.9)
    few, many = (
        recommend(analyse(forgetting(epochs), config, resamples=200))
        for epochs in ((4.0, 8.0, 16.0), (4.0, 8.0, 16.0, 32.0, 48.0))
    )
    assert many.multiplier.value == pytest.approx(few.multiplier.value, abs=0.05)
    for found in (few, many):
        assert found.generic_cost.value == pytest.approx(-0.08, abs=0.002)
        assert found.generic_cost.low < -0.08 < found.generic_cost.high
        assert found.generic_cost.high - found.generic_cost.low < 0.01
    assert few.rival.cost_at_best.value == pytest.approx(0.08 - 0.32, abs=0.002)
    assert many.rival.cost_at_best.value == pytest.approx(0.08 - 0.96, abs=0.002)
    assert many.rival.epochs == (8.0, 48.0)
    assert many.sentence.endswith(
        "at 8 epochs each; against the usual recipe (ρ = 0, α = 1) at its best, 48 epochs, it "
        "saves 0.880 (0.880 to 0.880)."
    )
    assert many.sentence == many.claim.removesuffix(".") + f", and {many.cost[3:]}"
    assert many.to_json()["usual"]["generic_cost_at_best_nats"]["value"] < -0.8


def test_the_cost_at_equal_epochs_is_against_the_best_rate_there():
    """At the rate that is best with replay its rival forgets most, and nobody would train it so."""
    rate = "schedule.learning_rate.peak"
    config = AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs", rate), 0.9)
    runs = []
    for peak in (0.003, 0.01):
        for run in forgetting((4.0, 8.0, 16.0, 32.0)):
            best = 0.01 if run["replay_fraction"]["requested"] else 0.003
            away = 0.2 * (peak != best)
            losses = run["losses"]
            losses = {"target": losses["target"] + away, "generic": losses["generic"] + 5 * away}
            overrides = {**run["overrides"], rate: peak}
            name = f"{run['id']}-{peak}"
            runs.append(run | {"id": name, "name": name, "overrides": overrides, "losses": losses})
    found = recommend(analyse(runs, config, resamples=200))
    assert found.rival.epochs == (8.0, 32.0)
    assert found.generic_cost.value == pytest.approx(-0.08, abs=0.002)


def test_going_on_from_a_finished_model_lacks_no_mixture_and_no_earlier_data():
    records = [
        {**run, "protocol": "continual"} if run["protocol"] == "two_stage" else run
        for run in sweep(worth=helps, draw=2)
        if run["protocol"] == "two_stage"
    ]
    found = recommend(analyse(records, CONFIG, resamples=100))
    assert found.to_json()["not_run"] == [] and "was run" not in found.sentence


def test_without_equal_epochs_the_cost_names_both():
    config = AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), 0.9)
    found = recommend(analyse(forgetting((16.0, 32.0)), config, resamples=200))
    assert found.generic_cost == found.rival.cost_at_best
    assert found.generic_cost.value == pytest.approx(0.08 - 0.64, abs=0.002)
    assert "at 8 epochs against 32." in found.sentence


def test_no_gain_and_no_evidence_are_told_apart():
    worse = advice(sweep(worth=hurts))
    assert worse.verdict == "replay does not help"
    assert worse.rival.words == "a constant mixture" and worse.multiplier.high < 1
    assert worse.replay_fraction.value is None and worse.protocol == "uniform"
    unclear = advice(sweep(worth=lambda rho: 0.8, noise=0.05, draw=4))
    assert unclear.verdict == "cannot tell"
    assert "includes zero" in unclear.reasons[0]
    assert unclear.sentence.startswith("Cannot tell")
    assert unclear.replay_fraction.low < 0.25
    assert unclear.replay_fraction.high is None  # the largest fraction may be the best


def test_the_pick_of_several_is_freed_of_its_luck():
    study = analyse(sweep(worth=lambda rho: 0.8, noise=0.03, draw=15), CONFIG, resamples=400)
    found = recommend(study)
    own = study.target().cells[found.best]
    assert found.usual.measured == pytest.approx(own.gain.value)
    assert found.usual.gain.value < own.gain.value - 0.005
    assert found.usual.gain.low < own.gain.low - 0.003
    assert found.usual.multiplier.value < own.multiplier.value
    assert found.usual.to_json()["measured_gain_nats"] == found.usual.measured
    clear = analyse(sweep(worth=lambda rho: helps(rho) ** 4, draw=4), CONFIG, resamples=400)
    best = recommend(clear)
    own = clear.target().cells[best.best].gain
    assert best.usual.gain.value == pytest.approx(own.value, abs=0.002)
    assert best.usual.gain.low == pytest.approx(own.low, abs=0.005)


def test_what_was_measured_is_told_where_luck_is_a_good_part_of_it():
    lucky = advice(sweep(worth=lambda rho: 0.8, noise=0.03, draw=24))
    (said,) = [caution.words for caution in lucky.cautions if caution.kind == "picked"]
    without = f"{lucky.rival.gain.value:+.3f} without the luck"
    assert f"a gain of {lucky.rival.measured:+.3f} nat" in said and without in said
    clear = advice(sweep(worth=lambda rho: helps(rho) ** 4, draw=4))
    assert not [caution for caution in clear.cautions if caution.kind == "picked"]


def test_false_alarms_are_as_rare_as_the_level_says_and_errors_smaller_than_measured():
    wrong, measured, told = 0, [], []
    for draw in range(30):
        found = advice(sweep(worth=lambda rho: 0.8, noise=0.03, draw=draw))
        wrong += found.verdict == "replay helps"
        measured.append(found.usual.measured)
        told.append(found.usual.gain.value)
    assert wrong <= 5  # at most 5 % of 30 expected although the best of three is picked
    assert np.mean(told) < np.mean(measured) - 0.003
    assert np.mean(np.square(told)) < np.mean(np.square(measured))


def test_one_seed_cannot_tell_and_asks_for_seeds_first():
    found = advice(sweep(worth=helps, seeds=(0,)))
    assert found.verdict == "cannot tell"
    assert "noise between seeds is unknown" in found.reasons[0]
    assert "seed 1" in found.next_runs[0].why
    assert {run["seed"] for run in found.next_runs[0].runs} == {1}


def test_a_baseline_still_improving_at_its_edge_cannot_be_beaten():
    records = sweep(worth=helps, epochs=(2.0, 4.0), epoch_penalty=0.3, baseline_penalty=0.3)
    found = advice(records)
    assert found.verdict == "cannot tell"
    assert "tune it further" in found.reasons[0]
    tuning = [option for option in found.next_runs if option.narrows == "tuning"]
    assert {run["schedule.target_epochs"] for option in tuning for run in option.runs} == {8.0}
    assert found.next_runs[0] in tuning


def with_rates(records: list[dict[str, Any]], cost: Callable[[float, float], float]):
    """The records at three peak rates; `cost` of (replay fraction, rate) in nats of target loss."""
    result = []
    for r in records:
        for rate in (1e-3, 2e-3, 4e-3):
            loss = r["losses"]["target"] + cost(r["replay_fraction"]["realised"], rate)
            result.append(
                {
                    **r,
                    "id": f"{r['id']} {rate}",
                    "overrides": {**r["overrides"], "schedule.learning_rate.peak": rate},
                    "losses": {**r["losses"], "target": loss},
                }
            )
    return result


def test_the_edge_of_one_of_two_tuned_grids_is_seen():
    """The baseline is best at the largest rate, whose last step gained .3 nat; epochs are flat."""

    def cost(rho: float, rate: float) -> float:
        return 0.3 * math.log2(4e-3 / rate) if rho == 0 else 0.0

    both = ("schedule.target_epochs", "schedule.learning_rate.peak")
    beside = {"epoch_penalty": 0.001, "baseline_penalty": 0.001, "budgets": (1024, 2048, 8192)}
    records = with_rates(sweep(worth=helps, **beside), cost)
    config = AnalysisConfig({"protocol": "uniform"}, both, 0.9)
    found = recommend(analyse(records, config, resamples=200))
    assert found.verdict == "cannot tell"
    assert "its last step gained 0.3" in found.reasons[0]
    assert "learning_rate.peak: best at 0.004, the largest tried" in found.reasons[0]


def test_next_seeds_are_judged_at_the_budget_recommended_for():
    """Lower losses at another budget change nothing about what a seed more would say here."""
    here = sweep(worth=helps, seeds=(0, 1), noise=0.02)
    there = sweep(worth=helps, seeds=(0, 1), noise=0.02, budget=8192, draw=1)
    there = [r for r in there if r["protocol"] == "two_stage"]
    found = advice(here + there, target_tokens=4096)
    option = next(o for o in found.next_runs if "the best schedule" in o.why)
    assert {run["schedule.target_sequences"] for run in option.runs} == {4096 // 128}
    assert 0.6 < option.width_ratio < 0.97


def test_best_at_the_largest_fraction_has_no_upper_end():
    found = advice(sweep(worth=lambda rho: 0.8 * (1 + rho), replay_fractions=(0.0, 0.25, 0.5)))
    assert found.replay_fraction.value == 0.5 and found.replay_fraction.high is None
    assert "above 0.5" in found.replay_fraction.note
    fractions = {
        run["schedule.replay_fraction"]
        for option in found.next_runs
        if option.narrows == "replay_fraction"
        for run in option.runs
    }
    assert max(fractions) > 0.5


def test_next_seeds_say_how_much_they_narrow():
    found = advice(sweep(worth=helps, seeds=(0, 1), noise=0.02))
    option = next(o for o in found.next_runs if o.narrows == "multiplier")
    assert 0.6 < option.width_ratio < 0.97
    rhos = {run["schedule.replay_fraction"] for run in option.runs}
    assert option.runs[0]["seed"] == 2
    assert rhos == {None, 0.5}  # the constant mixture has none
    more = advice(sweep(worth=helps, seeds=(0, 1, 2), noise=0.02))
    width = [math.log(f.multiplier.high / f.multiplier.low) for f in (found, more)]
    assert width[1] < width[0]


def test_extrapolated_worth_asks_for_a_larger_budget():
    found = advice(sweep(worth=lambda rho: 1 + 8 * rho * (1 - rho), budget=8192))
    assert found.multiplier.extrapolated
    assert "extrapolated" in found.sentence
    option = next(o for o in found.next_runs if "reference budget" in o.why)
    assert {run["schedule.target_sequences"] for run in option.runs} == {256}


def test_what_an_earlier_allocation_does_without_replay_is_said():
    """In the simulation a larger alpha is worth more: 4 in place of the baseline's 1."""
    found = advice(sweep(worth=helps, allocations=(0.25, 1.0), noise=0.0, shared=0.0))
    assert not any("without replay, α" in reason for reason in found.reasons)
    records = sweep(worth=helps, allocations=(0.25, 1.0), noise=0.0, shared=0.0)
    for r in records:
        if r["protocol"] == "two_stage" and r["allocation"]["requested"] == 0.25:
            r["losses"]["target"] -= 0.2
    lines = [line for line in advice(records).reasons if "without replay, α" in line]
    assert len(lines) == 1
    assert lines[0].startswith("without replay, α = 0.25 already changes target loss by -0.1")
    assert lines[0].endswith("against the baseline (α = 1)")


def test_allocation_is_recommended_where_it_was_swept():
    found = advice(sweep(worth=helps, allocations=(0.25, 1.0), noise=0.002))
    assert found.allocation.value == 1.0
    assert found.allocation.low <= 1.0 <= found.allocation.high
    assert "a replay fraction of 0.5 at α = 1 " in found.sentence
    assert "at α" not in advice(sweep(worth=helps)).sentence
    assert not any("without replay, α" in reason for reason in found.reasons)
    flat = advice(sweep(worth=helps, allocations=(0.9, 1.0), noise=0.05))
    assert flat.allocation.low == 0.9


def test_budget_and_comparability_are_checked():
    records = sweep(worth=helps)
    assert advice(records, target_tokens=4096).target_tokens == 4096
    with pytest.raises(UserError, match="it was at 4,096"):
        advice(records, target_tokens=2048)


@pytest.mark.parametrize(
    ("kept", "there"),
    [
        (lambda r: r["replay_fraction"]["requested"] != 0.0, "target tokens of runs with replay: "
         "4,096; without: none"),
        (lambda r: r["protocol"] == "uniform", "all are constant mixtures"),
    ],
)  # fmt: skip
def test_where_nothing_can_be_compared_one_sentence_says_what_is_missing(kept, there):
    with pytest.raises(UserError) as refused:
        advice([record for record in sweep(worth=helps) if kept(record)])
    assert str(refused.value) == (
        "nothing can be recommended for gsm8k: no budget has runs both with replay "
        f"and at replay_fraction 0 ({there}); add the missing runs"
    )


def test_without_a_law_the_gain_decides():
    found = advice(sweep(worth=helps, budgets=(1024, 4096)))
    assert found.verdict == "replay helps" and found.multiplier is None
    assert "changes target loss by -0.0" in found.sentence
    assert any("no multiplier" in reason for reason in found.reasons)
    assert found.to_json()["multiplier"] is None


def without_constant(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for r in records if r["protocol"] != "uniform" or r["target_tokens"] != 4096]


def test_replay_is_not_credited_with_what_another_schedule_does():
    """Allocation alone is worth half as much again; replay on top of it nothing."""
    records = sweep(
        worth=lambda rho: 1.0,
        allocations=(0.25, 1.0),
        of_allocation=lambda alpha: 1.5 if alpha < 1 else 0.7,
        noise=0.005,
    )
    found = advice(records)
    assert found.verdict == "cannot tell" and found.answered.lacking == ()
    assert found.rival.words == "ρ = 0 with α = 0.25" and found.usual.words.startswith("the usual")
    assert found.gain.low < 0 < found.gain.high
    assert found.usual.gain.low > 0.05 and found.usual.multiplier.low > 1.8
    mixture = advice([r for r in records if r["allocation"]["requested"] in (None, 1.0)])
    assert mixture.verdict == "replay does not help"
    assert mixture.rival.words == "a constant mixture"
    assert mixture.overrides["schedule.protocol"] == "uniform"
    plain = mixture.to_json()  # which no program may take for the usual recipe
    assert plain["protocol"] == "uniform" and plain["allocation"] is None
    assert plain["allocation_interval"] == [None, None] and plain["target_epochs"] == 16
    assert plain["replay_fraction"] == {
        "value": None, "low": None, "high": None, "extrapolated": False,
        "note": "a constant mixture is told by its epochs alone",
    }  # fmt: skip
    assert found.to_json()["protocol"] == "two_stage"
    alone = advice(without_constant([r for r in records if r["allocation"]["requested"] != 0.25]))
    assert alone.answered.lacking == ("constant mixture", "earlier allocation without replay")
    assert "no constant mixture and no earlier allocation without replay was run" in alone.sentence


def continual(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a continual protocol: a run is as long as its target epochs over 1 - rho ask for."""
    kept = without_constant(records)
    for r in kept:
        if r["protocol"] == "two_stage":
            share = 1 - r["replay_fraction"]["requested"]
            r["total_steps"] = round(8 * r["target_epochs"] / share)
    return kept


def test_longer_training_is_not_taken_for_replay():
    """Replay fractions of .5 train twice the steps: no verdict before it is given to both."""
    records = sweep(worth=lambda rho: 1 + rho, epochs=(16.0,), replay_fractions=(0.0, 0.5))
    found = advice(continual(records))
    assert found.verdict == "cannot tell"
    assert "replay trained 2.0 times the steps (256 against 128)" in found.reasons[0]
    assert "but trained 2.0 times the steps" in found.sentence
    option = found.next_runs[0]
    assert "trained as long" in option.why
    assert {run["schedule.target_epochs"] for run in option.runs} == {32.0}
    assert {run["schedule.replay_fraction"] for run in option.runs} == {0.0}


def test_what_replay_cost_in_training_stands_beside_what_it_gave():
    records = sweep(worth=lambda rho: 1 + rho, epochs=(16.0,), replay_fractions=(0.0, 0.5))
    equal = advice(records)
    assert equal.price.words == "replay costs no training here: 512 steps a run each"
    assert equal.price.words in equal.reasons and equal.to_json()["price"]["gain_nats"] is None
    found = advice(continual(records))
    price, gain, worth = found.to_json()["price"], found.gain, found.multiplier
    assert (price["unit"], price["extra"], price["per"]) == ("steps", 128, 100)
    assert price["gain_nats"]["value"] == pytest.approx(gain.value * 100 / 128)
    assert price["gain_nats"]["low"] == pytest.approx(gain.low * 100 / 128)
    assert price["target_tokens"]["high"] == pytest.approx((worth.high - 1) * 4096 * 100 / 128)
    assert "2 times the steps (256 against 128 a run): 0." in found.price.words
    assert "for each 100 steps more, or what" in found.price.words


def test_more_training_that_gained_nothing_and_less_training_are_said():
    nothing = advice(continual(sweep(worth=lambda rho: 1 - rho / 2, epochs=(16.0,))))
    assert "more training and gained nothing by it: 1.3 times the steps" in nothing.price.words
    records = without_constant(sweep(worth=lambda rho: 1 + rho, epochs=(16.0,)))
    for r in records:
        r["total_steps"] = 512 if r["replay_fraction"]["requested"] else 1024
    less = advice(records).price
    assert (
        less.words
        == "replay was given less training: 0.5 times the steps (512 against 1,024 a run)"
    )
    assert less.to_json()["per"] is None


def test_equal_training_is_enough_where_more_was_no_better():
    """The baseline was tried at twice the epochs, as long as replay, and was worse."""
    records = sweep(worth=lambda rho: 1 + rho, epochs=(8.0, 16.0, 32.0), replay_fractions=(0, 0.5))
    found = advice(continual(records))
    assert found.verdict == "replay helps" and found.answered.longer.ratio == 1.0
    assert "times the steps" not in found.sentence
    assert not any("trained as long" in option.why for option in found.next_runs)


def test_flops_decide_where_records_have_them():
    records = continual(sweep(worth=lambda rho: 1 + rho, epochs=(16.0,), replay_fractions=(0, 0.5)))
    for r in records:
        r["flops"] = 1e15
    assert advice(records).verdict == "replay helps"


def test_replay_that_was_trained_less_is_not_said_to_hurt():
    records = without_constant(sweep(worth=hurts))
    for r in records:
        if r["replay_fraction"]["requested"] == 0 and r["target_tokens"] == 4096:
            r["total_steps"] = 1024
    found = advice(records)
    assert found.verdict == "cannot tell" and "no setting of the best replay" in found.reasons[0]


def test_a_rival_has_the_same_axes():
    """A constant mixture at another weight decay is no rival."""
    records = sweep(worth=helps)
    for r in records:
        r["overrides"]["optimizer.weight_decay"] = 0.1
        if r["protocol"] == "uniform" and r["target_tokens"] == 4096:
            r["overrides"]["optimizer.weight_decay"] = 0.8
    study = analyse(records, CONFIG, resamples=100)
    assert recommend(study).rival.words == "the usual recipe (ρ = 0, α = 1)"
    assert study.target().controls == ()


def test_a_rival_may_have_a_knob_that_replay_has_not():
    """What replay is to beat is the best that was run: here averaged weights without replay."""
    records = sweep(worth=helps)
    averaged = [
        {
            **r,
            "id": f"{r['id']}-averaged",
            "name": f"{r['name']} averaged",
            "overrides": {**r["overrides"], "training.average_last": 0.2},
            "losses": {**r["losses"], "target": r["losses"]["target"] - 0.5},
        }
        for r in records
        if r["protocol"] == "two_stage" and r["replay_fraction"]["requested"] == 0
    ]
    found = advice(records + averaged)
    assert found.rival.words == "the usual recipe (ρ = 0, α = 1) with average last 0.2"
    assert (found.verdict, found.usual.words) == (HURTS, "the usual recipe (ρ = 0, α = 1)")
    alone = advice(records)
    assert alone.verdict == HELPS
    # A knob that replay has and its rival has not is no reason to compare them.
    for r in averaged:
        r["replay_fraction"] = {"requested": 0.5, "realised": 0.5}
        r["overrides"]["schedule.replay_fraction"] = 0.5
    again = advice(records + averaged)
    assert (again.answered.own, again.rival.words) == (alone.answered.own, alone.rival.words)


def test_constant_mixture_is_tuned_by_itself():
    """It is best at 8 epochs, the schedule at 16."""
    records = sweep(worth=helps)
    for r in records:
        if r["protocol"] == "uniform" and r["target_epochs"] == 8.0:
            r["losses"]["target"] -= 0.1
    study = analyse(records, CONFIG, resamples=100).target()
    control = next(c for c in study.controls if study.cells[c.cell].key.replay_fraction == 0.5)
    assert study.cells[control.cell].chosen.target_epochs == 16.0
    assert control.target_epochs == 8.0


def test_constant_mixture_is_held_against_it():
    found = advice(sweep(worth=helps))
    assert any("beats a constant mixture" in reason for reason in found.reasons)
    weak = advice(sweep(worth=lambda rho: 0.6 + 0.3 * rho))
    assert any("is beaten by a constant mixture" in reason for reason in weak.reasons)


def test_pilots_answer_in_rows_of_the_large_run_or_not_at_all():
    found = advice(sweep(worth=helps))
    told = {"schedule.target_sequences": 32, "training.batch_size": 32, "seed": 1}
    told["schedule.batch_sizes"] = [32, 8]
    found = replace(found, overrides={**found.overrides, **told})
    large = transfer(found, Fraction(1, 16))
    assert large["schedule.replay_fraction"] == 0.5
    assert large["schedule.target_sequences"] == 512
    assert large["schedule.batch_sizes"] == [512, 128]
    assert "training.batch_size" not in large and "seed" not in large
    with pytest.raises(UserError, match="cannot tell which"):
        transfer(advice(sweep(worth=helps, seeds=(0,))), Fraction(1, 16))


def test_records_without_noise_do_not_break_anything():
    exact = [
        record(replay_fraction=rho, target_loss=4 - rho * (1 - rho), seed=seed)
        for rho in (0.0, 0.5, 0.75)
        for seed in (0, 1)
    ]
    found = recommend(analyse(exact, AnalysisConfig({"protocol": "uniform"}, (), 0.9)))
    assert found.gain.value == pytest.approx(0.25)
    assert np.isfinite([found.gain.low, found.gain.high]).all()


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-6])
def test_no_luck_is_told_by_two_numbers_that_print_alike(noise):
    rng = np.random.default_rng(0)
    runs = [
        record(
            replay_fraction=rho,
            target_loss=4 - rho + 0.3 * rho**2 + noise * float(rng.standard_normal()),
            seed=seed,
        )
        for rho in (0.0, 0.25, 0.5, 0.75)
        for seed in (0, 1, 2)
    ]
    found = recommend(analyse(runs, AnalysisConfig({"protocol": "uniform"}, (), 0.9)))
    assert not [caution for caution in found.cautions if caution.kind == "picked"]


def test_values_to_try_next_are_whole_where_those_tried_are():
    assert one_further([24.0, 32.0]) == 18.0
    assert one_further([32.0, 24.0]) == 43.0
    assert one_further([0.05, 0.1]) == pytest.approx(0.025)
    assert one_further([1.0, 2.0]) == 0.5
    assert one_further([3.0, 0.0]) == 6.0
