"""A count that takes its time says how far it is, and one that does not says nothing."""

import io

import pytest
from rich.console import Console

from replay_jax.sweep.drive import counted as module
from replay_jax.sweep.drive.counted import counted


def said(monkeypatch, seconds, console):
    """What is said of eight things that take so many seconds each; all of them come, in order."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    things = []
    for thing in counted(range(8), "runs checked", console=console):
        things.append(thing)
        clock[0] += seconds
    assert things == list(range(8))
    return console.file.getvalue()


@pytest.mark.parametrize("dumb", [False, True])
def test_lines_say_how_many_are_done_and_the_time_left(monkeypatch, dumb):
    console = Console(file=io.StringIO(), force_terminal=dumb, width=80, _environ={"TERM": "dumb"})
    lines = said(monkeypatch, 6.0, console).splitlines()
    assert lines == [
        "1 of 8 runs checked, 42 s left",
        "3 of 8 runs checked, 30 s left",
        "5 of 8 runs checked, 18 s left",
        "7 of 8 runs checked, 6 s left",
    ]


def test_what_is_quick_is_not_talked_about(monkeypatch):
    assert said(monkeypatch, 0.2, Console(file=io.StringIO(), width=80)) == ""
