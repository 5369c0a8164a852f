"""Laws: recovery, inversion, limits, the authors' recipe, choice, refusal."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT

from replay_jax.analysis.statistics import laws
from replay_jax.analysis.statistics.authors import fit_authors_recipe
from replay_jax.analysis.statistics.efficiency import (
    LAW_NAMES,
    ReferencePoints,
    choose_laws,
    fit_law,
    fit_reference,
    leave_one_out,
    offset_error,
    require_falling,
    score_laws,
)
from replay_jax.analysis.statistics.interpolation import fit_interpolation
from replay_jax.errors import UserError

X = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
PUBLISHED = ROOT / "experiments" / "published_points"


def points(loss: np.ndarray, x: np.ndarray = X) -> ReferencePoints:
    return ReferencePoints(x, np.asarray(loss, dtype=float), np.ones(len(x)))


def published(target: str) -> tuple[np.ndarray, np.ndarray]:
    """(x * 1024, reference loss) of a published target."""
    reference = json.loads((PUBLISHED / f"{target}.json").read_text())["reference"]
    return np.array(reference["x"]) * 1024, np.array(reference["loss"])


@given(
    a=st.floats(0.1, 10.0),
    b=st.floats(0.05, 2.5),
    c=st.floats(-1.0, 5.0),
    unit=st.floats(1e-6, 1e9),
)
@settings(max_examples=60, deadline=None)
def test_exact_power_law_is_recovered_in_any_unit(a: float, b: float, c: float, unit: float):
    curves = laws.fit_power(np.log(X * unit), (a / X**b + c)[None], np.ones(6))
    found_a, found_b, found_c = (float(value[0]) for value in curves.coefficients())
    assert found_b == pytest.approx(b, rel=0.02)
    assert found_a / unit**found_b == pytest.approx(a, rel=0.06)
    assert found_c == pytest.approx(c, abs=0.05 * a + 1e-6)
    np.testing.assert_allclose(curves.loss(np.log(X * unit))[0], a / X**b + c, atol=2e-4 * a)


def test_weights_move_the_fit_towards_the_trusted_point():
    loss = np.array([3.0, 2.8, 2.6, 2.4, 2.2, 2.5])
    light = laws.fit_log_linear(np.log(X), loss[None], np.array([1, 1, 1, 1, 1, 1e-6]))
    even = laws.fit_log_linear(np.log(X), loss[None], np.ones(6))
    assert light.loss(np.log(X[-1:]))[0, 0] == pytest.approx(2.0, abs=1e-4)
    assert even.loss(np.log(X[-1:]))[0, 0] > 2.1


def test_only_falling_curves_compete():
    valley = np.array([3.0, 2.0, 2.5, 2.9, 3.2, 3.4])
    curves = laws.fit_power(np.log(X), valley[None], np.ones(6))
    assert curves.slope[0] > 0 and curves.exponent[0] > 1
    rising = laws.fit_power(np.log(X), (2 + 0.1 * X)[None], np.ones(6))
    assert rising.slope[0] == 0
    assert np.isnan(rising.log_equivalent(np.array([[2.5]]))[0, 0])


def test_bounded_power_law_is_recovered_and_needs_its_ceiling():
    loss = 2.0 / (X**1.2 + 3.0) + 1.0
    fitted = laws.fit_bounded_power(np.log(X), loss[None], np.ones(6))
    np.testing.assert_allclose(fitted.loss(np.log(X))[0], loss, atol=1e-3)
    above_ceiling = fitted.log_equivalent(np.array([[2.0 / 3.0 + 1.1]]))
    assert above_ceiling[0, 0] == -np.inf


def test_interpolation_passes_through_falling_points_and_pools_rising_ones():
    falling = np.array([4.0, 3.5, 3.4, 3.0, 2.2, 2.1])
    np.testing.assert_allclose(
        fit_interpolation(np.log(X), falling[None], np.ones(6)).loss(np.log(X))[0], falling
    )
    rising = np.array([4.0, 3.5, 3.7, 3.0, 2.2, 2.1])
    fitted = fit_interpolation(np.log(X), rising[None], np.ones(6))
    grid = fitted.loss(np.linspace(0, np.log(32), 200))[0]
    assert (np.diff(grid) <= 1e-12).all()
    np.testing.assert_allclose(fitted.values[0, 1:3], 3.6)


@pytest.mark.parametrize("name", LAW_NAMES)
def test_inversion_is_the_inverse(name: str):
    rng = np.random.default_rng(0)
    losses = 3 / X**0.4 + 2 + 0.02 * rng.standard_normal((7, 6))
    curves = fit_law(name, points(losses[0]), losses)
    log_x = np.linspace(0.1, np.log(30), 9)
    there = curves.loss(log_x)
    np.testing.assert_allclose(curves.log_equivalent(there), np.tile(log_x, (7, 1)), atol=1e-6)
    some = curves.take(np.array([3, 5]))
    np.testing.assert_array_equal(some.loss(log_x), there[[3, 5]])


def test_losses_that_no_amount_reaches_are_infinite():
    curves = laws.fit_power(np.log(X), (1 / X + 2)[None], np.ones(6))
    found = curves.log_equivalent(np.array([[1.9, 2.5]]))
    assert found[0, 0] == np.inf
    assert found[0, 1] == pytest.approx(np.log(2), abs=1e-3)
    inside = fit_interpolation(np.log(X), (1 / X + 2)[None], np.ones(6))
    found = inside.log_equivalent(np.array([[2.001, 3.5]]))
    assert found[0, 0] == np.inf and found[0, 1] == -np.inf


def test_log_linear_points_choose_the_limit_and_keep_the_exact_ratio():
    loss = 2.0 - 0.23 * np.log(X)
    fitted = fit_reference(points(loss), loss[None])
    assert LAW_NAMES[fitted.chosen[0]] == "log_linear"
    pair = fitted.log_equivalent(np.array([[1.4, 1.6]]))[0]
    assert pair[0] - pair[1] == pytest.approx(0.2 / 0.23, rel=1e-9)
    power = laws.fit_power(np.log(X), loss[None], np.ones(6))
    assert power.exponent[0] == 0
    assert offset_error(points(loss), power, 1e-4) == np.inf


def test_authors_recipe_gives_their_coefficients_on_flan():
    x, loss = published("flan")
    a, b, c = (float(v[0]) for v in fit_authors_recipe(x / 1024, loss).coefficients())
    assert a == pytest.approx(0.0049138, abs=2e-4)
    assert b == pytest.approx(0.61243, abs=0.01)
    assert c == pytest.approx(3.20237, abs=0.005)


def test_authors_recipe_refuses_a_curve_that_rises():
    with pytest.raises(UserError, match="does not fall"):
        fit_authors_recipe(X, 2 + 0.2 * np.log(X))


@pytest.mark.parametrize(("target", "slope"), [("finemath", 0.229433), ("starcoder", 0.566005)])
def test_published_degenerate_fits_are_log_linear(target: str, slope: float):
    x, loss = published(target)
    curves = laws.fit_power(np.log(x), loss[None], np.ones(5))
    assert curves.exponent[0] == 0
    assert curves.slope[0] == pytest.approx(slope, abs=1e-4)
    chosen, _ = choose_laws(points(loss, x), loss[None])
    assert LAW_NAMES[chosen[0]] == "log_linear"


def test_flan_chooses_the_power_law():
    x, loss = published("flan")
    chosen, _ = choose_laws(points(loss, x), loss[None])
    assert LAW_NAMES[chosen[0]] == "power"


def test_bounded_law_on_published_points_is_that_of_the_authors_plots():
    x, loss = published("starcoder")
    fitted = laws.fit_bounded_power(np.log(x), loss[None], np.ones(5))
    found = fitted.log_equivalent(np.array([[3.02749, 3.26809, 4.49146]]))[0]
    assert np.exp(found[0] - found[1]) == pytest.approx(1.33, abs=0.01)
    assert found[2] == -np.inf  # fine-tuning lies above the law's ceiling


def test_interpolation_is_chosen_only_where_every_law_fails():
    kinked = np.array([4.0, 3.99, 3.98, 3.0, 2.0, 1.0])
    chosen, best_law = choose_laws(points(kinked), kinked[None])
    smooth = 3 / X**0.5 + 1
    assert LAW_NAMES[choose_laws(points(smooth), smooth[None])[0][0]] == "power"
    error = {name: leave_one_out(name, points(kinked), kinked[None]) for name in LAW_NAMES}
    twice = 4 * error["interpolation"][0] < min(error[n][0] for n in LAW_NAMES[:3])
    assert (LAW_NAMES[chosen[0]] == "interpolation") == twice
    assert LAW_NAMES[best_law[0]] != "interpolation"


def test_interpolation_is_silent_outside_unless_a_law_may_answer():
    steps = np.array([4.0, 3.999, 2.0, 1.999, 1.0, 0.999])
    silent = fit_reference(points(steps), steps[None], law="interpolation")
    assert silent.log_equivalent(np.array([[0.5]]))[0, 0] == np.inf
    assert np.isnan(silent.loss(np.log(np.array([64.0]))))[0, 0]


def test_leave_one_out_is_the_mean_of_real_refits():
    loss = 3 / X**0.5 + 1 + np.array([0.01, -0.02, 0.03, -0.01, 0.02, 0.0])
    squares = []
    for i in range(6):
        rest = np.arange(6) != i
        fitted = np.polyfit(np.log(X[rest]), loss[rest], 1)
        squares.append((np.polyval(fitted, np.log(X[i])) - loss[i]) ** 2)
    found = leave_one_out("log_linear", points(loss), loss[None])
    assert found[0] == pytest.approx(np.mean(squares))


def test_scores_say_which_laws_cannot_be_judged():
    x = X[:5]
    by_name = {score.name: score for score in score_laws(points(3 / x**0.5 + 1 + 0.01 * x, x))}
    assert by_name["bounded_power"].leave_one_out is None
    assert by_name["power"].aicc is None  # five points, three parameters and a variance
    assert by_name["log_linear"].aicc is not None
    three = score_laws(points(np.array([3.0, 2.0, 1.5]), X[:3]))
    assert all(score.leave_one_out is None for score in three)


def test_aicc_is_the_textbook_value():
    loss = 3 - 0.2 * np.log(X) + np.array([0.01, -0.02, 0.03, -0.01, 0.02, 0.0])
    residual = loss - np.polyval(np.polyfit(np.log(X), loss, 1), np.log(X))
    expected = 6 * np.log((residual**2).mean()) + 2 * 3 + 2 * 3 * 4 / (6 - 3 - 1)
    by_name = {score.name: score for score in score_laws(points(loss))}
    assert by_name["log_linear"].aicc == pytest.approx(expected)


def test_too_few_repeated_or_rising_points_are_refused():
    with pytest.raises(UserError, match="at least 3 amounts of target data, got 2"):
        points(np.array([3.0, 2.0]), X[:2])
    with pytest.raises(UserError, match="distinct"):
        points(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 2.0]))
    with pytest.raises(UserError, match="does not fall"):
        require_falling(points(2 + 0.1 * np.log(X)))


def test_offset_error_is_the_spread_of_refitted_offsets():
    truth = 2 / X**0.8 + 1
    rng = np.random.default_rng(1)
    refits = laws.fit_power(
        np.log(X), truth + 0.005 * rng.standard_normal((4000, 6)), np.ones(6)
    ).coefficients()[2]
    error = offset_error(
        points(truth), laws.fit_power(np.log(X), truth[None], np.ones(6)), 0.005**2
    )
    assert error == pytest.approx(refits.std(), rel=0.15)
