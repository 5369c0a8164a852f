"""Digest chains: equal exactly as long as two runs see the same, and never longer."""

import numpy as np
import pytest

from replay_jax.schedule.mixture import StepDraws
from replay_jax.schedule.steps import steps_of
from replay_jax.sweep.plan.digest import (
    canonical_digest,
    course_of,
    key_order,
    source_key,
    state_chain,
)

BATCH = 4
STEPS = 6
GENERIC = source_key(name="s", view_digest=b"generic", loss_weight=1.0)
TARGET = source_key(name="s", view_digest=b"target", loss_weight=1.0)


def draws_of(positions, sources: int) -> StepDraws:
    pattern = np.asarray(positions, np.uint8).reshape(-1, BATCH)
    count = np.stack([(pattern == source).sum(axis=1) for source in range(sources)], axis=1)
    return StepDraws(
        first=np.cumsum(count, axis=0) - count,
        count=count,
        positions=pattern.reshape(-1),
        steps=steps_of([(pattern.size, BATCH)]),
    )


def chain(
    positions,
    keys=(GENERIC, TARGET),
    *,
    rates=None,
    resets=None,
    initial=b"i",
    constant=b"c",
    known=None,
    average_start=STEPS,
):
    steps = len(positions) // BATCH
    course = course_of(
        draws_of(positions, len(keys)),
        order=key_order(keys),
        learning_rates=np.full(steps, 0.1, np.float32) if rates is None else rates,
        resets=np.zeros(steps, bool) if resets is None else resets,
        average_start=average_start,
    )
    return state_chain(
        initial=initial,
        constant=constant,
        course=course,
        keys=keys,
        known={} if known is None else known,
    )


def shared(a, b) -> int:
    """Number of leading states that agree; asserts that agreement is a prefix."""
    equal = (a == b).all(axis=1)
    count = int(equal.sum())
    assert equal[:count].all()
    return count


GENERIC_ONLY = np.zeros(STEPS * BATCH, np.uint8)


def with_target_at(*places):
    positions = GENERIC_ONLY.copy()
    positions[list(places)] = 1
    return positions


def test_equal_runs_have_equal_chains_and_all_states_differ() -> None:
    a = chain(with_target_at(5, 9))
    assert a.shape == (STEPS + 1, 16) and a.dtype == np.uint8
    assert np.array_equal(a, chain(with_target_at(5, 9)))
    assert len({row.tobytes() for row in a}) == STEPS + 1


@pytest.mark.parametrize("start", range(STEPS))
def test_an_average_separates_from_its_first_update_on(start) -> None:
    averaged = chain(GENERIC_ONLY, average_start=start)
    assert shared(chain(GENERIC_ONLY), averaged) == start + 1
    assert start == STEPS - 1 or shared(chain(GENERIC_ONLY, average_start=start + 1), averaged) == (
        start + 1
    )


@pytest.mark.parametrize("place", range(STEPS * BATCH))
def test_one_different_row_separates_from_its_step_on(place) -> None:
    assert shared(chain(GENERIC_ONLY), chain(with_target_at(place))) == place // BATCH + 1


def test_order_within_a_batch_counts_but_only_from_that_step() -> None:
    assert shared(chain(with_target_at(8)), chain(with_target_at(9))) == 3
    # One row early in the batch or late: the counts agree, the states do not come together again.
    assert shared(chain(with_target_at(8, 13)), chain(with_target_at(9, 12))) == 3


def test_names_order_and_presence_of_unused_sources_do_not_count() -> None:
    alone = chain(GENERIC_ONLY, (GENERIC,))
    assert np.array_equal(alone, chain(GENERIC_ONLY))
    assert np.array_equal(alone, chain(GENERIC_ONLY + 1, (TARGET, GENERIC)))
    mixed = with_target_at(9, 14)
    assert np.array_equal(chain(mixed), chain(1 - mixed, (TARGET, GENERIC)))
    # Three targets with one generic beginning: the planner shares what no target has entered.
    other = source_key(name="s", view_digest=b"other target", loss_weight=1.0)
    assert shared(chain(mixed), chain(mixed, (GENERIC, other))) == 3


def test_a_later_first_draw_is_another_batch() -> None:
    # Step 2 draws one target row in both, but as first or as second draw of the source.
    assert shared(chain(with_target_at(0, 8)), chain(with_target_at(1, 8))) == 1
    a, b = chain(with_target_at(8)), chain(with_target_at(0, 8))
    assert shared(a, b) == 1


@pytest.mark.parametrize("step", range(STEPS))
def test_learning_rate_and_reset_separate_from_their_step_on(step) -> None:
    rates = np.full(STEPS, 0.1, np.float32)
    rates[step] = np.nextafter(np.float32(0.1), np.float32(1))
    assert shared(chain(GENERIC_ONLY), chain(GENERIC_ONLY, rates=rates)) == step + 1
    resets = np.zeros(STEPS, bool)
    resets[step] = True
    assert shared(chain(GENERIC_ONLY), chain(GENERIC_ONLY, resets=resets)) == step + 1


def test_start_and_constants() -> None:
    assert shared(chain(GENERIC_ONLY), chain(GENERIC_ONLY, initial=b"other seed")) == 0
    assert shared(chain(GENERIC_ONLY), chain(GENERIC_ONLY, constant=b"other decay")) == 1


def test_loss_weight_counts_only_where_the_source_has_rows() -> None:
    heavy = source_key(name="s", view_digest=b"target", loss_weight=2.0)
    positions = with_target_at(13)
    assert shared(chain(positions), chain(positions, (GENERIC, heavy))) == 4
    assert np.array_equal(chain(GENERIC_ONLY), chain(GENERIC_ONLY, (GENERIC, heavy)))


def test_a_longer_run_begins_with_the_shorter() -> None:
    long, short = chain(GENERIC_ONLY), chain(GENERIC_ONLY[: 4 * BATCH])
    assert np.array_equal(long[:5], short)


def test_a_chain_does_not_depend_on_what_was_computed_before() -> None:
    """Runs longer than a block, that part within one, at its end, or are otherwise seeded."""
    rows = np.zeros(100 * BATCH, np.uint8)
    runs = [rows]
    for step in (31, 32, 33, 70, 99):
        runs.append(rows.copy())
        runs[-1][step * BATCH :] = 1
    known: dict[bytes, bytes] = {}
    for initial in (b"i", b"j"):
        for run in (*runs, rows[: 40 * BATCH], rows[: 64 * BATCH]):
            alone = chain(run, initial=initial)
            assert np.array_equal(alone, chain(run, initial=initial, known=known))
    blocks = len(known)
    chain(runs[3], initial=b"j", known=known)
    assert len(known) == blocks, "what is known is computed again"


def test_canonical_digest_ignores_order_of_keys_and_nothing_else() -> None:
    assert canonical_digest({"a": 1, "b": [1.5, None]}) == canonical_digest(
        {"b": [1.5, None], "a": 1}
    )
    assert canonical_digest({"a": 1}) != canonical_digest({"a": 2})
    with pytest.raises(ValueError):
        canonical_digest({"a": float("nan")})
