"""The trie and the tasks: against brute force, under random crashes, without any training."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay_jax.schedule.mixture import StepDraws
from replay_jax.schedule.steps import steps_of
from replay_jax.sweep.plan.digest import course_of, state_chain
from replay_jax.sweep.plan.part import part_of
from replay_jax.sweep.plan.plan import Plan, refresh
from replay_jax.sweep.plan.tree import Node, build_edges
from replay_jax.sweep.plan.work import Done, peak_saved_states, remaining_tasks


def chain_of(letters: str) -> np.ndarray:
    """A run whose step k sees the k-th letter, the first letter being its seed."""
    rates = np.array([ord(letter) for letter in letters[1:]], np.float32)
    course = course_of(
        StepDraws(
            first=np.arange(len(rates))[:, None],
            count=np.ones((len(rates), 1), np.int64),
            positions=np.zeros(len(rates), np.uint8),
            steps=steps_of([(len(rates), 1)]),
        ),
        order=(0,),
        learning_rates=rates,
        resets=np.zeros(len(rates), bool),
        average_start=len(rates),
    )
    return state_chain(
        initial=letters[0].encode(), constant=b"", course=course, keys=(b"k" * 16,), known={}
    )


RUNS = st.lists(st.text(alphabet="ab", min_size=2, max_size=9), min_size=1, max_size=8, unique=True)


def test_nodes_stand_where_the_batch_size_changes():
    """Two runs that part after three steps; both change after two, one again after four."""
    chains = [chain_of(run) for run in ("aaaabb", "aaaaab")]
    edges = build_edges(chains, [(2,), (2, 4)])
    spans = [(edge.start.step, edge.stop.step, edge.runs) for edge in edges]
    assert spans == [
        (0, 2, (0, 1)), (2, 3, (0, 1)), (3, 5, (0,)), (3, 4, (1,)), (4, 5, (1,)),
    ]  # fmt: skip
    assert [edge.parent for edge in edges] == [None, 0, 1, 1, 3]
    assert [edge.ending for edge in edges] == [(), (), (0,), (), (1,)]


@settings(deadline=None)
@given(RUNS)
def test_every_distinct_prefix_is_trained_once(runs) -> None:
    edges = build_edges([chain_of(run) for run in runs])
    prefixes = {run[:end] for run in runs for end in range(2, len(run) + 1)}
    assert sum(edge.steps for edge in edges) == len(prefixes)
    for position, edge in enumerate(edges):
        first = runs[edge.runs[0]]
        assert {r for r, run in enumerate(runs) if run[: edge.stop.step + 1]
                == first[: edge.stop.step + 1]} == set(edge.runs)  # fmt: skip
        assert edge.ending == tuple(r for r in edge.runs if len(runs[r]) == edge.stop.step + 1)
        assert edge.ending or len(edge.children) > 1
        assert (edge.parent is None) == (edge.start.step == 0)
        if edge.parent is not None:
            assert edge.parent < position and edges[edge.parent].stop == edge.start
            assert position in edges[edge.parent].children
    ends = sorted(run for edge in edges for run in edge.ending)
    assert ends == list(range(len(runs)))


@settings(deadline=None)
@given(RUNS)
def test_paths_and_passing_are_those_of_the_chains(runs) -> None:
    chains = [chain_of(run) for run in runs]
    nodes = [
        SimpleNamespace(node=lambda step, chain=chain: Node(chain[step].tobytes().hex(), step))
        for chain in chains
    ]
    plan = Plan(tuple(nodes), build_edges(chains), (), frozenset())
    for number, run in enumerate(runs):
        assert plan.paths[number] == tuple(edge for edge in plan.edges if number in edge.runs)
        assert plan.paths[number][-1].stop == nodes[number].node(len(run) - 1)
    every = {(row.tobytes().hex(), step) for chain in chains for step, row in enumerate(chain)}
    for digest, step in every:
        assert plan.passes(digest, step)
        assert all(plan.passes(digest, other) == (other == step) for other in range(12))
    assert not plan.passes("00" * 16, 1)


def test_subtrees_are_finished_before_the_next_begins() -> None:
    edges = build_edges([chain_of(run) for run in ("aabb", "abaa", "aaba", "abab")])
    assert [edge.runs for edge in edges] == [(0, 2), (0,), (2,), (1, 3), (1,), (3,)]


class Disk:
    """Saved states and finished runs, with every rule that the executor must keep asserted."""

    def __init__(self) -> None:
        self.saved: dict[str, int] = {}
        self.done: set[str] = set()
        self.ends: set[str] = set()
        self.trained_ends: list[str] = []

    def work(self, runs, *, keep: bool, tasks_before_crash: int | None = None) -> int:
        """Do (some of) the remaining tasks in order; returns the steps trained."""
        chains = [chain_of(run) for run in runs]
        edges = build_edges(chains)
        done = {position for position, run in enumerate(runs) if run in self.done}
        tasks = remaining_tasks(
            edges, chains=chains, done=done, saved=self.saved, ends=self.ends, keep_states=keep
        )
        steps = 0
        finished: set[int] = set()
        for task in tasks[:tasks_before_crash]:
            assert task.parent is None or task.parent in finished
            only_measured = not task.steps and task.stop.digest in self.ends
            assert task.start.step == 0 or task.start.digest in self.saved or only_measured
            assert task.steps > 0 or task.ending
            steps += task.steps
            if task.steps:
                self.trained_ends.append(task.stop.digest)
            if task.save:
                self.saved[task.stop.digest] = task.stop.step
            self.done |= {runs[run] for run in task.ending}
            self.ends |= {task.stop.digest} if edges[task.edge].ending else set()
            finished.add(task.edge)
            if not keep:
                in_use = {t.start.digest for t in tasks if t.edge not in finished}
                self.saved = {d: s for d, s in self.saved.items() if d in in_use}
        if tasks_before_crash is None:
            assert self.done >= set(runs)
        return steps


@settings(deadline=None)
@given(RUNS, st.lists(st.integers(0, 4), max_size=6), st.booleans())
def test_no_finished_edge_is_trained_again_after_crashes(runs, crashes, keep) -> None:
    disk = Disk()
    steps = sum(disk.work(runs, keep=keep, tasks_before_crash=count) for count in crashes)
    steps += disk.work(runs, keep=keep)
    assert steps == len({run[:end] for run in runs for end in range(2, len(run) + 1)})
    assert len(disk.trained_ends) == len(set(disk.trained_ends))
    assert disk.work(runs, keep=keep) == 0
    assert keep or not disk.saved


@settings(deadline=None)
@given(RUNS, st.data())
def test_what_is_asked_again_is_measured_where_ends_were_kept(runs, data) -> None:
    """As with a task that is added later: no step is trained, and one task per end is left."""
    disk = Disk()
    disk.work(runs, keep=False)
    asked = data.draw(st.sets(st.sampled_from(runs)))
    disk.done -= asked
    assert disk.work(runs, keep=False) == 0
    # Whatever else is new begins from nothing that ends alone cannot give.
    lost = data.draw(st.sets(st.sampled_from(runs)))
    disk.done -= asked | lost
    disk.ends -= {chain_of(run)[-1].tobytes().hex() for run in lost}
    assert disk.work(runs, keep=False) == len(
        {run[:end] for run in lost for end in range(2, len(run) + 1)}
    )


@settings(deadline=None)
@given(RUNS, RUNS)
def test_a_grown_sweep_trains_only_from_kept_states_on(old, new) -> None:
    disk = Disk()
    disk.work(old, keep=True)
    kept = set(disk.saved)
    runs = list(dict.fromkeys(old + new))
    known = {chain_of(run)[step].tobytes().hex() for run in old for step in range(len(run))}
    steps = disk.work(runs, keep=True)
    # New states, plus at most the way from the last kept state to where a new run parts.
    chains = {run: chain_of(run) for run in runs if run not in old}
    fresh = {c[s].tobytes() for c in chains.values() for s in range(1, len(c))}
    fresh = {digest for digest in fresh if digest.hex() not in known}
    again = {
        c[s].tobytes()
        for c in chains.values()
        for s in range(1, len(c))
        if c[s].tobytes().hex() in known
        and not any(c[later].tobytes().hex() in kept for later in range(s, len(c)))
    }
    assert len(fresh) <= steps <= len(fresh) + len(again)


def test_a_checkpoint_inside_an_edge_is_the_place_to_resume() -> None:
    chain = chain_of("aaaaaa")
    edges = build_edges([chain])
    saved = {chain[step].tobytes().hex(): step for step in (2, 3)}
    (task,) = remaining_tasks(
        edges, chains=[chain], done=(), saved=saved, ends=(), keep_states=False
    )
    assert (task.start.step, task.stop.step, task.parent, task.save) == (3, 5, None, False)
    # A state of the same step that another run left is not on the way.
    other = {chain_of("aabbbb")[3].tobytes().hex(): 3}
    (task,) = remaining_tasks(
        edges, chains=[chain], done=(), saved=other, ends=(), keep_states=False
    )
    assert task.start.step == 0


def test_peak_counts_states_that_wait_for_their_last_child() -> None:
    chains = [chain_of(run) for run in ("aaaa", "aaab", "aabb", "abbb")]
    tasks = remaining_tasks(
        build_edges(chains), chains=chains, done=(), saved={}, ends=(), keep_states=False
    )
    # The initial state is computed again; those of "aa" and "aaa" wait together.
    assert peak_saved_states(tasks) == 2
    line = [chain_of("aaaa")]
    alone = remaining_tasks(
        build_edges(line), chains=line, done=(), saved={}, ends=(), keep_states=False
    )
    assert peak_saved_states(alone) == 0


@pytest.mark.parametrize("runs", [["ab"], ["ab", "ba"]])
def test_runs_that_share_nothing_are_edges_of_their_own(runs) -> None:
    edges = build_edges([chain_of(run) for run in runs])
    assert [edge.steps for edge in edges] == [1] * len(runs)


def plan_of(runs):
    config = SimpleNamespace(execution=SimpleNamespace(keep_states=False))
    described = tuple(SimpleNamespace(id=run, chain=chain_of(run), config=config) for run in runs)
    return Plan(described, build_edges([run.chain for run in described]), (), frozenset())


def prefixes(runs):
    return {run[:end] for run in runs for end in range(2, len(run) + 1)}


@settings(deadline=None, max_examples=30)
@given(RUNS, st.data())
def test_portions_train_what_the_whole_does_and_nothing_twice(runs, data) -> None:
    """With states dropped as soon as no run of the portion, or still to be added, needs them."""
    plan, chosen, steps = plan_of(runs), set(), 0
    saved: dict[str, int] = {}
    while len(chosen) < len(runs):
        left = [run for run in runs if run not in chosen]
        added = data.draw(st.sets(st.sampled_from(left), min_size=1))
        portion = part_of(plan, chosen | added)
        assert portion.steps_planned == len(prefixes(chosen | added))
        found = refresh(portion, Done(frozenset(chosen), saved))
        for task in found.tasks:
            assert task.start.step == 0 or task.start.digest in saved
            steps += task.steps
            if task.save:
                saved[task.stop.digest] = task.stop.step
        chosen |= added
        saved = {digest: step for digest, step in saved.items() if digest in portion.spared}
        assert steps == len(prefixes(chosen))
    assert not saved


@settings(deadline=None, max_examples=30)
@given(RUNS, st.data())
def test_a_part_keeps_ids_paths_and_ends(runs, data) -> None:
    wanted = data.draw(st.sets(st.sampled_from(runs), min_size=1))
    plan = plan_of(runs)
    portion = part_of(plan, wanted)
    assert [run.id for run in portion.runs] == [run for run in runs if run in wanted]
    for number, run in enumerate(portion.runs):
        whole = plan.paths[runs.index(run.id)]
        assert [edge.stop for edge in portion.paths[number]] == [edge.stop for edge in whole]
        assert number in portion.paths[number][-1].ending
    for position, edge in enumerate(portion.edges):
        if edge.parent is not None:
            assert position in portion.edges[edge.parent].children
            assert portion.edges[edge.parent].stop == edge.start
