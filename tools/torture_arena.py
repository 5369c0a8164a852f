"""The sweep that is tortured, one that nobody disturbed, and what must be alike in both."""

import dataclasses
import json
import os
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from forked import fork
from killing import LONG, coordinate
from tiny_sweep import RHO, TinyStudy, make_study, results_of

from replay_jax.errors import UserError
from replay_jax.sweep.results.verify import verify

# A shared stage 1 and two ends.
SWEEP = [{RHO: 0.0}, {RHO: 0.5}]
OFTEN = {**LONG, "checkpoint__every": 2}
_PATIENCE_SECONDS = 600.0


class Wrong(Exception):
    """A promise that was not kept."""


@dataclasses.dataclass(frozen=True)
class Arena:
    """What all trials share.

    Attributes:
        folder: a folder for what a trial makes, `trial`, and for what stays.
        study: the corpora, configuration and stores.
        long: results of the sweep of 60 steps, undisturbed, by name.
        short: likewise of 12 steps; its directory is `folder / "short"`, with all states.
    """

    folder: Path
    study: TinyStudy
    long: Mapping[str, Any]
    short: Mapping[str, Any]

    def fresh(self) -> Path:
        """The empty folder of the next trial."""
        trial = self.folder / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        trial.mkdir()
        return trial


def make_arena(folder: Path) -> Arena:
    """Prepare the study and train it once in peace, in this process."""
    study = make_study(folder)
    study.train(SWEEP, folder / "long", here=True, **LONG)
    study.train(SWEEP, folder / "short", here=True, execution__keep_states=True)
    shutil.copytree(folder / "stores", folder / "stores.whole")
    return Arena(folder, study, results_of(folder / "long"), results_of(folder / "short"))


def finish(arena: Arena, workdir: Path) -> None:
    """Give the command again until all is done, undisturbed; all must be as if nothing was."""
    outcome = arena.study.train(SWEEP, workdir, here=True, **OFTEN)
    if outcome.failures:
        raise Wrong(f"failed although undisturbed: {outcome.failures}")
    agree(workdir, arena.long)


def agree(workdir: Path, wanted: Mapping[str, Any]) -> None:
    """Raise Wrong unless the results are those wanted, to the last bit, and `verify` is content."""
    found = results_of(workdir)
    if found != wanted:
        keys = [name for name in wanted if found.get(name) != wanted[name]]
        raise Wrong(f"other results: {keys or sorted(found)}")
    differences, checked = verify(workdir)
    if differences or checked != len(wanted):
        raise Wrong(f"verify: {checked} runs, {differences}")


def lacks_a_point(workdir: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether results are those wanted but for points of their curves that are left out."""
    found = results_of(workdir)

    def of_a_curve(record: Mapping[str, Any]) -> set[tuple[Any, ...]]:
        return {(point["step"], point["target"], point["generic"]) for point in record["curve"]}

    def rest(record: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in record.items() if k not in ("curve", "boundary", "early_stopping")}

    return found.keys() == wanted.keys() and all(
        rest(found[name]) == rest(wanted[name])
        and of_a_curve(found[name]) <= of_a_curve(wanted[name])
        for name in wanted
    )


def start(arena: Arena, workdir: Path, workers: int = 1, **how: Any) -> BaseProcess:
    """A coordinator in a process of its own, which tells `told` how it ended."""
    plan = arena.study.plan(SWEEP, workdir, execution__workers=workers, **OFTEN)
    arguments = (plan, arena.study.stores, workdir, arena.folder / "told", how)
    return fork(_coordinate_and_tell, arguments)


def _coordinate_and_tell(
    plan: Any, stores: Any, workdir: Path, told: Path, how: Mapping[str, Any]
) -> None:
    from replay_jax.sweep.executors.local import workers

    if "silence" in how:
        workers._SILENCE_SECONDS = how["silence"]
    path = told / str(os.getpid())
    told.mkdir(exist_ok=True)
    try:
        outcome = coordinate(plan, stores, workdir)
        words = {"end": "failed" if outcome.failures else "done", "words": outcome.failures}
    except UserError as error:
        words = {"end": "refused", "words": str(error)}
    except BaseException:
        words = {"end": "traceback", "words": traceback.format_exc()}
    path.write_text(json.dumps(words))


def ending(arena: Arena, process: BaseProcess) -> tuple[str, str]:
    """How a coordinator ended, and what it said; a hang or a traceback is Wrong."""
    process.join(_PATIENCE_SECONDS)
    if process.is_alive():
        process.kill()
        raise Wrong(f"a coordinator hangs for {_PATIENCE_SECONDS:.0f} s")
    path = arena.folder / "told" / str(process.pid)
    if not path.exists():
        raise Wrong(f"a coordinator ended with {process.exitcode} and said nothing")
    told = json.loads(path.read_text())
    path.unlink()
    if told["end"] == "traceback":
        raise Wrong(told["words"])
    return told["end"], str(told["words"])


def spans(workdir: Path) -> int:
    """How many spans are recorded."""
    return len(list((workdir / "segments").glob("*.json")))


def wait_for_spans(workdir: Path, process: BaseProcess, more: int) -> None:
    """Return when so many more spans are recorded, or the process has ended."""
    wanted = spans(workdir) + more
    while process.is_alive() and spans(workdir) < wanted:
        time.sleep(0.01)


def one_sentence(words: str, names: Sequence[str]) -> bool:
    """Whether a refusal is one line that has one of the names."""
    return "\n" not in words.strip() and any(name in words for name in names)
