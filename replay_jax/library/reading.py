"""What a working directory holds, as a table, as an analysed study, and as advice."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.study.study import Study
from replay_jax.library.reporting import study_of
from replay_jax.report.answer import advise
from replay_jax.sweep.store.places import existing
from replay_jax.sweep.store.workdir import WorkStore

# Of a record, what is a plain value and stands in a column of its own.
_PLAIN = (
    "id", "name", "seed", "protocol", "target", "generic", "target_tokens", "target_epochs",
    "total_steps", "learning_rate", "weight_decay", "seconds",
)  # fmt: skip
# What is given as requested and as realised; the table has what was requested.
_REQUESTED = ("replay_fraction", "allocation")
_ROLES = ("target", "generic")


def results(workdir: epath.PathLike) -> dict[str, list[Any]]:
    """Finished runs of the last sweep as columns of equal length, one row per run.

    `pandas.DataFrame(...)` and `polars.DataFrame(...)` take it as it is. Losses are in nats per
    token: `loss_target`, `loss_generic`; `bits_per_byte_…` likewise. A task NAME gives
    `task_NAME`, its accuracy. What the sweep varies has a column by its dotted key.

    Example:
        >>> table = replay_jax.results("runs/smoke")  # doctest: +SKIP
        >>> pandas.DataFrame(table).groupby("replay_fraction").loss_target.mean()  # doctest: +SKIP

    Raises:
        UserError: no such working directory.
    """
    store = WorkStore(existing(workdir))
    rows = [_row(record) for run in store.runs() if (record := store.result(run["id"]))]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row[name] if name in row else None for row in rows] for name in names}


def study(workdir: epath.PathLike) -> Study:
    """The analysed sweep of a working directory: cells, reference law, multipliers, comparisons.

    Example:
        >>> study = replay_jax.study("runs/quickstart")  # doctest: +SKIP
        >>> [target.name for target in study.targets]  # doctest: +SKIP

    Raises:
        UserError: no such directory, no finished run, or records that cannot be compared.
    """
    found, _records = study_of(existing(workdir))
    return found


def recommend(workdir: epath.PathLike) -> Mapping[str, Recommendation | str]:
    """By target: which replay fraction to use, how sure, and what to run next.

    A target for which there is nothing to compare has the reason in words.

    Example:
        >>> replay_jax.recommend("runs/quickstart")["c_headers"].sentence  # doctest: +SKIP

    Raises:
        UserError: no such directory, no finished run, or records that cannot be compared.
    """
    return advise(study(workdir))


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: record[name] for name in _PLAIN},
        **{name: record[name]["requested"] for name in _REQUESTED},
        **{f"loss_{role}": record["losses"][role] for role in _ROLES},
        **{f"bits_per_byte_{role}": record["bits_per_byte"][role] for role in _ROLES},
        **{f"task_{name}": scores["accuracy"] for name, scores in record["tasks"].items()},
        **record["overrides"],
    }
