"""Tasks of lm_eval on a loaded model: by name or by a YAML file, with few-shot prompts."""

import contextlib
import difflib
import importlib.util
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replay_jax.data.sources.durable import write_durably
from replay_jax.errors import UserError
from replay_jax.library.evaluating import Loaded

_QUIET = logging.ERROR  # the harness tells every step of its own


@dataclass(frozen=True)
class Asked:
    """What of which tasks is asked.

    Attributes:
        names: of tasks, groups or tags, or paths of YAML files.
        include: folders with more tasks.
        shots: examples before each item; None for what the task says.
        limit: items of each task, from the first; None for all.
        chat: whether prompts are conversations in the tokenizer's own template.
        seed: of what is drawn: examples of few-shot prompts, and sampled texts.
    """

    names: Sequence[str]
    include: Sequence[str] = ()
    shots: int | None = None
    limit: int | None = None
    chat: bool = False
    seed: int = 1234


def harness_scores(loaded: Loaded, asked: Asked, *, batch_size: int = 8) -> dict[str, Any]:
    """What lm_eval makes of a model, as it returns it: `results`, `samples` and more.

    Raises:
        UserError: lm_eval is not installed, there is no such task or its data cannot be had, or
            the model has no tokenizer.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            f"{', '.join(asked.names)}: tasks by name are those of lm_eval, which is not "
            "installed: pip install 'replay-jax[eval]', or give a file of your own as "
            "--tasks=NAME=FILE"
        )
    logging.getLogger("lm_eval").setLevel(_QUIET)
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from replay_jax.library.texts.harness import LoadedLM

    model = LoadedLM(loaded, batch_size=batch_size, seed=asked.seed)
    # The harness's own tasks are thousands of files, read only where one of them is asked for.
    manager = TaskManager(include_path=list(asked.include), include_defaults=False)
    if not all(_is_file(name) or name in manager.all_tasks for name in asked.names):
        manager = TaskManager(include_path=list(asked.include))
    tasks = [task for name in asked.names for task in load_task(manager, name)]
    with contextlib.redirect_stdout(sys.stderr):  # of which it prints some lines
        found: dict[str, Any] = simple_evaluate(
            model, tasks=tasks, task_manager=manager, num_fewshot=asked.shots, limit=asked.limit,
            apply_chat_template=asked.chat, fewshot_random_seed=asked.seed, bootstrap_iters=1000,
        )  # fmt: skip
    return found


def load_task(manager: Any, name: str) -> list[Any]:
    """A task or group of a manager of lm_eval; of a tag all of its tasks.

    Raises:
        UserError: there is none of that name, or its data cannot be had.
    """
    if not _is_file(name) and name not in manager.all_tasks:
        near = difflib.get_close_matches(name, manager.all_tasks, n=1, cutoff=0.0)
        nearest = f"; the nearest is {near[0]!r}" if near else ""
        raise UserError(f"lm_eval has no task {name!r}{nearest}")
    try:
        found = manager.load([name])
    except Exception as error:  # the harness and its data library raise dozens of unrelated types
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"the task {name!r} cannot be had: {reason}") from error
    groups = [group for group in found["groups"].values() if group.name == name]
    return groups or list(found["tasks"].values())


def task_numbers(found: Mapping[str, Any]) -> dict[str, dict[str, float | int]]:
    """The numbers of each task (metric and filter as lm_eval names them), and its items."""
    scores = {}
    for name, values in found["results"].items():
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
        items = found["samples"][name] if name in found["samples"] else ()
        scores[name] = {"items": len(items), **numbers}
    return scores


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def write_items(found: Mapping[str, Any], path: Path) -> None:
    """Write every item of every task as a line: its document, what was asked, and its scores.

    Raises:
        UserError: the file cannot be written.
    """
    lines = [
        json.dumps({"task": name, **sample}, ensure_ascii=False, default=str)
        for name, samples in found["samples"].items()
        for sample in samples
    ]
    try:
        write_durably(path, "\n".join(lines) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
