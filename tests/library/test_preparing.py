"""How far a preparation is, in a log and in a terminal that draws nothing."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from replay_jax.data.sources.parts import SPLIT, Part
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.sources.workers import PrepareProgress, Progress
from replay_jax.library import preparing
from replay_jax.library.preparing import preparation_shown


def said_over(seconds, console, monkeypatch, input_bytes=40_000_000):
    """Lines about a source of which a megabyte is read every second."""
    clock = [0.0]
    monkeypatch.setattr(preparing.time, "monotonic", lambda: clock[0])
    with preparation_shown(console) as report:
        for second in range(seconds + 1):
            clock[0] = float(second)
            read = min(second * 1_000_000, input_bytes)
            now = PrepareProgress("web", "tokenizing", 0, read, second * 1000, input_bytes, read)
            report(now)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("dumb", [False, True])
def test_a_line_every_ten_seconds_says_the_time_left(monkeypatch, dumb):
    console = Console(file=io.StringIO(), force_terminal=dumb, width=80, _environ={"TERM": "dumb"})
    assert said_over(21, console, monkeypatch) == [
        "web: tokenizing",
        "web: tokenizing, 25% of 40.0 MB, 10,000 tokens, 30 s left",
        "web: tokenizing, 50% of 40.0 MB, 20,000 tokens, 20 s left",
    ]


def test_of_text_whose_size_is_not_known_the_tokens_are_said(monkeypatch):
    console = Console(file=io.StringIO(), width=80)
    assert said_over(10, console, monkeypatch, input_bytes=0)[1] == "web: tokenizing, 10,000 tokens"


def test_a_terminal_gets_a_bar_instead(monkeypatch):
    console = Console(
        file=io.StringIO(), force_terminal=True, width=120, _environ={"TERM": "xterm"}
    )
    text = "".join(said_over(21, console, monkeypatch))
    assert "21.0/40.0 MB" in text and "s left" not in text


def test_documents_that_are_not_wanted_are_nothing_to_wait_for():
    config = SourceConfig("text", "a.txt", validation_fraction=0.05, train_fraction=0.1)
    part = Part(SPLIT, ("a.txt",), 0, None, False, 10_000_000)
    job, told = SimpleNamespace(source="web", config=config, part=part), []
    progress = Progress("tokenizing", [job], told.append)
    progress(job, documents=3, text_bytes=750_000, tokens=9)
    progress.ended(job)
    assert [(now.read_bytes, now.input_bytes) for now in told] == [
        (0, 1_500_000), (750_000, 1_500_000), (1_500_000, 1_500_000)
    ]  # fmt: skip
