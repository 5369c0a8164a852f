"""A progress bar for preparation, where there is a terminal to show one."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from replay_jax.data.prepare import PrepareProgress, ProgressCallback


@contextlib.contextmanager
def progress_bar(console: Console) -> Iterator[ProgressCallback]:
    """A callback for `prepare` that draws one line per source; one plain line without a terminal.

    The bar compares text read with the size of the input files: for compressed files it ends
    early or late, and the counts beside it are exact.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[tuple[str, str], TaskID] = {}

        def show(state: PrepareProgress) -> None:
            key = (state.source, state.stage)
            if key not in tasks:
                if not console.is_terminal:
                    console.print(f"{state.stage}: {state.source}")
                for task in tasks.values():
                    bar.update(task, total=1, completed=1)
                tasks[key] = bar.add_task(f"{state.stage}: {state.source}", total=None, counts="")
            counts = (
                f"{state.documents:,} documents, {state.text_bytes / 1e6:,.1f} MB, "
                f"{state.tokens:,} tokens"
            )
            known = state.text_bytes <= state.input_bytes
            bar.update(
                tasks[key],
                total=state.input_bytes if known else None,
                completed=state.text_bytes,
                counts=counts if state.documents else "",
            )

        yield show
        for task in tasks.values():
            bar.update(task, total=1, completed=1)
