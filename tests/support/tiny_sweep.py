"""A sweep of a few steps on two small corpora, for the tests of the sweep room."""

import contextlib
import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from pprint import pformat
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from replay_jax.config.defaults import (
    model_sizes,
    paper_config,
    source,
    tokenizer,
    two_stage_schedule,
    warmup_stable_decay,
)
from replay_jax.config.experiment import resolve
from replay_jax.config.grid import chain, grid
from replay_jax.config.recipe import override
from replay_jax.data.judging.tasks import find_task
from replay_jax.data.tokens.prepare import prepare
from replay_jax.data.tokens.store import TokenStore
from replay_jax.hub.folder import find_pretrained
from replay_jax.sweep.drive.engine import run_sweep
from replay_jax.sweep.plan.found import Found
from replay_jax.sweep.plan.plan import plan_sweep
from replay_jax.sweep.plan.work import Done
from replay_jax.sweep.store import known
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.workdir import WorkStore

BATCH, SEQ_LEN, STEPS = 8, 16, 12
RHO = "schedule.replay_fraction"
PEAK = "schedule.learning_rate.peak"
_RESET = {
    "schedule.stage2_learning_rate": {
        "peak": 3e-3, "shape": "cosine", "warmup_fraction": 0.0, "decay_fraction": None,
        "final_ratio": 0.0,
    },
    "schedule.stage2_optimizer": "reset",
}  # fmt: skip
# Three runs that part at different steps, one that resets its optimizer, and one each of another
# seed, rate and decay: edges of several lengths and starts.
SWEEP = chain(
    grid({RHO: [0.0, 0.5, 0.75]}),
    [{RHO: 0.5, **_RESET}],
    [{RHO: 0.5, "seed": 1}, {RHO: 0.5, PEAK: 3e-3}, {RHO: 0.5, "optimizer.weight_decay": 0.5}],
)


@dataclasses.dataclass(frozen=True)
class TinyStudy:
    """A configuration and its prepared stores."""

    config: ConfigDict
    stores: Mapping[str, TokenStore]

    def plan(self, sweep, workdir, **changes):
        """Plan a sweep; `changes` are dotted keys with __ for the dots."""
        plain = self.config.to_dict()
        for key, value in changes.items():
            plain = override(plain, key.replace("__", "."), value)
        experiments = []
        for item in sweep:
            own = plain
            for key, value in item.items():
                own = override(own, key, value)
            experiments.append((resolve(own), item))
        names = {config.initial_weights for config, _ in experiments} - {""}
        weights = {
            name: find_pretrained(name, self.config.data.store_dir, download=False)
            for name in names
        }
        first = experiments[0][0]
        tokenizer = next(iter(self.stores.values())).tokenizer
        tasks = {
            name: find_task(name, path, tokenizer, document_mask=first.training.document_mask)
            for name, path in first.tasks
        }
        done = Done() if workdir is None else known.done(WorkStore(workdir))
        return plan_sweep(experiments, found=Found(self.stores, weights, tasks), done=done)

    def train(
        self,
        sweep,
        workdir,
        *,
        here=0,
        accept_environment=False,
        retry_failed=False,
        **changes,
    ):
        """Plan and carry out a sweep in worker processes; returns its outcome.

        With `here`, that is in this process, on so many of its devices (True is one).
        """
        plan = self.plan(sweep, workdir, **changes)
        where = contextlib.nullcontext()
        if here:
            # JAX and all that trains: a coordinator must not need it.
            from in_process import in_this_process

            where = in_this_process(int(here))
        with where, WorkdirLock(workdir) as lock:
            return run_sweep(
                plan,
                lock,
                stores=self.stores,
                about={},
                ray_address=None,
                profile_steps=None,
                console=Console(quiet=True),
                accept_environment=accept_environment,
                retry_failed=retry_failed,
            )


def make_study(folder: Path) -> TinyStudy:
    """Write two corpora with words of their own, and prepare them."""
    words = random.Random(0)
    for name, letters, documents in (("generic", "abcdefgh", 400), ("target", "stuvwxyz", 60)):
        lines = [
            json.dumps({"text": " ".join("".join(words.choices(letters, k=4)) for _ in range(20))})
            for _ in range(documents)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    config = _config(folder)
    return TinyStudy(config, prepare(resolve(config.to_dict()).data, None))


def _config(folder: Path) -> ConfigDict:
    """A model of one layer, 12 steps of 8 sequences, one thread, one device, one worker."""
    config = paper_config()
    config.data.sources = {
        name: source("jsonl", str(folder / f"{name}.jsonl"), validation_fraction=0.2)
        for name in ("generic", "target")
    }
    config.data.tokenizer = tokenizer("bytes")
    config.data.store_dir = str(folder / "stores")
    config.data.generic, config.data.target = "generic", "target"
    config.model = model_sizes("16,32,1,2,2,257")
    config.model.max_seq_len = SEQ_LEN
    config.schedule = two_stage_schedule(STEPS, warmup_stable_decay(1e-2, 0.25))
    config.schedule.target_sequences = BATCH
    config.schedule.target_epochs = 2.0
    config.training.update({"batch_size": BATCH, "seq_len": SEQ_LEN, "document_mask": False})
    config.training.log_every, config.training.evaluate_every = 1, 5
    config.evaluation = {"sequences": 16, "batch_size": 16}
    config.checkpoint.every = 3
    config.mesh = {"replica": 1, "fsdp": 1, "tensor": 1}
    config.execution.workers, config.execution.threads = 1, 1
    return config


def results_of(workdir: Path) -> dict[str, dict]:
    """Result records by name, without what two equal runs may differ in."""
    lines = (workdir / "results.jsonl").read_text().splitlines()
    records = {}
    for record in map(json.loads, lines):
        for key in ("seconds", "time", "machine", "config", "history", "environments"):
            del record[key]
        assert record["name"] not in records
        records[record["name"]] = record
    return records


RECIPE = '''"""Does it matter where it is trained?"""
from ml_collections import ConfigDict

PLAIN = {plain}


def get_config():
    return ConfigDict(PLAIN)


def sweep():
    return {sweep}
'''


def write_recipe(
    folder: Path, sweep: Sequence[Mapping[str, Any]] = ({RHO: 0.0}, {RHO: 0.5})
) -> None:
    """The tiny study as a config file of 24 steps, with a save every 4."""
    plain = make_study(folder).config.to_dict()
    plain["schedule"].update(total_steps=24, target_epochs=4.0)
    plain["model"]["vocab_size"] = 258
    plain["checkpoint"]["every"] = 4
    plain["mesh"] = {"replica": 0, "fsdp": 0, "tensor": 1}
    (folder / "study.py").write_text(RECIPE.format(plain=pformat(plain), sweep=list(sweep)))
