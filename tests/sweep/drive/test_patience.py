"""What takes its time says so: stages, what is told of them and when, and who opens some."""

import io
import sys
import time

import pytest

from replay_jax.progress import Stage, stage, step_by_step, under_way, until_another
from replay_jax.sweep.drive import patience as module
from replay_jax.sweep.drive.patience import Teller, how_far, patience


def test_the_outermost_that_knows_what_is_left_is_under_way():
    assert under_way() is None
    with stage("all", 10) as advance:
        with stage("part"):
            assert under_way().what == "part"
            advance(1)
            assert under_way().what == "all" and under_way().done == 1
    with pytest.raises(KeyError), stage("breaks"):
        raise KeyError
    assert under_way() is None


def test_what_a_command_does_first_is_over_when_a_stage_begins():
    with until_another("report"):
        assert under_way().what == "report"
        with stage("fitting"):
            pass
        assert under_way() is None


def test_items_are_counted_once_they_are_done():
    seen = []
    for item in step_by_step([5, 6, 7], "items"):
        seen.append((item, under_way().done, under_way().total))
    assert seen == [(5, 0, 3), (6, 1, 3), (7, 2, 3)] and under_way() is None
    assert next(step_by_step([5, 6], "left early")) == 5
    assert under_way() is None  # closed with the loop


def test_the_time_left_is_at_the_speed_so_far():
    assert how_far(Stage("hashing", 200, 50, began=0), 15) == "hashing: 25%, 45 s left"
    assert how_far(Stage("hashing", 200, 0, began=0), 15) == "hashing, 15 s so far"
    assert how_far(Stage("reading", 0, 7, began=0), 600) == "reading, 10 min so far"


def test_two_seconds_are_no_wait_and_lines_come_every_ten():
    teller, said = Teller(), []
    one = Stage("one", began=0.0)
    for now in range(30):
        teller.look(now, one, said.append)
    assert said == [f"one, {n} s so far" for n in (2, 12, 22)]
    teller.look(31, Stage("two", began=29.5), said.append)
    assert len(said) == 3
    teller.look(31.5, Stage("two", began=29.5), said.append)
    assert said[3:] == ["two, 2 s so far"]


def test_a_loop_of_short_stages_is_told_no_more_often():
    teller, said = Teller(), []
    for now in range(3, 30, 3):
        teller.look(now, Stage("figures", began=now - 2), said.append)
    assert len(said) == 3


def test_a_command_that_waits_is_heard_on_stderr(monkeypatch):
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    monkeypatch.setattr(module, "_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)
    with patience(), stage("fitting"):
        ended = time.monotonic() + 5
        while not heard.getvalue() and time.monotonic() < ended:
            time.sleep(0.001)
    assert heard.getvalue() == "fitting, 0 s so far\n"
