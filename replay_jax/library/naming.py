"""Which run is meant by what a user types."""

from collections.abc import Sequence

from replay_jax.errors import UserError


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
