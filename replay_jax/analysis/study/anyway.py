"""A study of any runs that compare: without a usable reference, all but the multipliers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.records import AnalysisConfig
from replay_jax.analysis.study.study import Study
from replay_jax.errors import UserError

_NOTHING = {"protocol": "none of them"}


def analyse_anyway(records: Sequence[Mapping[str, Any]], config: AnalysisConfig) -> Study:
    """As `analyse`; where the reference is ambiguous, without it, and `curve_problem` says why.

    Raises:
        UserError: it was not the reference that was wrong.
    """
    try:
        return analyse(records, config)
    except UserError as error:
        study = analyse(records, replace(config, reference=_NOTHING))
        why = str(error)
    return replace(study, targets=tuple(replace(t, curve_problem=why) for t in study.targets))
