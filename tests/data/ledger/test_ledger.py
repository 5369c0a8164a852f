"""Ledgers: what is planned, what was counted from batches, and that differences are found."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from grain_rows import RunOrder
from hypothesis import given, settings
from hypothesis import strategies as st

from replay_jax.data.ledger.compared import check_spans, compare, planned_rows, realised_ledger
from replay_jax.data.ledger.counted import RealisedCounter, Span
from replay_jax.data.ledger.planned import Ledger, plan_ledger
from replay_jax.data.reading.views import SourceView, view_rows
from replay_jax.errors import UserError
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.mixture import step_draws
from replay_jax.schedule.protocols import StageConfig, from_stages, two_stage

WSD = LearningRate(3e-3, "linear", 0.01, 0.1, 0.0)
STEPS, BATCH, BUDGET, EPOCHS = 24, 8, 6, 5


def schedule(rho=0.4, alpha=0.6):
    """Stage 2 begins inside a batch."""
    return two_stage(
        total_steps=STEPS,
        batch_size=BATCH,
        target_sequences=BUDGET,
        target_epochs=EPOCHS,
        replay_fraction=rho,
        stage2_allocation=alpha,
        learning_rate=WSD,
    )


def views(pool=400, target_pool=50, repeat=False):
    return {
        "generic": SourceView("generic", "g", 16, pool, None, 3, repeat),
        "target": SourceView("target", "t", 16, target_pool, BUDGET, 4, True),
    }


def sequences(plan, sources):
    """(source, row) of each: read one sequence after another through the selection map."""
    selection, names = RunOrder(plan), plan.source_names
    pairs = []
    for index in range(len(selection)):
        source, draw = selection[index]
        pairs.append((source, int(view_rows(sources[names[source]], [draw])[0])))
    return np.array(pairs)


def batches(plan, sources):
    """[steps] of (source, row)."""
    return sequences(plan, sources).reshape(plan.total_steps, plan.batch_size, 2)


UNREAD = bytes(8)  # stands for the checksum of tokens that nobody looked at


def count(read, plan, sources, start=0, stop=None, rows=slice(None), **options):
    """The span of the steps from `start` to `stop`, counted by the host that reads `rows`."""
    counter = RealisedCounter(
        source_names=plan.source_names,
        views=sources,
        batch_size=plan.batch_size,
        start_step=start,
        first_sequence=start * plan.batch_size,
        rows=rows,
        **options,
    )
    for step in range(start, plan.total_steps if stop is None else stop):
        part = read[step, rows]
        counter.add(step, source=part[:, 0].astype(np.int32), row=part[:, 1], tokens=UNREAD)
    return counter.span()


PLAN, VIEWS = schedule(), views()
READ = batches(PLAN, VIEWS)
CUTS = PLAN.stage_starts


def test_planned_values():
    ledger = plan_ledger(PLAN, VIEWS)
    first, second = ledger.stages
    assert (first.sequences, second.sequences, second.first_sequence) == (162, 30, 162)
    assert second.first_sequence % BATCH  # the boundary lies inside a batch
    generic, target = first.entries
    assert (generic.source, generic.sequences, generic.tokens) == ("generic", 150, 150 * 16)
    assert (generic.unique, generic.repeated, generic.epochs) == (150, 0, 150 / 400)
    assert (target.sequences, target.unique, target.repeated, target.epochs) == (12, 6, 6, 2)
    generic, target = second.entries
    assert (generic.sequences, target.sequences, target.unique, target.epochs) == (12, 18, 6, 3)
    totals = {entry.source: entry for entry in ledger.totals}
    assert totals["target"].sequences == BUDGET * EPOCHS
    assert (totals["target"].unique, totals["target"].repeated) == (6, 24)
    assert totals["generic"].sequences == STEPS * BATCH - 30
    assert ledger.realised == PLAN.realised() and ledger.requested == PLAN.requested
    assert ledger.realised.stage2_steps == 30 / 8


def test_first_and_last_rows_are_those_read():
    rows = READ.reshape(-1, 2)
    for stage in plan_ledger(PLAN, VIEWS).stages:
        part = rows[stage.first_sequence : stage.first_sequence + stage.sequences]
        for number, entry in enumerate(stage.entries):
            read = part[part[:, 0] == number][:, 1]
            assert (entry.first_row, entry.last_row) == (read[0], read[-1])


@settings(deadline=None, max_examples=60)
@given(
    budget=st.integers(1, 12),
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(sum),
    seed=st.integers(0, 50),
)
def test_unique_and_repeated_against_sets(budget, lengths, seed):
    """Stages that begin and end anywhere in an epoch, against the sets of rows."""
    lengths = [length for length in lengths if length]
    shares = (("generic", 0.0, 0.0), ("target", 1.0, 1.0))
    stages = tuple(StageConfig(n, shares, None, "continue") for n in lengths)
    stages = (dataclasses.replace(stages[0], learning_rate=WSD), *stages[1:])
    plan = from_stages(stages, batch_size=1)
    sources = {**views(), "target": SourceView("target", "t", 16, 40, budget, seed, True)}
    rows, start = view_rows(sources["target"], np.arange(sum(lengths))), 0
    for stage, length in zip(plan_ledger(plan, sources).stages, lengths, strict=True):
        entry = stage.entries[1]
        unique = len(set(rows[start : start + length].tolist()))
        assert (entry.unique, entry.repeated) == (unique, length - unique)
        start += length


def test_what_is_not_known_before_the_data_is_left_open():
    ledger = plan_ledger(PLAN, views(pool=None, target_pool=None))
    generic, target = ledger.totals
    assert (generic.unique, generic.repeated, generic.epochs) == (162, 0, None)
    assert (target.unique, target.repeated, target.epochs) == (6, 24, 5)
    assert target.first_row is None and target.last_row is None
    assert plan_ledger(PLAN, views(pool=None, repeat=True)).totals[0].unique is None
    plan = schedule(alpha=0.5)  # 15 draws: each stage begins or ends inside an epoch
    known, unknown = plan_ledger(plan, VIEWS), plan_ledger(plan, views(target_pool=None))
    assert [stage.entries[1].unique for stage in known.stages] == [6, 6]
    assert [stage.entries[1].unique for stage in unknown.stages] == [6, 6]


def test_a_plan_that_runs_out_is_refused():
    with pytest.raises(UserError, match="draws 162 rows of 'generic', which has 161"):
        plan_ledger(PLAN, views(pool=161))
    assert plan_ledger(PLAN, views(pool=161, repeat=True)).totals[0].repeated == 1
    with pytest.raises(UserError, match="draws from 'target', but the sources are generic"):
        plan_ledger(PLAN, {"generic": VIEWS["generic"]})


def test_counted_ledger_equals_the_plan():
    planned = plan_ledger(PLAN, VIEWS)
    realised = realised_ledger([count(READ, PLAN, VIEWS, cuts=CUTS)], PLAN, VIEWS)
    assert compare(planned, realised) == []
    assert len(realised.stages) == 2 and realised.realised == planned.realised
    for stage, other in zip(planned.stages, realised.stages, strict=True):
        assert other.entries[1] == stage.entries[1]  # every value, the budget's rows among them
        assert other.entries[0] == dataclasses.replace(stage.entries[0], unique=None, repeated=None)


HOSTS = {
    "one": [slice(None)],
    "two": [slice(0, 4), slice(4, 8)],
    "four": [slice(2 * host, 2 * host + 2) for host in range(4)],
    "strided": [slice(host, None, 2) for host in range(2)],
    "uneven": [np.array([0, 3, 4, 7]), np.array([2]), np.array([1, 5, 6])],
}


@pytest.mark.parametrize("edges", [(0, 24), (0, 1, 20, 21, 24), tuple(range(25))])
@pytest.mark.parametrize("hosts", HOSTS)
def test_edges_and_hosts_add_up(edges, hosts):
    spans = [
        count(READ, PLAN, VIEWS, start, stop, cuts=CUTS, rows=rows)
        for start, stop in zip(edges, edges[1:], strict=False)
        for rows in HOSTS[hosts]
    ]
    whole = realised_ledger([count(READ, PLAN, VIEWS, cuts=CUTS)], PLAN, VIEWS)
    assert realised_ledger(spans[::-1], PLAN, VIEWS) == whole
    assert check_spans(spans, PLAN, VIEWS) == []


def test_the_rows_of_a_host_are_kept_as_blocks():
    span = count(READ, PLAN, VIEWS, rows=np.array([0, 3, 4, 7]))
    assert span.batch_rows == ((0, 1), (3, 5), (7, 8))
    assert span.rows_of_batch().tolist() == [0, 3, 4, 7]
    assert count(READ, PLAN, VIEWS).batch_rows == ((0, 8),)
    for rows in (np.array([3, 0]), np.array([2, 2]), slice(3, 3)):
        with pytest.raises(ValueError, match="rows of a batch must ascend to be counted"):
            count(READ, PLAN, VIEWS, rows=rows)


def test_an_edge_counted_for_other_runs_gives_totals_only():
    """Without a cut where this run's stage 2 begins, its stages cannot be told apart."""
    planned = plan_ledger(PLAN, VIEWS)
    realised = realised_ledger([count(READ, PLAN, VIEWS, cuts=(64,))], PLAN, VIEWS)
    assert realised.stages == () and realised.realised is None
    assert compare(planned, realised) == []
    both = realised_ledger([count(READ, PLAN, VIEWS, cuts=(64, *CUTS))], PLAN, VIEWS)
    assert both == realised_ledger([count(READ, PLAN, VIEWS, cuts=CUTS)], PLAN, VIEWS)


