"""Configuration values are taken as they are or refused by name."""

import dataclasses

import pytest

from replay_jax.errors import UserError
from replay_jax.strict import from_plain, to_plain


@dataclasses.dataclass(frozen=True)
class Leaf:
    rate: float
    name: str | None

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate must not be negative, not {self.rate}")


@dataclasses.dataclass(frozen=True)
class Tree:
    steps: int
    leaf: Leaf
    named: tuple[tuple[str, Leaf], ...]
    sizes: tuple[int, ...]


PLAIN = {
    "steps": 3,
    "leaf": {"rate": 1, "name": None},
    "named": {"a": {"rate": 0.5, "name": "x"}, "b": {"rate": 0.25, "name": None}},
    "sizes": [1, 2],
}


def test_builds_nested_frozen_values_and_back():
    tree = from_plain(Tree, PLAIN, path="config")
    assert tree.leaf == Leaf(1.0, None)
    assert isinstance(tree.leaf.rate, float)
    assert tree.named == (("a", Leaf(0.5, "x")), ("b", Leaf(0.25, None)))
    assert tree.sizes == (1, 2)
    assert from_plain(Tree, to_plain(tree), path="config") == tree


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stepz": 1}, "unknown key 'config.stepz': did you mean 'steps'?"),
        ({"steps": 1.5}, "config.steps must be int, not 1.5 (float)"),
        ({"steps": True}, "config.steps must be int, not True (bool)"),
        ({"leaf": {"rate": "1", "name": None}}, "config.leaf.rate must be float, not '1' (str)"),
        ({"leaf": {"rate": -1, "name": None}}, "config.leaf: rate must not be negative, not -1.0"),
        ({"leaf": {"rate": 1}}, "missing key 'config.leaf.name'"),
        ({"leaf": 3}, "config.leaf must be Leaf, not 3 (int)"),
        ({"sizes": "12"}, "config.sizes must be tuple, not '12' (str)"),
    ],
)
def test_refuses_with_the_key_and_the_value(change, words):
    with pytest.raises(UserError) as error:
        from_plain(Tree, {**PLAIN, **change}, path="config")
    assert words in str(error.value)
