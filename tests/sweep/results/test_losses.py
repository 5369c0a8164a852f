"""What a record says of a held-out loss: nats per token and bits per byte that agree."""

import math

import pytest

from replay_jax.sweep.results.losses import _bits_per_byte, _loss


def test_units_agree():
    fact = {"nats": math.log(2) * 12, "tokens": 6, "bytes": 24}
    assert _loss(fact) == pytest.approx(2 * math.log(2))
    assert _bits_per_byte(fact) == pytest.approx(0.5)
    assert _bits_per_byte({**fact, "bytes": 0}) is None
