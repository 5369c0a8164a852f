"""The first config for somebody's own text, chosen and written."""

import tempfile
from dataclasses import replace
from pathlib import Path

from replay_jax.config.recipe import load_recipe
from replay_jax.errors import UserError
from replay_jax.library.planning import plan
from replay_jax.library.starting.looking import Seen, look
from replay_jax.library.starting.sizes import SIZES, Start, study_of_size
from replay_jax.library.starting.written import config_text
from replay_jax.progress import step_by_step


def start(
    path: Path, generic: str, target: str, *, minutes: float, flops_per_second: float
) -> Start:
    """Look at both sides, choose sizes, and write a config that runs as it is.

    Args:
        path: the file to write, which must not exist.
        generic, target: a file, folder or glob of each.
        minutes: what the study may take on this machine.
        flops_per_second: what training reaches here.

    Raises:
        UserError: the file exists; text is missing, or there is too little of it for any study.
    """
    if path.exists():
        raise UserError(f"{path} exists already: give another name")
    chosen = _chosen(look(generic), look(target), minutes, flops_per_second)
    path.write_text(config_text(chosen), encoding="utf-8")
    return chosen


def _chosen(generic: Seen, target: Seen, minutes: float, flops_per_second: float) -> Start:
    """The largest study that the text gives and the time allows; the smallest whatever the time."""
    chosen: Start | None = None
    for size in step_by_step(SIZES, "trying sizes of the study"):
        try:
            found = study_of_size(size, generic, target)
        except UserError as error:
            if chosen is None:
                raise
            return replace(chosen, limit=f"no larger, for want of text: {error}")
        spent = _minutes(found, flops_per_second)
        if chosen is not None and spent > minutes:
            return replace(chosen, limit=f"the next larger would take about {spent:.0f}")
        chosen = replace(found, minutes=spent)
    assert chosen is not None
    return replace(chosen, limit="the largest of those that are suggested")


def _minutes(found: Start, flops_per_second: float) -> float:
    """What the whole study takes, from its plan; nothing is read for that."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.py"
        path.write_text(config_text(found), encoding="utf-8")
        totals = plan(load_recipe(path)).to_json()["totals"]
    flops = totals["flops_remaining"] + totals["evaluation_flops_remaining"]
    return float(flops) / flops_per_second / 60
