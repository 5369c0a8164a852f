"""What a working directory holds, as a table, as an analysed study, and as advice."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.study.study import Study
from replay_jax.errors import UserError
from replay_jax.library.gathering import Gathered, gather
from replay_jax.report.advice import advise
from replay_jax.sweep.store.places import existing

# Of a record, what is a plain value and stands in a column of its own.
_PLAIN = (
    "id", "name", "seed", "protocol", "target", "generic", "target_tokens", "target_epochs",
    "total_steps", "learning_rate", "weight_decay", "seconds",
)  # fmt: skip
# What is given as requested and as realised; the table has what was requested.
_REQUESTED = ("replay_fraction", "allocation")
_ROLES = ("target", "generic")


def results(*workdirs: epath.PathLike) -> dict[str, list[Any]]:
    """All finished runs of working directories as columns of equal length, one row per run.

    `pandas.DataFrame(...)` and `polars.DataFrame(...)` take it as it is. Losses are in nats per
    token: `loss_target`, `loss_generic`; `bits_per_byte_…` likewise. A task NAME gives
    `task_NAME`, its accuracy. What a sweep varies has a column by its dotted key.

    Examples:
        >>> table = replay_jax.results("runs/smoke")  # doctest: +SKIP
        >>> pandas.DataFrame(table).groupby("replay_fraction").loss_target.mean()  # doctest: +SKIP

    Raises:
        UserError: no such working directory, or no finished run.
    """
    rows = [_row(record) for record in _gather(workdirs).plain]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row[name] if name in row else None for row in rows] for name in names}


def study(*workdirs: epath.PathLike, early_stopping: bool = False) -> Study:
    """All finished runs of working directories, analysed: cells, law, multipliers, comparisons.

    `early_stopping`: every run is judged by its best measured state in place of its last.

    Examples:
        >>> study = replay_jax.study("runs/quickstart")  # doctest: +SKIP
        >>> [each.target for each in study.targets]  # doctest: +SKIP

    Raises:
        UserError: no such directory, no finished run, or records that cannot be compared.
    """
    return _gather(workdirs, early_stopping=early_stopping).study


def recommend(
    *workdirs: epath.PathLike, second_opinion: bool = False, early_stopping: bool = False
) -> Mapping[str, tuple[Recommendation, ...] | str]:
    """By target: which replay fraction to use, how sure, and what to run next.

    One recommendation for every budget, protocol and further axis, the one to act on first; a
    target for which there is nothing to compare has the reason in words. `second_opinion`: each
    with the `opinion` of a Bayesian fit of the same runs (the extra `bayes`). `early_stopping`: as
    for `study`.

    Examples:
        >>> replay_jax.recommend("runs/quickstart")["c_headers"][0].sentence  # doctest: +SKIP

    Raises:
        UserError: no such directory, no finished run, or records that cannot be compared; NumPyro
            is needed and not there.
    """
    found = study(*workdirs, early_stopping=early_stopping)
    return advise(found, second_opinion=second_opinion)


def _gather(workdirs: Sequence[epath.PathLike], *, early_stopping: bool = False) -> Gathered:
    if not workdirs:
        raise UserError("no working directory: give the folder that `run` printed")
    places = [existing(workdir) for workdir in workdirs]
    return gather(places, early_stopping=early_stopping)


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: record[name] for name in _PLAIN},
        **{name: record[name]["requested"] for name in _REQUESTED},
        **{f"loss_{role}": record["losses"][role] for role in _ROLES},
        **{f"bits_per_byte_{role}": record["bits_per_byte"][role] for role in _ROLES},
        **{f"task_{name}": scores["accuracy"] for name, scores in record["tasks"].items()},
        **record["overrides"],
    }
