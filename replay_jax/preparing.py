"""What the terminal shows while data is prepared."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from replay_jax.data.prepare import PrepareProgress, ProgressCallback


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
