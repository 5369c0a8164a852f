"""Which run is meant by what a user types."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from replay_jax.errors import UserError

if TYPE_CHECKING:
    from replay_jax.analysis.study.study import TargetStudy

BEST = "best"


def find_run(runs: Sequence[tuple[str, str]], wanted: str, *, where: str) -> int:
    """Position of the run that is meant among (id, name): its id, its name, or how its id begins.

    Raises:
        UserError: none or several are meant; names what there is in `where`.
    """
    found = [n for n, names in enumerate(runs) if wanted in names]
    found = found or [n for n, (id, _) in enumerate(runs) if wanted and id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(runs[n][0] for n in found)
        raise UserError(f"'{wanted}' means {len(found)} runs of {where}: give one of {ids}")
    known = ", ".join(f"{id} ({name})" for id, name in runs[:5])
    raise UserError(
        f"no run '{wanted}' in {where}: give an id or a name that status prints, such as {known}"
    )


def best_run(workdir: epath.Path, target: str | None) -> str:
    """Id of a run of the schedule that `recommend` names: of its seeds the first.

    Args:
        target: which, where there are several.

    Raises:
        UserError: no finished run, nothing to compare, or several targets and none named.
    """
    # The analysis takes seconds to import, which a run that is named does not need.
    from replay_jax.analysis.advice.every_group import recommend_every_group
    from replay_jax.library.gathering import gather

    study = gather([workdir]).study
    found = study.target(target)
    return first_run(found, recommend_every_group(study, found.target)[0].overrides)


def first_run(study: "TargetStudy", overrides: Mapping[str, Any]) -> str:
    """Id of the first seed's run of the schedule with these overrides, which a cell has chosen."""
    return next(c.chosen.run_ids[0] for c in study.cells if c.chosen.overrides == overrides)
