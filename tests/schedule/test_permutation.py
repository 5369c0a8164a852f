"""Permutations: every row once at every size, counts as of random samples, the same for ever."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from replay_jax.schedule.permutation import permuted

SAMPLE = 1024  # rows of a budget, and of a batch
# FineMath's 8.3 million rows and 2^24 less a few are hard for a cipher that mixes too little.
SIZES = (2**18, 2**22, 8_300_000, 16_700_000, 2**24, 10**9)


def assert_bijection(size):
    rows = permuted(np.arange(size), size, b"key")
    assert rows.dtype == np.int64
    assert np.all(np.bincount(rows, minlength=size) == 1) and len(rows) == size


def test_every_row_once_at_every_small_size():
    for size in range(1, 5001):
        assert_bijection(size)


@pytest.mark.parametrize("exponent", [13, 16, 17, 18, 20, 22])
def test_every_row_once_around_powers_of_two(exponent):
    """Also at 4^k + 1, where a block that is counted one bit short draws a row twice."""
    for size in (2**exponent - 1, 2**exponent, 2**exponent + 1):
        assert_bijection(size)


def surprise(samples, size, bins):
    """Variance ratio of counts per bin over those of random samples, and its two-sided p-value.

    `samples` are rows without repetition, [samples, rows]. Their counts are hypergeometric, so
    (size - 1) / (size - rows) times Pearson's sum has the mean of a chi-square of bins - 1.
    """
    rows = samples.shape[1]
    edges = -(-np.arange(bins + 1) * size // bins)  # first row of each bin
    counts = np.stack([np.bincount(s * bins // size, minlength=bins) for s in samples])
    expected = rows * np.diff(edges) / size
    chi = np.sum((counts - expected) ** 2 / expected) * (size - 1) / (size - rows)
    freedom = len(samples) * (bins - 1)
    tails = stats.chi2.cdf(chi, freedom), stats.chi2.sf(chi, freedom)
    return chi / freedom, 2 * min(tails)


@pytest.mark.parametrize("bins", [2, 64])
@pytest.mark.parametrize("size", SIZES)
def test_budgets_are_random_samples(size, bins):
    budgets = np.stack([
        permuted(np.arange(SAMPLE), size, b"budget %d" % key) for key in range(300)
    ])  # fmt: skip
    ratio, p = surprise(budgets, size, bins)
    assert p > 1e-6 and abs(ratio - 1) < (0.5 if bins == 2 else 0.1), ratio


@pytest.mark.parametrize("bins", [2, 64])
@pytest.mark.parametrize("size", SIZES)
def test_consecutive_batches_are_random_samples(size, bins):
    starts = np.linspace(0, size, 6, dtype=np.int64)[:-1]  # of 40 batches each
    batches = [permuted(start + np.arange(40 * SAMPLE), size, b"order") for start in starts]
    ratio, p = surprise(np.concatenate(batches).reshape(-1, SAMPLE), size, bins)
    assert p > 1e-6 and abs(ratio - 1) < (0.5 if bins == 2 else 0.1), ratio


@pytest.mark.parametrize("size", [4097, 10_000, *SIZES])
def test_neighbours_are_unrelated(size):
    """The rows of places i and i + 1, 2, 64 and 1024: 16 x 16 bins, all alike."""
    for apart in (1, 2, 64, 1024):
        first = np.arange(0, min(size - apart, 200_000))
        pairs = [permuted(places, size, b"pairs") * 16 // size for places in (first, first + apart)]
        counts = np.bincount(pairs[0] * 16 + pairs[1], minlength=256)
        p = stats.chisquare(counts).pvalue
        assert p > 1e-6, (apart, p)


def test_small_permutations_are_all_alike():
    """Every order of four rows comes up as often as the others."""
    orders = [tuple(permuted(np.arange(4), 4, b"%d" % key).tolist()) for key in range(6000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize("size", [3000, 100_000])
def test_keys_give_unrelated_orders(size):
    places = np.arange(size)
    orders = [permuted(places, size, key) for key in (b"", b"a", b"b", b"ab", bytes(16))]
    for number, left in enumerate(orders):
        for right in orders[:number]:
            # Two random orders meet in one place on average; p < 1e-6 from eleven on.
            assert np.count_nonzero(left == right) < 11


def test_a_place_does_not_depend_on_what_is_asked_with_it():
    for size in (50, 5000, 2**20 + 1):
        rows = permuted(np.arange(size), size, b"key")
        chosen = np.array([[size - 1, 0, 17], [17, 3, size // 2]])
        np.testing.assert_array_equal(permuted(chosen, size, b"key"), rows[chosen])
        np.testing.assert_array_equal(permuted(chosen[:, ::2], size, b"key"), rows[chosen[:, ::2]])
        assert permuted(np.array([], np.int64), size, b"key").shape == (0,)
        assert permuted(np.int32(17), size, b"key") == rows[17]


def test_the_values_are_pinned():
    """A change here changes every experiment: raise "order" in SourceView.digest with it."""
    assert permuted(np.arange(5), 10, b"key").tolist() == PINNED[10]
    assert permuted(np.arange(5), 100_000, b"key").tolist() == PINNED[100_000]
    assert permuted(np.arange(5), 10**15, b"key").tolist() == PINNED[10**15]
    for size, digest in (4096, PINNED["table"]), (2**18 + 1, PINNED["network"]):
        rows = permuted(np.arange(size), size, b"key").astype("<i8")
        assert hashlib.sha256(rows.tobytes()).hexdigest()[:16] == digest


PINNED: dict = {
    10: [8, 0, 1, 4, 9],
    100_000: [73481, 52397, 39328, 46499, 38705],
    10**15: [159259375119347, 744771044617166, 237951416302863, 405397988163117, 97512840123174],
    "table": "edbfb8ef3fbd9772",
    "network": "fc17c300f8990797",
}


@pytest.mark.parametrize(
    ("places", "size", "message"),
    [
        ([0, 10], 10, "places 0 to 10 are not all of a permutation of 10 rows"),
        ([-1, 3], 10, "places -1 to 3 are not all"),
        ([0], 0, "1 to 2\\^62 - 1 rows, not 0"),
        ([0], 2**62, "not 4611686018427387904"),
    ],
)
def test_refuses(places, size, message):
    with pytest.raises(ValueError, match=message):
        permuted(np.array(places), size, b"key")


def test_the_largest_sizes_keep_places_apart():
    """Halves of 31 bits: no product may overflow."""
    places = np.concatenate([np.arange(50_000), 2**62 - 2 - np.arange(50_000)])
    rows = permuted(places, 2**62 - 1, b"key")
    assert len(np.unique(rows)) == len(places) and rows.min() >= 0 and rows.max() < 2**62 - 1
