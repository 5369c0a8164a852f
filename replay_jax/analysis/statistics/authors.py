"""The authors' own reference fit, kept to reproduce their published ratios."""

import warnings

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from replay_jax.analysis.statistics.laws import PowerCurves
from replay_jax.errors import UserError


def fit_authors_recipe(x: np.ndarray, loss: np.ndarray) -> PowerCurves:
    """The authors' own fit: scipy's Levenberg-Marquardt from (0.1, 0.2, 2.0), maxfev 10 000.

    As in the plotting code of arXiv 2603.04964 (marin, experiments/two_stage); x [N] is the target
    fraction of the run. Kept for reproduction: on two of their three targets it stops in a flat
    valley of A and C around 1e3 to 1e4, where only ratios mean anything.

    Raises:
      UserError: the search failed, or ended on a curve that does not fall with x.
    """
    try:
        # In units other than the fraction of a run the search may leave the range of floats; what
        # it ends with is checked. Its covariance, which is not used, has no estimate in a valley.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", OptimizeWarning)
            (a, b, c), _ = curve_fit(
                lambda x, a, b, c: a / x**b + c, x, loss, p0=(0.1, 0.2, 2.0), maxfev=10_000
            )
    except RuntimeError as error:
        raise UserError(f"the authors' recipe found no fit ({error}); use our own law") from error
    if not (a > 0 and b > 0 and np.isfinite([a, b, c]).all()):
        raise UserError(
            f"the authors' recipe ended at A={a:.3g}, B={b:.3g}, where loss does not fall with "
            "more target data; use our own law"
        )
    center = float(np.log(x).mean())
    height = a * np.exp(-b * center)
    return PowerCurves(np.array([c + height]), np.array([height * b]), np.array([b]), center)
