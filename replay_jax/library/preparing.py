"""All that a sweep reads from elsewhere, made or found before it is planned."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.data.judging.tasks import Task, find_task
from replay_jax.data.sources.workers import PrepareProgress, ProgressCallback
from replay_jax.data.stores.near_copies import known_near_copies, near_sentence
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.copies import find_copies
from replay_jax.data.tokens.prepare import find_stores, prepare
from replay_jax.data.tokens.store import TokenStore
from replay_jax.data.tokens.tokenizer import Tokenizer, load_tokenizer
from replay_jax.errors import UserError
from replay_jax.hub.convention import check_tokenizer
from replay_jax.hub.folder import Pretrained, find_pretrained
from replay_jax.hub.tensors import open_weights
from replay_jax.sweep.drive.durations import duration
from replay_jax.sweep.plan.found import Found, Stores
from replay_jax.sweep.store.environment import software

# Seconds between lines about the same thing, where no bar can be drawn.
_LINE_SECONDS = 10.0


@dataclass(frozen=True)
class Prepared(Found):
    """All of it, made or found: nothing is missing."""

    stores: Mapping[str, TokenStore]

    def shared_facts(self) -> dict[str, str]:
        """What hosts that train together must have in common: data, models, tasks, versions."""
        data = {f"data of '{name}'": store.fingerprint for name, store in self.stores.items()}
        start = {f"initial weights {name}": it.fingerprint for name, it in self.weights.items()}
        tasks = {f"task '{name}'": task.digest for name, task in self.tasks.items()}
        return {**data, **start, **tasks, **software()}


def prepare_all(configs: Sequence[ExperimentConfig], progress: ProgressCallback | None) -> Prepared:
    """Tokenize what is not tokenized yet, fetch what models the hub's cache lacks, read tasks.

    Raises:
        UserError: bad input, a full disk, or a model that cannot be had.
    """
    weights = _weights(configs, download=True)
    early = _early_tokenizer(configs[0].data.tokenizer, download=True) if weights else None
    warnings = _tokens_of(configs, early, weights)  # before hours of work with another tokenizer
    stores = prepare(configs[0].data, progress)
    tokenizer = next(iter(stores.values())).tokenizer
    if early is None:
        warnings = _tokens_of(configs, tokenizer, weights)
    return Prepared(stores, weights, _tasks(configs[0], tokenizer), warnings)


def find_all(configs: Sequence[ExperimentConfig]) -> Found:
    """What is on this machine already; everything but the row numbers can be planned without."""
    stores: Stores | None = None
    weights: dict[str, Pretrained] = {}
    tasks: dict[str, Task] = {}
    with contextlib.suppress(UserError):
        stores = find_stores(configs[0].data)
    with contextlib.suppress(UserError):
        weights = _weights(configs, download=False)
    known = [store for store in (stores or {}).values() if store is not None]
    with contextlib.suppress(UserError):
        tasks = _tasks(configs[0], known[0].tokenizer if known else None)
    tokenizer = known[0].tokenizer if known else None
    if weights and tokenizer is None:
        with contextlib.suppress(UserError):
            tokenizer = _early_tokenizer(configs[0].data.tokenizer, download=False)
    return Found(stores, weights, tasks, _tokens_of(configs, tokenizer, weights))


def _early_tokenizer(config: TokenizerConfig, *, download: bool) -> Tokenizer | None:
    """The tokenizer of data that is still to be made; None where it is still to be trained."""
    return None if config.kind == "bpe" else load_tokenizer(config, download=download)


def _tokens_of(
    configs: Sequence[ExperimentConfig],
    tokenizer: Tokenizer | None,
    weights: Mapping[str, Pretrained],
) -> tuple[str, ...]:
    """Warnings about the tokens that models go on from; raises UserError for those of another."""
    if tokenizer is None:
        return ()
    pairs = {
        (c.initial_weights, c.other_tokenizer) for c in configs if c.initial_weights in weights
    }
    found = (check_tokenizer(tokenizer, weights[name], accepted=other) for name, other in pairs)
    return tuple(sorted({sentence for sentences in found for sentence in sentences}))


def _weights(configs: Sequence[ExperimentConfig], *, download: bool) -> dict[str, Pretrained]:
    names = {config.initial_weights for config in configs} - {""}
    folder = str(configs[0].data.stores)
    found = {name: find_pretrained(name, folder, download=download) for name in sorted(names)}
    for name, model in found.items():
        open_weights(name, Path(model.folder))  # a damaged one is named before data is prepared
    return found


def _tasks(config: ExperimentConfig, tokenizer: Tokenizer | None) -> dict[str, Task]:
    mask = config.training.document_mask
    return {
        name: find_task(name, path, tokenizer, document_mask=mask) for name, path in config.tasks
    }


def print_prepared(prepared: Prepared) -> None:
    """What there is now: tokens by source and split, copies between documents, models, tasks."""
    for name, store in prepared.stores.items():
        train, held_out = (store.manifest.splits[split].tokens for split in ("train", "validation"))
        print(f"{name}: {train:,} training tokens, {held_out:,} held out, in {store.path}")
        if store.manifest.supervised is not None:
            counted = store.manifest.supervised["train"]
            print(f"{name}: {counted:,} of its training tokens count in the loss")
        counts = {"bad": store.manifest.bad, "copies": store.manifest.copies}
        for what, count in counts.items():
            if count:
                print(f"{name}: {count:,} documents passed over as {what}")
    for copies in find_copies(prepared.stores):
        print(copies.sentence)
    for near in known_near_copies(prepared.stores) or ():
        print(near_sentence(near))
    for name, model in prepared.weights.items():
        print(f"{name}: pre-trained model, in {model.folder}")
    for name, task in prepared.tasks.items():
        print(f"{name}: {task.items:,} items, rows of up to {task.length} tokens, in {task.path}")


@contextlib.contextmanager
def preparation_shown(console: Console) -> Iterator[ProgressCallback]:
    """A bar per source while `tokens.prepare.prepare` works; lines where no bar can be drawn."""
    is_live = console.is_terminal and not console.is_dumb_terminal
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[tokens]:,} tokens"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not is_live,
    )
    tasks: dict[str, TaskID] = {}
    lines = _Lines(console)

    def report(now: PrepareProgress) -> None:
        what = f"{now.source}: {now.stage}"
        if not is_live:
            lines.say(what, now)
            return
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=now.input_bytes or None, tokens=0)
        bars.update(tasks[what], completed=now.read_bytes, tokens=now.tokens)

    with bars:
        yield report


class _Lines:
    """How far a preparation is, for a log: a line when something begins, and now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def say(self, what: str, now: PrepareProgress) -> None:
        """Say it, if something like it was not said just now."""
        clock = time.monotonic()
        if what not in self._began:
            self._began[what] = self._said[what] = clock
            self._console.print(what, highlight=False, markup=False)
        elif clock - self._said[what] >= _LINE_SECONDS:
            self._said[what] = clock
            words = f"{what}, {_how_far(now, clock - self._began[what])}"
            self._console.print(words, highlight=False, markup=False)


def _how_far(now: PrepareProgress, seconds: float) -> str:
    """What is done after so many seconds, and the time left where the input's size is known."""
    words = [f"{now.tokens:,} tokens"] if now.tokens else []
    if 0 < now.read_bytes <= now.input_bytes:
        left = seconds * (now.input_bytes / now.read_bytes - 1)
        share = f"{now.read_bytes / now.input_bytes:.0%} of {now.input_bytes / 1e6:,.1f} MB"
        words = [share, *words, f"{duration(left)} left"]
    return ", ".join(words) or f"{duration(seconds)} so far"
