"""What is seen while a sweep runs: a live tree in a terminal, plain lines anywhere else."""

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from replay_jax.sweep.drive.drawing import plan_tree
from replay_jax.sweep.drive.durations import duration
from replay_jax.sweep.drive.progress import ProgressBoard
from replay_jax.sweep.plan.plan import Plan

# Seconds between plain lines about edges under way.
_LINE_SECONDS = 30.0
_REFRESH_SECONDS = 0.5


class SweepView:
    """Shows a sweep's progress on a console; use it as a context manager."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan, self._console = plan, console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        # An editor's shell says that it is a terminal and draws nothing.
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._shown_at, self._took = time.monotonic(), 0.0
        self._ended = len(plan.finished)

    def __enter__(self) -> "SweepView":
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_live:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line, above the live part where there is one."""
        self._console.print(line, highlight=False, markup=False)

    def run_ended(self, number: int, failure: str | None) -> None:
        """Say that a run is finished, or why it is not."""
        self._ended += 1
        run = self._plan.runs[number]
        how = "finished" if failure is None else f"failed: {failure}"
        if failure is not None or not self._is_live:
            self.say(f"[{self._ended}/{len(self._plan.runs)}] {run.name}: {how}")

    def show(self, board: ProgressBoard, *, waiting: int) -> None:
        """Show the state of affairs, if it was not shown just now."""
        # A large tree takes its time: it is drawn for a small part of the time at most.
        every = max(_REFRESH_SECONDS, 20 * self._took) if self._is_live else _LINE_SECONDS
        began = time.monotonic()
        if began - self._shown_at < every:
            return
        if self._is_live:
            self._live.update(self._picture(board), refresh=True)
        else:
            self.say(summary(board, ended=self._ended, runs=len(self._plan.runs)))
        self._shown_at = time.monotonic()
        self._took = self._shown_at - began

    def _picture(self, board: ProgressBoard) -> Group:
        table = Table(box=None, pad_edge=False)
        for column in ("edge", "step", "loss", "tokens/s", "MFU", "where"):
            table.add_column(
                column, justify="left" if column in ("edge", "where") else "right", overflow="fold"
            )
        for number, edge in sorted(board.running.items()):
            last = edge.last
            table.add_row(
                Text(self._plan.edge_name(number)),
                f"{edge.step:,}",
                f"{last.loss:.3f}" if last else "",
                f"{last.tokens_per_second:,.0f}" if last else "compiling",
                f"{last.utilisation:.0%}" if last and last.utilisation is not None else "",
                edge.where,
            )
        line = summary(board, ended=self._ended, runs=len(self._plan.runs))
        return Group(self._tree(board), table, Text(line))

    def _tree(self, board: ProgressBoard) -> Tree | Text:
        tree = plan_tree(self._plan, progress=board.shares())
        lines = self._console.render_lines(tree, pad=False)
        # The table and the summary must stay in sight.
        if len(lines) > self._console.height - len(board.running) - 4:
            return Text("")
        return tree


def summary(board: ProgressBoard, *, ended: int, runs: int) -> str:
    """The state of affairs in one line."""
    left = board.seconds_left()
    total = max(board.steps_total, 1)
    return (
        f"{ended} of {runs} runs ended, {board.steps_done:,} of {board.steps_total:,} steps "
        f"({board.steps_done / total:.0%}), {_speed(board)}"
        + (f", {duration(left)} left" if left is not None else "")
    )


def _speed(board: ProgressBoard) -> str:
    if board.tokens_per_second:
        return f"{board.tokens_per_second:,.0f} tokens/s"
    return "compiling" if board.running else "nothing under way"
