"""What the columns of anybody's table of runs may be called, and what each holds."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from replay_jax.errors import UserError

# A table: values by the column's name, all columns of one length.
Columns = dict[str, list[Any]]

REQUIRED = ("target_tokens", "replay_fraction", "seed", "target_loss")
# Columns that stay what they are where they are tuned or an axis.
SETTINGS = ("target_epochs", "steps", "flops")
# Column to the other names it is known by; upper case, spaces and hyphens make no difference.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "target_tokens": ("target_data", "target_budget", "unique_target_tokens", "budget"),
    "replay_fraction": ("replay", "rho", "ρ"),
    "seed": ("random_seed", "run_seed"),
    "target_loss": ("loss", "eval_loss", "val_loss", "validation_loss", "target_eval_loss",
                    "loss_target"),
    "generic_loss": ("general_loss", "pretraining_loss", "generic_eval_loss", "loss_generic"),
    "target_epochs": ("epochs", "repetitions"),
    "allocation": ("alpha", "α", "stage2_allocation"),
    "protocol": (),
    "target": ("target_dataset", "domain"),
    "generic": ("generic_dataset", "replay_source"),
    "evaluation": ("eval_set", "held_out_set"),
    "steps": ("total_steps", "training_steps", "train_steps", "updates"),
    "flops": ("total_flops", "training_flops", "train_flops"),
    "loss_unit": ("unit",),
    "name": ("run", "run_name", "id", "run_id"),
}  # fmt: skip


_KNOWN = {alias: ours for ours, others in ALIASES.items() for alias in (ours, *others)}


def plain(name: str) -> str:
    """A name as it is compared: case, spaces, hyphens, slashes and dots make no difference."""
    return re.sub(r"[ /.-]", "_", name.strip().lower())


def column_called(name: str) -> str | None:
    """The column that a name means; None if it is none of ours."""
    found = plain(name)
    return _KNOWN[found] if found in _KNOWN else None


def also_called(columns: Iterable[str]) -> list[str]:
    """The other names that columns of ours are known by."""
    return [other for ours in columns for other in ALIASES[ours]]


def nameless(name: str) -> bool:
    """Whether a column has no name, or the one that pandas gives an index or a column without."""
    return re.fullmatch(r"\s*|Unnamed: \d+|__index_level_\d+__", name) is not None


def there(name: str, names: Sequence[str]) -> str:
    """The column of a table that a user's word names: itself, one alike, or one that means it.

    Raises UserError where there is none, naming the nearest, or several.
    """
    meant = column_called(name) or column_called(name.rpartition(".")[2])
    alike = (
        [n for n in names if n == name],
        [n for n in names if plain(n) == plain(name)],
        [n for n in names if meant is not None and column_called(n) == meant],
    )
    found = next(filter(None, alike), [])
    if len(found) > 1:
        raise UserError(f"{name!r} means {' and '.join(map(repr, found))}: give one as it stands")
    if not found:
        raise UserError(f"no column {name!r}; the nearest in the table is {nearest(name, names)!r}")
    return found[0]


def nearest(name: str, names: Iterable[str]) -> str:
    """The name that is most like another as names are compared; of at least one."""
    by_plain = {plain(each): each for each in names}
    return by_plain[difflib.get_close_matches(plain(name), by_plain, n=1, cutoff=0.0)[0]]


def columns_named(named: Mapping[str, str]) -> dict[str, str]:
    """Columns of ours, by whatever name, to the user's; raises UserError where one is none."""
    for name in named:
        if column_called(name) is None:
            near = _KNOWN[nearest(name, _KNOWN)]
            raise UserError(f"there is no column {name!r} to be named; the nearest is {near!r}")
    return {str(column_called(name)): theirs for name, theirs in named.items()}


def columns_of(
    names: Sequence[str], *, own: Sequence[str], named: Mapping[str, str]
) -> dict[str, str]:
    """Column of ours to the name that the table has for it.

    Args:
        names: of the table.
        own: those that are settings of the user's, and keep their names.
        named: columns of ours to the names of which the user says that they are these.

    Raises:
        UserError: a column that is required is missing, one has two names in the table, or one is
            neither known nor the user's; the message names the nearest.
    """
    found: dict[str, str] = dict(named)
    for name in names:
        meant = column_called(name)
        if name in named.values() or (name in own and (meant not in SETTINGS or meant in found)):
            continue
        if meant is None:
            raise UserError(
                f"unknown column {name!r}: the nearest known one is {nearest(name, _KNOWN)!r}; a "
                "setting of yours is named as tuned (--tuned) or as an axis (--axes), and what is "
                "no setting is ignored by name (--ignore)"
            )
        if meant in found:
            raise UserError(f"columns {found[meant]!r} and {name!r} both mean {meant!r}: keep one")
        found[meant] = name
    for ours in REQUIRED:
        if ours not in found:
            taken = [name for name in own if column_called(name) == ours]
            if taken:
                raise UserError(
                    f"column {taken[0]!r}, as {ours}, can be neither tuned nor an axis: leave it "
                    "out of --tuned and --axes"
                )
            raise UserError(
                f"no column {ours!r} (or {', '.join(ALIASES[ours])}) among {', '.join(names)}"
            )
    return found


def of_one_kind(name: str, values: Sequence[Any]) -> list[Any]:
    """The values of a column, all floats where one is; None is of every kind.

    Raises UserError where some are of another kind than others.
    """
    kinds = {_kind(value): value for value in reversed(values) if value is not None}
    if len(kinds) > 1:
        some = " and ".join(f"{kind} ({value!r})" for kind, value in sorted(kinds.items()))
        raise UserError(f"column {name!r} holds {some}: give all of its values as one kind")
    if not any(isinstance(value, float) for value in values):
        return list(values)
    try:
        return [None if value is None else float(value) for value in values]
    except OverflowError as error:
        raise UserError(f"column {name!r} holds {error}") from error


def _kind(value: Any) -> str:
    for kinds, words in ((bool, "truth values"), (int | float, "numbers"), (str, "text")):
        if isinstance(value, kinds):
            return words
    return f"values of type {type(value).__name__}"
