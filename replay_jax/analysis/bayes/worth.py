"""What losses are worth in target data, by the curve of every draw of the posterior.

The curve goes through the tuned reference cells of the draw: the power law, and between budgets as
much beside it as a straight line between the cells' distances from it. So where the law holds it is
the law, and where it does not the curve follows the cells.

Shape legend: D draws, B reference budgets, G places on the curve, M losses.
"""

import numpy as np

from replay_jax.analysis.bayes.model import Posterior

_PLACES = 513
_BEYOND = 2.0  # e-folds of target tokens past the measured budgets that the curve is followed


def log_worth(
    posterior: Posterior, log_tokens: np.ndarray, reference: np.ndarray, losses: np.ndarray
) -> np.ndarray:
    """ln of the worth [D, M] of losses [D, M] in nats, tokens about the mean of the study.

    `log_tokens` [B] are those of the reference cells, increasing, and `reference` [D, B] their
    losses. Losses that the curve does not reach are worth an infinite amount or none.
    """
    places = np.linspace(log_tokens[0] - _BEYOND, log_tokens[-1] + _BEYOND, _PLACES)
    beside = reference - _law(posterior, log_tokens)
    shares = np.stack([np.interp(places, log_tokens, row) for row in np.eye(len(log_tokens))])
    curve = np.minimum.accumulate(_law(posterior, places) + beside @ shares, axis=1)
    return np.stack(
        [
            np.interp(-own, -line, places, left=-np.inf, right=np.inf)
            for own, line in zip(losses, curve, strict=True)
        ]
    )


def _law(posterior: Posterior, log_tokens: np.ndarray) -> np.ndarray:
    """The power law [D, places]."""
    b = posterior.b[:, None] + 1e-6
    shape = np.expm1(-b * log_tokens) / b
    law: np.ndarray = posterior.level[:, None] + posterior.slope[:, None] * shape
    return law
