"""The second opinion: its arithmetic exactly, and what it says of studies that leave no doubt."""

import math

import numpy as np
import pytest

numpyro = pytest.importorskip("numpyro")

import jax  # noqa: E402
from numpyro.infer.util import log_density  # noqa: E402
from scipy.stats import halfnorm, lognorm, multivariate_normal  # noqa: E402

from replay_jax.analysis.advice.opinion import Opinion, Sampling  # noqa: E402
from replay_jax.analysis.advice.recommend import recommend  # noqa: E402
from replay_jax.analysis.bayes import model  # noqa: E402
from replay_jax.analysis.bayes.design import Design  # noqa: E402
from replay_jax.analysis.bayes.model import Posterior  # noqa: E402
from replay_jax.analysis.bayes.second import with_opinions  # noqa: E402
from replay_jax.analysis.bayes.worth import log_worth  # noqa: E402
from replay_jax.analysis.runs.records import AnalysisConfig  # noqa: E402
from replay_jax.analysis.statistics.bootstrap import Interval  # noqa: E402
from replay_jax.analysis.statistics.simulate import Luck, sweep  # noqa: E402
from replay_jax.analysis.study.analyse import analyse  # noqa: E402

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)
TRUSTED = Sampling(draws=400, divergences=0, r_hat=1.01)


@pytest.fixture(autouse=True)
def _numpyro_promotes_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def study_with(worth, draw):
    records = sweep(
        worth=worth,
        epochs=(16.0,),
        budgets=(1024, 2048, 4096, 8192),
        replay_fractions=(0.0, 0.5, 0.75),
        luck=Luck(0.02, 0.03),
        draw=draw,
    )
    return analyse(records, CONFIG, resamples=100)


def design_with(losses):
    """Three budgets of the reference, and two settings of one schedule at the middle one."""
    return Design(
        losses=losses,
        log_tokens=np.array([-0.7, 0.0, 0.7, 0.0, 0.0]),
        of_settings={"schedule": np.array([-1, -1, -1, 0, 0]), "setting": np.arange(5)},
        of_seeds={"seed": np.zeros(5, int), "noise": np.arange(5)},
        rows=(),
        reference=(),
    )


def arrays_of(design):
    """What the model is given of a design, without the runs that are missing."""
    settings, seeds = (
        {name: model._same(labels) for name, labels in of.items()}
        for of in (design.of_settings, design.of_seeds)
    )
    return jax.numpy.asarray(design.losses), jax.numpy.asarray(design.log_tokens), settings, seeds


def opinion_of(study):
    (told,) = with_opinions(study.target(), (recommend(study),), samples=60, warmup=100)
    return told


def test_an_unmistakable_gain_is_sure_and_its_worth_is_the_true_one():
    told = opinion_of(study_with({0.0: 0.8, 0.5: 2.0, 0.75: 1.2}.get, 1))
    opinion = told.opinion
    assert opinion.helps > 0.97 and opinion.best[0.5] > 0.9
    assert opinion.multiplier.low < 2.0 < opinion.multiplier.high < 3.5
    assert told.to_json()["second_opinion"]["gain_above_zero"] == opinion.helps
    assert opinion.words in told.reasons
    assert not any(caution.kind == "second opinion" for caution in told.cautions)


def test_where_two_settings_have_the_same_losses_neither_is_better():
    """Means given all the rest: two settings with mirrored luck differ by nothing."""
    luck = np.array([0.02, -0.01, -0.01])
    design = design_with(np.stack([3.1 + luck, 3.0 + 0 * luck, 2.9 + luck, 3.0 + luck, 3.0 - luck]))
    values = {"slope": 0.4, "b": 0.3, "schedule": 0.2, "setting": 0.1, "seed": 0.3, "noise": 0.05}
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 2000)
        drawn = {name: np.full(2000, value) for name, value in values.items()}
        means, _ = model._all_means(keys, drawn, (*arrays_of(design), np.empty((0, 2), int)))
    gain = np.asarray(means[:, 3] - means[:, 4])
    share = (gain > 0).mean()
    assert abs(share - 0.5) < 0.04  # four standard errors
    # The luck of one run is .05, of three .029, of two settings' difference .041; some is shrunk.
    assert 0.03 < gain.std() < 0.05 * np.sqrt(2 / 3)