def test_a_counter_refuses_gaps():
    counter = RealisedCounter(
        source_names=PLAN.source_names,
        views=VIEWS,
        batch_size=BATCH,
        start_step=5,
        first_sequence=5 * BATCH,
    )
    with pytest.raises(ValueError, match="step 6 was counted where step 5 comes next"):
        counter.add(6, source=READ[6, :, 0], row=READ[6, :, 1], tokens=UNREAD)
    with pytest.raises(ValueError, match="a batch has 8 rows"):
        counter.add(5, source=READ[5, :4, 0], row=READ[5, :4, 1], tokens=UNREAD)


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [(0, 23)],
        [(1, 24)],
        [(0, 12), (13, 24)],
        [(0, 13), (12, 24)],
        [(0, 24), (0, 24)],
        [(0, 24), (0, 12)],
    ],
)
def test_a_ledger_refuses_spans_that_do_not_cover_the_run_once(spans):
    counted = [count(READ, PLAN, VIEWS, *span) for span in spans]
    with pytest.raises(ValueError, match="not each of the 24 steps"):
        realised_ledger(counted, PLAN, VIEWS)


def test_a_ledger_refuses_a_missing_host_and_strange_counts():
    for hosts in (HOSTS["two"][1:], HOSTS["uneven"][:2], [*HOSTS["strided"], slice(7, 8)]):
        counted = [count(READ, PLAN, VIEWS, rows=rows) for rows in hosts]
        with pytest.raises(ValueError, match="not each of the 24 steps"):
            realised_ledger(counted, PLAN, VIEWS)
    span = count(READ, PLAN, VIEWS)
    with pytest.raises(ValueError, match="batch of 16, planned with 8"):
        realised_ledger([dataclasses.replace(span, batch_size=16)], PLAN, VIEWS)
    named = [dataclasses.replace(item, source="code") for item in span.counts]
    with pytest.raises(ValueError, match="counted rows of code"):
        realised_ledger([dataclasses.replace(span, counts=tuple(named))], PLAN, VIEWS)


