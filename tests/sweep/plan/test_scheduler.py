"""The order in which tasks are begun is that of its definition, whatever happens, and fast."""

import sys
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from plain_scheduler import Plain

from replay_jax.sweep.plan.scheduler import Scheduler
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.plan.work import Task


def forest(parents, steps):
    """Tasks with the parents given as distances back, 0 for none."""
    tasks, reached = [], []
    for edge, (back, own) in enumerate(zip(parents, steps, strict=True)):
        parent = edge - back if 0 < back <= edge else None
        start = 0 if parent is None else reached[parent]
        reached.append(start + own)
        nodes = Node(f"{parent}", start), Node(f"{edge}", reached[edge])
        tasks.append(Task(edge, *nodes, parent, True, (edge,), (edge,)))
    return tasks


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(1, 12), st.integers(1, 4))
def test_it_takes_what_the_definition_takes(data, count, workers):
    parents = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    steps = data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    tasks = forest(parents, steps)
    plain, fast = Plain(tasks, workers=workers), Scheduler(tasks, workers=workers)
    for _ in range(4 * count):
        running = sorted(fast.running)
        event = data.draw(st.sampled_from(["take", "finish", "fail", "back", "rest", "lose"]))
        if event == "take" or not running:
            taken, expected = fast.take(), plain.take()
            assert taken == expected
        elif event == "lose" and fast._waiting:
            # As what is known to fail is given up before anything begins.
            edge = data.draw(st.sampled_from(sorted(fast._waiting)))
            assert fast.fail(edge, "known") == plain.fail(edge, "known")
        elif event != "lose":
            edge = data.draw(st.sampled_from(running))
            if event == "finish":
                assert fast.finish(edge) == plain.finish(edge)
            elif event == "fail":
                assert fast.fail(edge, "x") == plain.fail(edge, "x")
            elif event == "back":
                fast.put_back(edge), plain.put_back(edge)
            else:
                until = data.draw(st.sampled_from([0.0, time.monotonic() + 1e6]))
                fast.rest(edge, until=until), plain.rest(edge, until=until)
        needed = {t.start.digest for t in tasks if t.start.step and t.edge not in plain._done}
        assert {t.start.digest for t in tasks if fast.needs(t.start.digest)} == needed
        assert fast._waiting == set(plain._waiting) and fast.failed == plain._failed


def test_its_cost_grows_with_the_number_of_tasks_and_not_with_its_square():
    """8 times the tasks execute at most 12 times the lines; a scan each time takes 64 times."""

    def lines(seeds):
        parents = ([0] + list(range(1, 10))) * seeds
        scheduler = Scheduler(forest(parents, [100, *range(10, 19)] * seeds), workers=8)
        executed = 0

        def count(frame, event, argument):
            nonlocal executed
            executed += event == "line"  # also each turn of a loop or comprehension
            return count

        before = sys.gettrace()
        sys.settrace(count)
        while not scheduler.is_over():
            while len(scheduler.running) < 8 and scheduler.take():
                pass
            scheduler.finish(min(scheduler.running))
        sys.settrace(before)
        return executed

    assert lines(400) < 12 * lines(50)
