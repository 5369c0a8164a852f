"""What the columns of anybody's table of runs may be called, and what each holds."""

import difflib
from collections.abc import Mapping, Sequence

from replay_jax.errors import UserError

REQUIRED = ("target_tokens", "replay_fraction", "seed", "target_loss")
# Column to the other names it is known by; upper case, spaces and hyphens make no difference.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "target_tokens": ("target_data", "target_budget", "unique_target_tokens", "budget"),
    "replay_fraction": ("replay", "rho", "ρ"),
    "seed": ("random_seed", "run_seed"),
    "target_loss": ("loss", "eval_loss", "val_loss", "validation_loss", "target_eval_loss"),
    "generic_loss": ("general_loss", "pretraining_loss", "generic_eval_loss"),
    "target_epochs": ("epochs", "repetitions"),
    "allocation": ("alpha", "α", "stage2_allocation"),
    "protocol": (),
    "target": ("target_dataset", "domain"),
    "generic": ("generic_dataset", "replay_source"),
    "evaluation": ("eval_set", "held_out_set"),
    "loss_unit": ("unit",),
    "name": ("run", "run_name", "id", "run_id"),
}


def columns_of(names: Sequence[str], *, own: Sequence[str]) -> dict[str, str]:
    """Column of ours to the name that the table has for it.

    Args:
        names: of the table.
        own: settings of the user's, which keep their names.

    Raises:
        UserError: a column that is required is missing, one has two names in the table, or one is
            neither known nor the user's; the message names the nearest.
    """
    known = {alias: ours for ours, others in ALIASES.items() for alias in (ours, *others)}
    found: dict[str, str] = {}
    for name in names:
        if name in own:
            continue
        plain = name.strip().lower().replace(" ", "_").replace("-", "_")
        if plain not in known:
            near = difflib.get_close_matches(plain, known, n=1, cutoff=0.0)[0]
            raise UserError(
                f"unknown column {name!r}: the nearest known one is {near!r}; a setting of yours "
                "is named as tuned or as an axis, and what is no setting is ignored by name"
            )
        if known[plain] in found:
            raise UserError(
                f"columns {found[known[plain]]!r} and {name!r} both mean {known[plain]!r}: keep one"
            )
        found[known[plain]] = name
    for ours in REQUIRED:
        if ours not in found:
            raise UserError(
                f"no column {ours!r} (or {', '.join(ALIASES[ours])}) among {', '.join(names)}"
            )
    for name in own:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise UserError(f"no column {name!r}; the nearest in the table is {near!r}")
    return found