def test_every_wrong_row_is_found():
    """One row exchanged, in any place, changes the digest; the counts see it in a budget."""
    for step, place in ((0, 0), (7, 3), (23, 7)):
        read = READ.copy()
        read[step, place, 1] += 1
        (difference,) = check_spans([count(read, PLAN, VIEWS)], PLAN, VIEWS)
        assert "steps 0 to 23, rows 0 to 7 of each batch: the rows consumed" in difference
    other_source = READ.copy()
    other_source[9, 2, 0] = 1 - other_source[9, 2, 0]
    assert check_spans([count(other_source, PLAN, VIEWS)], PLAN, VIEWS)
    swapped = READ.copy()
    swapped[3, [0, 1]] = swapped[3, [1, 0]]
    assert check_spans([count(swapped, PLAN, VIEWS)], PLAN, VIEWS)
    part = count(swapped, PLAN, VIEWS, 4)
    assert check_spans([part], PLAN, VIEWS) == []
    other = dataclasses.replace(VIEWS["generic"], seed=4)
    assert check_spans([part], PLAN, {**VIEWS, "generic": other})


def test_every_host_is_checked():
    """A row exchanged in what one of several hosts read is found there, and only there."""
    read = READ.copy()
    read[7, 4, 1] += 1
    spans = [
        count(read, PLAN, VIEWS, start, stop, rows=rows)
        for start, stop in ((0, 5), (5, 24))
        for rows in HOSTS["uneven"]
    ]
    (difference,) = check_spans(spans, PLAN, VIEWS)
    assert difference.startswith("steps 5 to 23, rows 0 to 0, 3 to 4, 7 to 7 of each batch")


