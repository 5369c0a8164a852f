"""Combinators of overrides: sizes, order, and what is refused."""

import pytest

from replay_jax.config.grid import chain, grid, zipped
from replay_jax.errors import UserError


def test_grid_varies_the_last_axis_fastest() -> None:
    runs = grid({"a.b": [0.0, 0.5], "seed": [1, 2, 3]})
    assert len(runs) == 6
    assert runs[0] == {"a.b": 0.0, "seed": 1}
    assert runs[1] == {"a.b": 0.0, "seed": 2}
    assert runs[-1] == {"a.b": 0.5, "seed": 3}


def test_a_list_of_runs_is_one_axis_of_a_grid() -> None:
    pairs = zipped({"x": [1, 2], "y": [10, 20]})
    assert pairs == [{"x": 1, "y": 10}, {"x": 2, "y": 20}]
    runs = grid(pairs, {"seed": [0, 1]})
    assert runs == [
        {"x": 1, "y": 10, "seed": 0},
        {"x": 1, "y": 10, "seed": 1},
        {"x": 2, "y": 20, "seed": 0},
        {"x": 2, "y": 20, "seed": 1},
    ]


def test_chain_keeps_order_and_inputs() -> None:
    first = grid({"seed": [0]})
    second = grid({"seed": [1, 2]})
    assert chain(first, second) == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert first == [{"seed": 0}]


def test_no_overrides_is_one_run() -> None:
    assert chain([{}]) == [{}]
    assert grid([{}], {"seed": [0, 1]}) == [{"seed": 0}, {"seed": 1}]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: grid({"seed": [0, 0]}), "runs 0 and 1"),
        (lambda: chain(grid({"seed": [0]}), grid({"seed": [0]})), "runs 0 and 1"),
        (lambda: zipped({"a": [1, 1], "b": [2, 2]}), "runs 0 and 1"),
        (lambda: zipped({"a": [1, 2], "b": [2]}), r"equally long.*'a': 2.*'b': 1"),
        (lambda: grid({"a": []}), "at least one value"),
        (lambda: grid(), "at least one axis"),
        (lambda: grid({"a": "abc"}), "'a' must be a list"),
        (lambda: grid({"a": 3}), "'a' must be a list"),
        (lambda: grid({"a": [1]}, {"a": [2]}), "'a' is set by two factors"),
    ],
)
def test_meaningless_sweeps_are_refused(build, words) -> None:
    with pytest.raises(UserError, match=words):
        build()
