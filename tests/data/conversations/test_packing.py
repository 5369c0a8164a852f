"""Rows of whole documents."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay_jax.data.conversations.packing import pack
from replay_jax.errors import UserError


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(8, 14))
def test_every_document_is_whole_in_one_row(lengths, seq_len):
    ends = np.cumsum(lengths)
    packing = pack(ends, seq_len)
    rows = np.arange(len(packing))
    tokens = np.arange(1, ends[-1] + 1)
    found = packing.gather(rows, lambda start, stop: tokens[start:stop], 0)
    assert found.shape == (len(rows), seq_len + 1)
    assert np.array_equal(found[found > 0], tokens)
    assert np.array_equal(found > 0, packing.is_text(rows))
    document = np.searchsorted(ends, found - 1, side="right")
    segments = packing.segments(rows)
    for row in rows:
        own = np.where(found[row] > 0, document[row] + 1, 0)[:seq_len]
        text = own > 0
        # From 1, one more with each document, and padding by itself at the end.
        assert np.array_equal(segments[row][text], own[text] - own[0] + 1)
        last = segments[row][text][-1]
        assert set(segments[row][~text]) <= {last + 1}
        following = packing.first[row + 1]
        if following < len(lengths):  # there was no room for the next
            assert (found[row] > 0).sum() + lengths[following] > seq_len + 1


def test_a_document_that_is_longer_than_a_row():
    assert len(pack(np.array([5, 9]), 4)) == 2
    with pytest.raises(UserError, match=r"a document of 5 tokens is longer than a row of 3 \+ 1"):
        pack(np.array([4, 9]), 3)
