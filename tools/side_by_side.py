"""The recommended gain's interval beside two that correct for the picks in another way, or not.

- `shrunk`: what `recommend` prints, either side drawn towards what it was picked from;
- `conditional`: right however much schedules differ (conditional_intervals.py);
- `measured`: as if neither side had been picked.

The luck of tuned epochs is taken out of all three.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from calibration_scenarios import BUDGET
from conditional_intervals import conditional_interval

from replay_jax.analysis.advice.compare import rivals
from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.study.study import TargetStudy, replays

Ends = tuple[float, float, float]
_ROUNDING = 1e-9


def side_by_side(study: TargetStudy, found: Recommendation) -> dict[str, Ends]:
    """(low, value, high) in nats of each kind, none where the noise is unknown."""
    gain = found.gain
    if gain.low is None or gain.value is None or gain.high is None:
        return {}
    at_budget = [i for i, cell in enumerate(study.cells) if cell.key.target_tokens == BUDGET]
    own = [i for i in at_budget if replays(study.cells[i])]
    cells = own + rivals(study, found.best)
    drawn, luck = study.draws.target[:, cells], study.draws.luck[cells]
    means = np.array([study.cells[i].chosen.target_loss for i in cells])
    best, rival = cells.index(found.best), cells.index(found.baseline)
    tuned = float(luck[rival] - luck[best])
    held = conditional_interval(means, drawn, len(own), level=study.level)
    low, high = np.quantile(
        drawn[:, rival] - drawn[:, best], [(1 - study.level) / 2, (1 + study.level) / 2]
    )
    return {
        "shrunk": (gain.low, gain.value, gain.high),
        "conditional": (held.low + tuned, held.value + tuned, held.high + tuned),
        "measured": (float(low), float(means[rival] - means[best]) + tuned, float(high)),
    }


def outcome(
    ways: Sequence[dict[str, Ends]], truths: Sequence[tuple[float, float]]
) -> dict[str, dict[str, float]]:
    """By kind: `held`, median `width`, root mean square `error`, `helps`, `false` (shares, nats).

    `truths`: of what was picked, and of the best against the best. `false`: the interval lies on
    one side of zero, and the best against the best does not.
    """
    told: dict[str, dict[str, float]] = {}
    for name in ("shrunk", "conditional", "measured"):
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
