"""All that a sweep reads from elsewhere, made or found before it is planned: data and models."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from replay_jax.config import ExperimentConfig
from replay_jax.data.prepare import PrepareProgress, ProgressCallback, find_stores, prepare
from replay_jax.data.token_store import TokenStore
from replay_jax.errors import UserError
from replay_jax.sweep.results import versions
from replay_jax.sweep.run import Stores, Weights
from replay_jax.training.pretrained import Pretrained, find_pretrained


@dataclass(frozen=True)
class Prepared:
    """Token stores by source name, and the pre-trained models that runs start from by theirs."""

    stores: Mapping[str, TokenStore]
    weights: Mapping[str, Pretrained]

    def shared_facts(self) -> dict[str, str]:
        """What hosts that train together must have in common: data, models, versions."""
        data = {f"data of '{name}'": store.fingerprint for name, store in self.stores.items()}
        start = {f"initial weights {name}": it.fingerprint for name, it in self.weights.items()}
        return {**data, **start, **versions()}


def prepare_all(configs: Sequence[ExperimentConfig], progress: ProgressCallback | None) -> Prepared:
    """Tokenize what is not tokenized yet, and fetch what models the hub's cache lacks.

    Raises:
        UserError: bad input, a full disk, or a model that cannot be had.
    """
    return Prepared(prepare(configs[0].data, progress), _weights(configs, download=True))


def find_all(configs: Sequence[ExperimentConfig]) -> tuple[Stores | None, Weights]:
    """What is on this machine already; None in place of stores where the text is not.

    Everything but the row numbers can still be planned then.
    """
    try:
        stores = find_stores(configs[0].data)
    except UserError:
        stores = None
    try:
        return stores, _weights(configs, download=False)
    except UserError:
        return stores, {}


def _weights(configs: Sequence[ExperimentConfig], *, download: bool) -> dict[str, Pretrained]:
    names = {config.initial_weights for config in configs} - {""}
    folder = configs[0].data.store_dir
    return {name: find_pretrained(name, folder, download=download) for name in sorted(names)}


@contextmanager
def preparation_shown(console: Console) -> Iterator[ProgressCallback]:
    """A bar per source while `data.prepare.prepare` works; plain lines when not a terminal."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[tokens]:,} tokens"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}
    said: set[str] = set()

    def report(now: PrepareProgress) -> None:
        what = f"{now.source}: {now.stage}"
        if not console.is_terminal:
            if what not in said:
                said.add(what)
                console.print(what)
            return
        if now.source not in tasks:
            tasks[now.source] = bars.add_task(what, total=now.input_bytes or None, tokens=0)
        bars.update(
            tasks[now.source], description=what, completed=now.text_bytes, tokens=now.tokens
        )

    with bars:
        yield report
