"""The first config for somebody's own text, chosen and written."""

import tempfile
from dataclasses import replace
from pathlib import Path

from replay_jax.config.recipe import load_recipe
from replay_jax.errors import UserError
from replay_jax.hub.folder import pretrained_config, pretrained_folder
from replay_jax.hub.tensors import open_weights
from replay_jax.library.planning import plan
from replay_jax.library.starting.lengths import look_with, model_tokenizer
from replay_jax.library.starting.looking import Seen, look
from replay_jax.library.starting.sizes import SIZES, Start, study_of_size
from replay_jax.library.starting.tuned import tuned_text
from replay_jax.library.starting.tuning import RANK, Tuning, fits, smaller, tuning_of
from replay_jax.library.starting.written import config_text
from replay_jax.progress import step_by_step
from replay_jax.sweep.plan.plan import Plan


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
        spent = _minutes(config_text(found), flops_per_second)
        if chosen is not None and spent > minutes:
            return replace(chosen, limit=f"the next larger would take about {spent:.0f}")
        chosen = replace(found, minutes=spent)
    assert chosen is not None
    return replace(chosen, limit="the largest of those that are suggested")


def start_tuning(
    path: Path,
    generic: str,
    target: str,
    *,
    model: str,
    minutes: float,
    flops_per_second: float,
    memory_bytes: int | None,
) -> Tuning:
    """As `start`, for fine-tuning a model: a folder as the hub has it, or a hub id.

    Conversations are rendered by the model's own template. Adapters are trained where all
    parameters would not fit into `memory_bytes` of a device; None where that is unknown.

    Raises:
        UserError: as `start`; or the model cannot be had, or is of no family that can be loaded.
    """
    if path.exists():
        raise UserError(f"{path} exists already: give another name")
    folder = pretrained_folder(model, download=True)
    sizes = pretrained_config(model, download=True)
    open_weights(model, folder)
    tokenizer = model_tokenizer(model, folder)
    sides = look_with(generic, tokenizer), look_with(target, tokenizer)
    found = tuning_of(model, tokenizer, sides, (generic, target), max_seq_len=sizes.max_seq_len)
    narrowest = min(min(shape) for shape in sizes.matrix_sizes.values())
    found = _in_memory(found, memory_bytes, rank=min(RANK, narrowest))
    found = _within(found, minutes, flops_per_second)
    path.write_text(tuned_text(found), encoding="utf-8")
    return found


def _in_memory(found: Tuning, memory_bytes: int | None, *, rank: int) -> Tuning:
    """All parameters where they can be trained, else adapters of a rank."""
    size = _planned(tuned_text(found)).training_bytes
    found = replace(found, whole_bytes=size, own_bytes=size, memory_bytes=memory_bytes)
    if fits(found):
        return found
    found = replace(found, rank=rank)
    return replace(found, own_bytes=_planned(tuned_text(found)).training_bytes)


def _within(found: Tuning, minutes: float, flops_per_second: float) -> Tuning:
    """Half the budget again and again, until the time allows it or it is the smallest."""
    while True:
        spent = _minutes(tuned_text(found), flops_per_second)
        found = replace(found, minutes=spent)
        try:
            less = smaller(found, found.budget // 2)
        except UserError:
            return found
        if spent <= minutes:
            return found
        found = replace(less, limit=f"twice as much would take about {spent:.0f}")


def _minutes(text: str, flops_per_second: float) -> float:
    """What the whole study of a config takes, from its plan; nothing is read for that."""
    totals = _planned(text).to_json()["totals"]
    flops = totals["flops_remaining"] + totals["evaluation_flops_remaining"]
    return float(flops) / flops_per_second / 60


def _planned(text: str) -> Plan:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.py"
        path.write_text(text, encoding="utf-8")
        return plan(load_recipe(path))
