"""The recommended gain's interval beside three that correct for the picks in another way, or not.

- `shrunk`: what `recommend` prints, either side drawn towards what it was picked from;
- `moved`: the same interval a fifth of the way nearer to the next one's value;
- `conditional`: right however much schedules differ (analysis/noise/conditional.py);
- `measured`: as if neither side had been picked.

The luck of tuned epochs is taken out of all four.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.study import TargetStudy

Ends = tuple[float, float, float]
_MOVED = 0.2
_ROUNDING = 1e-9


def side_by_side(study: TargetStudy, found: Recommendation) -> dict[str, Ends]:
    """(low, value, high) in nats of each kind, none where the noise is unknown."""
    gain, given_picks = found.gain, found.rival.given_picks
    if None in (gain.low, given_picks.low):
        return {}
    shrunk, conditional = _ends(gain), _ends(given_picks)
    moved = _MOVED * (conditional[1] - shrunk[1])
    drawn, luck = study.draws.target, study.draws.luck
    pair = drawn[:, found.baseline] - drawn[:, found.best]
    tails = [(1 - study.level) / 2, (1 + study.level) / 2]
    low, high = (float(end) for end in np.quantile(pair, tails))
    tuned = float(luck[found.baseline] - luck[found.best])
    return {
        "shrunk": shrunk,
        "moved": (shrunk[0] + moved, shrunk[1] + moved, shrunk[2] + moved),
        "conditional": conditional,
        "measured": (low, found.rival.measured + tuned, high),
    }


def _ends(found: Interval) -> Ends:
    assert found.low is not None and found.value is not None and found.high is not None
    return found.low, found.value, found.high


def outcome(
    ways: Sequence[dict[str, Ends]], truths: Sequence[tuple[float, float]]
) -> dict[str, dict[str, float]]:
    """By kind: `held`, median `width`, root mean square `error`, `helps`, `false` (shares, nats).

    `truths`: of what was picked, and of the best against the best. `false`: the interval lies on
    one side of zero, and the best against the best does not.
    """
    told: dict[str, dict[str, float]] = {}
    for name in ("shrunk", "moved", "conditional", "measured"):
        rows = [(*way[name], *truth) for way, truth in zip(ways, truths, strict=True) if way]
        if not rows:
            return {}
        low, value, high, true, best = np.array(rows).T
        held = (low <= true + _ROUNDING) & (true <= high + _ROUNDING)
        false = ((low > 0) & (best <= _ROUNDING)) | ((high < 0) & (best >= -_ROUNDING))
        told[name] = {
            "held": round(float(held.mean()), 3),
            "width": round(statistics.median((high - low).tolist()), 4),
            "error": round(math.sqrt(((value - true) ** 2).mean()), 4),
            "helps": round(float((low > 0).mean()), 3),
            "false": round(float(false.mean()), 3),
        }
    return told