def test_means_and_differences_have_the_likelihood_of_all_losses():
    """Split by seeds, with a run missing, the density is that of the runs together."""
    design = design_with(np.random.default_rng(0).normal(size=(5, 3)))
    values = {"slope": 0.4, "b": 0.3, "schedule": 0.2, "setting": 0.1, "seed": 0.3, "noise": 0.05}
    with jax.enable_x64(True):
        losses, *parts = arrays_of(design)
        none = np.empty((0, 2), int)
        whole, _ = log_density(model._model, (losses, *parts, none), {}, values)
        holed = losses.at[2, 1].set(np.nan)
        filled = {**values, "missing": losses[2:3, 1]}
        again, _ = log_density(model._model, (holed, *parts, np.array([[2, 1]])), {}, filled)
    mean = -0.4 * np.expm1(-0.3 * design.log_tokens) / -0.3
    kinds = np.array([0, 0, 0, 1, 1])
    shared = 1.0 + 0.2**2 * np.outer(kinds, kinds) + 0.1**2 * np.eye(5)
    own = 0.3**2 + 0.05**2 * np.eye(5)
    runs = np.kron(shared, np.ones((3, 3))) + np.kron(own, np.eye(3))
    exact = multivariate_normal(np.repeat(mean, 3), runs).logpdf(design.losses.ravel())
    exact += halfnorm.logpdf([0.4, 0.3]).sum()
    for name in ("schedule", "setting", "seed", "noise"):
        exact += lognorm(1.5, scale={"schedule": 0.1}.get(name, 0.02)).logpdf(values[name])
    # Means over seeds instead of sums: their density is as many times higher for each setting.
    assert float(whole) == pytest.approx(exact + 5 * 0.5 * math.log(3), abs=1e-3)
    guess = float(np.nanmean(holed[2]))
    normal = -0.5 * (design.losses[2, 1] - guess) ** 2 - 0.5 * math.log(2 * math.pi)
    assert float(again - whole) == pytest.approx(normal, abs=1e-6)


def test_worth_is_read_off_the_law_and_off_the_cells_beside_it():
    tokens = np.log([0.5, 1.0, 2.0])
    draws = Posterior(np.zeros((1, 0)), np.array([3.0]), np.array([0.5]), np.array([0.0]), TRUSTED)
    on_law = 3.0 - 0.5 * tokens[None]
    found = log_worth(draws, tokens, on_law, np.array([[3.0 - 0.5 * math.log(1.7), 0.1, 9.0]]))
    assert found[0, 0] == pytest.approx(math.log(1.7), abs=1e-3)
    assert found[0, 1:].tolist() == [np.inf, -np.inf]
    bent = on_law + np.array([[0.0, 0.1, 0.0]])
    found = log_worth(draws, tokens, bent, bent)
    assert found[0] == pytest.approx(tokens, abs=0.01)
    half = log_worth(draws, tokens, bent, bent[:, 1:2] / 2 + bent[:, 2:] / 2)[0, 0]
    assert half == pytest.approx((tokens[1] + tokens[2]) / 2, abs=0.01)


@pytest.mark.parametrize(
    ("verdict", "helps", "gain", "words"),
    [
        ("replay helps", 0.99, Interval(0.1, 0.05, 0.15), ()),
        ("replay helps", 0.4, Interval(0.1, -0.1, 0.2), ("it helps with probability .40 only",)),
        ("replay does not help", 0.8, Interval(0.1, 0.0, 0.2), ("it helps with probability .80",)),
        ("cannot tell", 0.9, Interval(0.5, 0.3, None), ("the intervals of the gain do not "
                                                        "overlap",)),
    ],
)  # fmt: skip
def test_where_the_two_disagree_it_is_said(verdict, helps, gain, words):
    own = Interval(0.1, 0.0, 0.2)
    opinion = Opinion(own, helps, None, {0.5: 1.0}, TRUSTED, 0.9)
    assert opinion.contradicts(verdict, gain, None) == words


def test_a_sampling_that_failed_is_not_trusted():
    for sampling in (Sampling(400, 1, 1.0), Sampling(400, 0, 1.2)):
        opinion = Opinion(Interval(0.1, 0.0, 0.2), 0.9, None, {0.5: 1.0}, sampling, 0.9)
        assert "not to be trusted" in opinion.words
    assert (
        "not to be trusted"
        not in Opinion(Interval(0.1, 0.0, 0.2), 0.9, None, {0.5: 1.0}, TRUSTED, 0.9).words
    )
