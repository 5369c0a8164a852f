"""Views: budgets, orders and epochs, and what decides them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay_jax.data.reading.views import SourceView, view_places, view_rows
from replay_jax.errors import UserError

BIG = 65_537  # more rows than a table holds; once a size at which one row was never drawn


def view(pool=1000, budget=None, seed=0, repeat=True):
    return SourceView("math", "f1", 16, pool, budget, seed, repeat)


def epochs(which, number):
    rows = view_rows(which, np.arange(number * which.rows))
    return rows.reshape(number, which.rows)


@settings(deadline=None, max_examples=60)
@given(pool=st.integers(1, 200), budget=st.integers(1, 200), seed=st.integers(0, 2**40))
def test_every_row_once_per_epoch_and_none_outside_the_budget(pool, budget, seed):
    which = view(pool, min(pool, budget), seed)
    first, *others = epochs(which, 4)
    assert len(set(first.tolist())) == which.rows
    assert 0 <= first.min() and first.max() < pool
    for other in others:
        assert set(other.tolist()) == set(first.tolist())


@pytest.mark.parametrize(("pool", "budget"), [(1000, None), (BIG, None), (BIG, 500), (500, 500)])
def test_every_epoch_has_its_own_order(pool, budget):
    which = view(pool, budget)
    draws = np.arange(3)[:, None] * which.rows + np.arange(400)
    orders = view_rows(which, draws.ravel()).reshape(3, 400)
    for left, right in ((0, 1), (0, 2), (1, 2)):
        # A pair of independent orders of 500 rows or more meets in about one place.
        assert np.count_nonzero(orders[left] == orders[right]) < 12


def test_a_whole_epoch_of_a_big_source():
    rows = view_rows(view(BIG), np.arange(BIG, 2 * BIG))
    assert len(np.unique(rows)) == BIG and rows.min() == 0 and rows.max() == BIG - 1


@pytest.mark.parametrize("pool", [1000, BIG])
def test_budgets_are_nested(pool):
    sets = [set(epochs(view(pool, budget), 1)[0].tolist()) for budget in (1, 7, 64, 65, 900)]
    for small, large in zip(sets, sets[1:], strict=False):
        assert small < large
    assert set(epochs(view(pool, 64, seed=5), 1)[0].tolist()) != sets[2]


def test_seeds_and_sources_have_unrelated_orders():
    """No epoch of one seed is an epoch of another, as adding the epoch to the seed would give."""
    orders = {}
    for changes in ({}, {"seed": 1}, {"seed": 2}, {"fingerprint": "f2"}, {"seq_len": 32}):
        which = dataclasses.replace(view(400), **changes)
        for epoch, rows in enumerate(epochs(which, 4)):
            orders[(*changes.items(), epoch)] = rows
    for left, one in orders.items():
        for right, other in orders.items():
            if left != right:
                assert np.count_nonzero(one == other) < 12


def test_a_view_does_not_depend_on_how_it_is_read():
    which = view(300, 100)
    all_rows = view_rows(which, np.arange(450))
    picked = np.array([449, 0, 3, 100, 99, 250, 3])
    np.testing.assert_array_equal(view_rows(which, picked), all_rows[picked])
    np.testing.assert_array_equal(view_rows(which, picked.tolist()), all_rows[picked])
    assert view_rows(which, []).shape == (0,)


def test_places_are_known_before_the_data_is():
    unprepared = view(None, 100)
    places = view_places(unprepared, np.arange(200))
    assert sorted(places[:100].tolist()) == list(range(100))
    prepared = view(5000, 100)
    np.testing.assert_array_equal(view_places(prepared, np.arange(200)), places)
    budget = view_rows(prepared, np.argsort(places[:100]))
    np.testing.assert_array_equal(view_rows(prepared, np.arange(200)), budget[places])


def test_the_order_is_pinned():
    """A change here changes every experiment: raise "order" in SourceView.digest with it."""
    assert view_rows(view(1000), range(4)).tolist() == PINNED["all"]
    assert view_rows(view(1000, 10), range(10, 14)).tolist() == PINNED["budget"]
    assert view_rows(view(BIG), range(4)).tolist() == PINNED["big"]
    assert view(1000, 10).digest().hex() == PINNED["digest"]


PINNED = {
    "all": [148, 772, 437, 641],
    "budget": [922, 37, 788, 773],
    "big": [49984, 42021, 39266, 26133],
    "digest": "33025f0945ee9770c0980594594a5c62",
}


def test_digest_names_what_decides_the_rows():
    base = view(1000, 100)
    same = [
        dataclasses.replace(base, source="other"),
        dataclasses.replace(base, repeat=False),
    ]
    assert {which.digest() for which in same} == {base.digest()}
    different = [
        dataclasses.replace(base, fingerprint="f2"),
        dataclasses.replace(base, seq_len=32),
        dataclasses.replace(base, pool_rows=1001),
        dataclasses.replace(base, pool_rows=None),
        dataclasses.replace(base, budget_rows=101),
        dataclasses.replace(base, budget_rows=None),
        dataclasses.replace(base, seed=1),
    ]
    digests = {which.digest() for which in different} | {base.digest()}
    assert len(digests) == 8 and all(len(digest) == 16 for digest in digests)


def test_a_source_that_runs_out_is_an_error_unless_it_may_repeat():
    once = view(100, repeat=False)
    once.check_draws(100)
    assert sorted(view_rows(once, range(100)).tolist()) == list(range(100))
    for run_out in (lambda: once.check_draws(101), lambda: view_rows(once, [100])):
        with pytest.raises(UserError, match="draws 101 rows of 'math', which has 100"):
            run_out()
    with pytest.raises(UserError, match="draws 11 rows of 'math', which has 10"):
        view(None, 10, repeat=False).check_draws(11)
    view(None, repeat=False).check_draws(10**9)  # nothing is known yet
    view(100).check_draws(10**9)


def test_unprepared_views_have_no_rows():
    with pytest.raises(ValueError, match="'math' is not prepared"):
        view_rows(view(None, 10), [0])
    with pytest.raises(ValueError, match="number of rows is unknown"):
        view_places(view(None), np.arange(2))
    assert view(None).rows is None and view(None, 10).rows == 10 and view(20).rows == 20


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pool": 0}, "'math' has 0 training rows of 17 tokens"),
        ({"budget": 0}, "budget of 0 rows of 'math' is empty"),
        ({"budget": 1001}, "1001 rows exceeds the 1000 training rows"),
        ({"seq_len": 0}, "seq_len 0"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(UserError, match=message):
        if "seq_len" in values:
            dataclasses.replace(view(), **values)
        else:
            view(**values)


def test_draws_start_at_0():
    with pytest.raises(ValueError, match="draws start at 0, got -1"):
        view_rows(view(100), [3, -1])