def test_rows_are_computed_once_however_many_hosts_and_saves(monkeypatch):
    """16 hosts with 4 saves cost what one span does, but for its digests."""
    computed = []

    def counted(view, numbers):
        computed.append(len(numbers))
        return view_rows(view, numbers)

    monkeypatch.setattr("replay_jax.data.ledger.compared.view_rows", counted)
    quarter, half = STEPS // 4, BATCH // 2
    hosts = (slice(0, half), slice(half, None))
    spans = [
        count(READ, PLAN, VIEWS, start, start + quarter, rows)
        for start in range(0, STEPS, quarter)
        for rows in hosts
    ]
    assert len(spans) == 8 and check_spans(spans, PLAN, VIEWS) == []
    assert sum(computed) == STEPS * BATCH


def test_planned_rows_are_those_read():
    draws = step_draws(PLAN)
    for start, stop in ((0, 24), (5, 6), (20, 24), (24, 24)):
        source, row = planned_rows(draws, PLAN.source_names, VIEWS, start=start, stop=stop)
        np.testing.assert_array_equal(source, READ[start:stop, :, 0])
        np.testing.assert_array_equal(row, READ[start:stop, :, 1])


def test_the_digest_is_of_data_and_not_of_numbers():
    """Runs may number their sources differently; the same rows have the same digest."""
    read = READ.copy()
    read[:, :, 0] = 1 - read[:, :, 0]
    counter = RealisedCounter(
        source_names=("target", "generic"),
        views=VIEWS,
        batch_size=BATCH,
        start_step=0,
        first_sequence=0,
    )
    for step in range(STEPS):
        counter.add(step, source=read[step, :, 0], row=read[step, :, 1], tokens=UNREAD)
    assert counter.span().digest == count(READ, PLAN, VIEWS).digest
    assert check_spans([counter.span()], PLAN, VIEWS) == []


def test_compare_says_what_differs():
    planned = plan_ledger(PLAN, VIEWS)
    read = READ.copy()
    place = np.argwhere(read[20, :, 0] == 1)[0, 0]
    read[20, place] = (0, 399)
    realised = realised_ledger([count(read, PLAN, VIEWS, cuts=CUTS)], PLAN, VIEWS)
    differences = compare(planned, realised)
    assert "whole run, target: planned sequences 30, realised 29" in differences
    assert "whole run, generic: planned tokens 2592, realised 2608" in differences
    stage = "stage 1" if 20 * BATCH + place < 162 else "stage 2"
    assert any(line.startswith(f"{stage}, target: planned sequences") for line in differences)
    other = dataclasses.replace(planned, totals=planned.totals[:1], total_steps=25)
    assert compare(planned, other) == [
        "total steps: planned 24, realised 25",
        "whole run, target: planned but not realised",
    ]
    assert compare(other, planned)[1:] == ["whole run, target: realised but not planned"]
    fewer = dataclasses.replace(planned, stages=planned.stages[:1])
    assert compare(fewer, planned) == ["stage 2 was realised but not planned"]


def test_json_round_trip():
    for ledger in (
        plan_ledger(PLAN, VIEWS),
        plan_ledger(PLAN, views(pool=None)),
        realised_ledger([count(READ, PLAN, VIEWS)], PLAN, VIEWS),
    ):
        assert Ledger.from_json(json.loads(json.dumps(ledger.to_json()))) == ledger
    span = count(READ, PLAN, VIEWS, cuts=CUTS)
    assert Span.from_json(json.loads(json.dumps(span.to_json()))) == span
    with pytest.raises(ValueError, match="not a ledger: 'realised'"):
        Ledger.from_json({"batch_size": 8})
    with pytest.raises(ValueError, match="not a span"):
        Span.from_json({"counts": [{"rows": None}]})


