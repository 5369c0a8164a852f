"""Words are made of fields once: an end that is not known is not named, and nothing is parsed."""

from dataclasses import replace

import pytest

from replay_jax.analysis.advice.recommend import Recommendation, recommend
from replay_jax.analysis.advice.verdict import HURTS
from replay_jax.analysis.advice.wording import brief, ends
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)


@pytest.fixture(scope="module")
def found() -> Recommendation:
    """Replay of .5 is worth 1.8 times the budget without it."""
    return recommend(analyse(sweep(worth=lambda rho: 1 + 1.6 * rho), CONFIG, resamples=100))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(1.5, 2.25, "1.50 to 2.25"), (1.5, None, "from 1.50 up"), (None, 2.25, "up to 2.25"),
     (None, None, "without bounds")],
)  # fmt: skip
def test_an_end_that_is_not_known_is_not_named(low, high, words):
    assert ends(low, high, ".2f") == words


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (Interval(0.2, 0.1, 0.3), ", and costs 0.200 nat of generic loss (0.100 to 0.300)."),
        (Interval(-0.2, -0.3, -0.1), ", and saves 0.200 nat of generic loss (0.100 to 0.300)."),
        (
            Interval(-0.01, -0.02, 0.03),
            ", at no generic cost that can be told (-0.010 nat, -0.020 to +0.030).",
        ),
        (Interval(0.2, None, None), ", and costs 0.200 nat of generic loss (noise unknown)."),
    ],
)
def test_the_generic_cost_stands_with_its_interval(found, cost, words):
    rival = replace(found.rival, generic_cost=cost)
    assert replace(found, answered=replace(found.answered, rival=rival)).sentence.endswith(words)


def test_what_nobody_measured_is_not_in_the_sentence_nor_in_its_json(found):
    rival, usual = (
        replace(c, generic_cost=None, cost_at_best=None) for c in (found.rival, found.usual)
    )
    kept = replace(found, answered=replace(found.answered, rival=rival, usual=usual))
    assert "generic" in found.sentence and "generic" not in kept.sentence
    assert kept.sentence.endswith(f"against {found.usual.words}.")
    said = kept.to_json()
    assert said["generic_cost_nats"] is None and said["generic_cost_interval"] == [None, None]
    assert said["usual"]["generic_cost_nats"] is None


def test_open_ends_reach_the_sentence_as_words(found):
    open_up = replace(found.rival, multiplier=Interval(1.8, 1.2, None))
    plausible = Interval(0.75, 0.65, None)
    answered = replace(found.answered, rival=open_up, plausible=plausible)
    words = replace(found, answered=answered).sentence
    assert "(plausible from 0.65 up)" in words
    assert "worth at least 1.20 times the target data (90 % interval open above)" in words
    assert "?" not in words


def test_every_ground_has_its_own_words_and_kinds_of_caution_are_fields(found):
    assert found.judgement.ground == "interval" and "lies above zero" in found.reasons[0]
    assert {caution.kind for caution in found.cautions} >= {"largest", "mixture"}
    assert found.to_json()["cautions"] == [caution.kind for caution in found.cautions]
    assert found.reasons[1] == found.price.words
    assert found.reasons[2:-1] == tuple(caution.words for caution in found.cautions)
    assert found.reasons[-1].startswith("given only that both were picked, the gain is ")


def test_a_further_answer_says_what_it_rests_on_and_the_usual_recipe(found):
    rival = replace(
        found.rival, against=-1, words="a rival", multiplier=Interval(0.14, 0.1, 0.2, True)
    )
    own = replace(found.answered.own, replay_fraction=1 / 3)
    words = brief(replace(found.answered, rival=rival, own=own), HURTS, "x")
    assert ": 0.3333 is worth 0.14 times the target data (0.10 to 0.20, extrapolated) " in words
    usual = found.usual
    assert f"against a rival, {usual.multiplier.value:.2f} times (" in words
    assert usual.words in words
    assert brief(replace(found.answered, rival=usual), HURTS, "x").count(usual.words) == 1
    beyond = replace(usual, multiplier=Interval(16.25, 2.57, None, True))
    answered = replace(found.answered, rival=rival, usual=beyond)
    said = f"at least 2.57 times (open above, extrapolated) against {usual.words}"
    assert said in brief(answered, HURTS, "x")
    assert said in replace(found, answered=answered).sentence


def test_a_constant_mixture_of_one_setting_was_not_tuned(found):
    kinds = {caution.kind: caution.words for caution in found.cautions}
    assert "a constant mixture tuned by itself (16 epochs" in kinds["mixture"]
    alone = sweep(worth=lambda rho: 1 + 1.6 * rho, epochs=(16.0,))
    again = recommend(analyse(alone, CONFIG, resamples=50))
    words = next(caution.words for caution in again.cautions if caution.kind == "mixture")
    assert "a constant mixture (16 epochs" in words


@pytest.mark.parametrize(("seeds", "measured", "said"), [(2, True, 1), (3, True, 0), (2, False, 0)])
def test_two_seeds_are_a_caution_where_a_generic_cost_is_told(seeds, measured, said):
    records = sweep(worth=lambda rho: 1 + 1.6 * rho, seeds=range(seeds))
    if not measured:
        records = [r | {"losses": r["losses"] | {"generic": None}} for r in records]
    found = recommend(analyse(records, CONFIG, resamples=100))
    assert (found.rival.generic_cost is not None) == measured
    assert sum(caution.kind == "two seeds" for caution in found.cautions) == said
