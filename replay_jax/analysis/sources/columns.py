"""What the columns of anybody's table of runs may be called, and what each holds."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.errors import UserError

# A table: values by the column's name, all columns of one length.
Columns = dict[str, list[Any]]

REQUIRED = ("target_tokens", "replay_fraction", "seed", "target_loss")
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


def columns_of(
    names: Sequence[str], *, own: Sequence[str], named: Mapping[str, str]
) -> dict[str, str]:
    """Column of ours to the name that the table has for it.

    Args:
        names: of the table.
        own: settings of the user's, which keep their names.
        named: columns of which the user says what the table calls them.

    Raises:
        UserError: a column that is required is missing, one has two names in the table, or one is
            neither known nor the user's; the message names the nearest.
    """
    for ours, theirs in named.items():
        if ours not in ALIASES:
            near = difflib.get_close_matches(ours, ALIASES, n=1, cutoff=0.0)[0]
            raise UserError(f"there is no column {ours!r} to be named; the nearest is {near!r}")
        _require(theirs, names)
    found: dict[str, str] = dict(named)
    for name in names:
        if name in own or name in named.values():
            continue
        meant = column_called(name)
        if meant is None:
            near = difflib.get_close_matches(plain(name), _KNOWN, n=1, cutoff=0.0)[0]
            raise UserError(
                f"unknown column {name!r}: the nearest known one is {near!r}; a setting of yours "
                "is named as tuned (--tuned) or as an axis (--axes), and what is no setting is "
                "ignored by name (--ignore)"
            )
        if meant in found:
            raise UserError(f"columns {found[meant]!r} and {name!r} both mean {meant!r}: keep one")
        found[meant] = name
    for ours in REQUIRED:
        if ours not in found:
            raise UserError(
                f"no column {ours!r} (or {', '.join(ALIASES[ours])}) among {', '.join(names)}"
            )
    for name in own:
        _require(name, names)
    return found


def _require(name: str, names: Sequence[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise UserError(f"no column {name!r}; the nearest in the table is {near!r}")


def of_one_kind(name: str, values: Sequence[Any]) -> list[Any]:
    """The values of a column, all floats where one is; None is of every kind.

    Raises UserError where some are of another kind than others.
    """
    kinds = {_kind(value) for value in values if value is not None}
    if len(kinds) > 1:
        raise UserError(f"column {name!r} holds {' and '.join(sorted(kinds))}")
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