def test_the_table_names_every_number():
    lines = plan_ledger(PLAN, VIEWS).render().splitlines()
    assert lines[0].split("  ")[0] == "stage" and set(lines[1]) == {"-"}
    cells = [[cell for cell in line.split("  ") if cell] for line in lines[2:8]]
    assert [row[:2] for row in cells] == [
        ["stage 1", "generic"],
        ["stage 1", "target"],
        ["stage 2", "generic"],
        ["stage 2", "target"],
        ["whole run", "generic"],
        ["whole run", "target"],
    ]
    assert [cell.strip() for cell in cells[4]][2:7] == ["162", "2,592", "162", "0", "0.405"]
    assert all(len(row) == 9 for row in cells)
    asked = {line[:26].strip(): line[26:].split() for line in lines[9:]}
    assert asked["replay fraction"] == ["0.4", "0.4"]
    assert asked["stage-2 share of the run"] == ["-", "0.15625"]
    assert asked["target epochs"] == ["5", "5"]
    apart = realised_ledger([count(READ, PLAN, VIEWS)], PLAN, VIEWS).render()
    assert "not counted apart" in apart and "stage 1" not in apart


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from((2, 4, 8))), min_size=2, max_size=4),
    st.integers(0, 2**16),
)
def test_stages_of_several_batch_sizes_are_counted_as_planned(blocks, chance):
    """In spans of one size each, by two hosts, and cut anywhere."""
    rates = [WSD, *[None] * (len(blocks) - 1)]
    mix = (("generic", 0.5, 0.5), ("target", 0.5, 0.5))
    configs = [
        StageConfig(count * size / 8, mix, rate, "continue")
        for (count, size), rate in zip(blocks, rates, strict=True)
    ]
    sizes = tuple(size for _, size in blocks)
    plan = from_stages(tuple(configs), batch_size=8, batch_sizes=sizes, target_sequences=BUDGET)
    read = sequences(plan, VIEWS)
    ends = {*np.random.default_rng(chance).integers(0, plan.total_steps, 2).tolist()}
    ends = sorted({0, plan.total_steps, *ends, *plan.steps.changes})
    spans = []
    for start, stop in itertools.pairwise(ends):
        size = plan.steps.size(start)
        for rows in (slice(0, 1), slice(1, None)):
            counter = RealisedCounter(
                source_names=plan.source_names, views=VIEWS, batch_size=size, start_step=start,
                first_sequence=plan.steps.first_sequence(start), cuts=plan.stage_starts, rows=rows,
            )  # fmt: skip
            for step in range(start, stop):
                first = plan.steps.first_sequence(step)
                part = read[first : first + size][rows]
                counter.add(step, source=part[:, 0].astype(np.int32), row=part[:, 1], tokens=UNREAD)
            spans.append(counter.span())
    assert check_spans(spans, plan, VIEWS) == []
    planned, counted = plan_ledger(plan, VIEWS), realised_ledger(spans, plan, VIEWS)
    assert compare(planned, counted) == [] and len(counted.stages) == len(blocks)
    assert counted.realised == planned.realised
    assert [stage.batch_size or 8 for stage in counted.stages] == list(sizes)
    assert Ledger.from_json(json.loads(json.dumps(planned.to_json()))) == planned
    assert all(("batches of" in stage.words) == (stage.batch_size is not None)
               for stage in planned.stages)  # fmt: skip


def test_steps_of_two_sizes_are_not_one_span():
    """Two steps of 8, four of 4, and two of 8 again."""
    rates = (WSD, None, None)
    configs = tuple(StageConfig(2, (("generic", 1, 1),), rate, "continue") for rate in rates)
    plan = from_stages(configs, batch_size=8, batch_sizes=(8, 4, 8))
    for stop, said in ((6, "batch of 8, planned with 4"), (8, "steps 0 to 7 were counted togeth")):
        with pytest.raises(ValueError, match=said):
            check_spans([Span(0, stop, 8, ((0, 8),), "", None, ())], plan, VIEWS)
