"""Held-out loss: sums of tokens, padding without effect, nats and bits that agree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import LENGTH, MODEL, SHAPE, batch, begun, mesh_of

from replay_jax.errors import UserError
from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.training.config import EvaluationConfig
from replay_jax.training.evaluate import (
    compile_evaluation,
    compile_gradient_cosine,
    evaluate,
    evaluation_shape,
    place_held_out,
)
from replay_jax.training.gradient import batch_gradient
from replay_jax.training.step import abstract_batch, abstract_state, place_batch, placement

EIGHT_ROWS = dataclasses.replace(SHAPE, batch_size=8, sources=1)


@pytest.fixture(scope="module")
def trained():
    """Mesh, parameters and evaluation of eight rows at a time, on two devices."""
    mesh = mesh_of(2, 1, 1)
    return mesh, begun(mesh).params, compile_evaluation(EIGHT_ROWS, mesh)


def held_out_batches(rows, of=8):
    """`rows` fixed rows in batches of `of`, the last one padded as the pipeline pads it."""
    whole = batch(9, rows=rows)
    for start in range(0, rows, of):
        real = min(of, rows - start)
        part = {name: array[start : start + real] for name, array in whole.items()}
        padded = {
            name: np.concatenate([array, np.repeat(array[:1], of - real, axis=0)])
            for name, array in part.items()
        }
        padded["loss_weights"][real:] = 0.0
        counted = np.arange(of) < real
        yield {**padded, "label_bytes": np.where(counted, 3 * LENGTH, 0).astype(np.int64)}


def test_sums_are_those_of_the_softmax(trained):
    mesh, params, program = trained
    result = evaluate(program, params, place_held_out(held_out_batches(13), mesh))
    whole = batch(9, rows=13)

    @jax.jit
    def log_probabilities(params, inputs):
        hidden = build_transformer(MODEL, platform="cpu").apply({"params": params}, inputs)
        return jax.nn.log_softmax(hidden @ head_kernel(params))

    one = jax.device_put(params, jax.devices()[0])
    table = np.asarray(log_probabilities(one, whole["inputs"]), np.float64)
    picked = np.take_along_axis(table, whole["labels"][..., None], axis=-1)
    np.testing.assert_allclose(result.nats, -picked.sum(), rtol=1e-6)
    assert (result.tokens, result.label_bytes) == (13 * LENGTH, 3 * 13 * LENGTH)


def test_the_order_of_batches_and_the_padding_do_not_matter(trained):
    mesh, params, program = trained
    batches = list(held_out_batches(13))
    results = [
        evaluate(program, params, place_held_out(order, mesh)) for order in (batches, batches[::-1])
    ]
    padding = batches[1]["loss_weights"][:, 0] == 0
    assert padding.sum() == 3
    batches[1]["inputs"][padding] = 5
    batches[1]["labels"][padding] = 6
    results.append(evaluate(program, params, place_held_out(batches, mesh)))
    assert results[0].nats == pytest.approx(results[1].nats, rel=1e-12)
    assert results[0].nats == results[2].nats


def test_microbatches_change_nothing_but_the_memory(trained):
    """Eight rows, two at once as in training; and batches that have no such cut."""
    mesh, params, program = trained
    training = dataclasses.replace(SHAPE, batch_size=8, accumulation=4)
    shape = evaluation_shape(training, mesh, batch_size=8)
    assert (shape.batch_size, shape.accumulation, shape.sources) == (8, 4, 1)
    assert evaluation_shape(training, mesh, batch_size=6).accumulation == 3
    assert evaluation_shape(training, mesh, batch_size=7).accumulation == 1  # refused by its name
    placed = place_batch(batch(9, rows=8), mesh)
    at_once, in_parts = program(params, placed), compile_evaluation(shape, mesh)(params, placed)
    for one, other in zip(at_once, in_parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_diverged_parameters_are_an_error(trained):
    mesh, params, program = trained
    broken = {**params, "head": params["head"].at[0, 0].set(jnp.nan)}
    broken = jax.device_put(broken, jax.tree.map(lambda p: p.sharding, params))
    with pytest.raises(FloatingPointError, match="held-out loss is nan"):
        evaluate(program, broken, place_held_out(held_out_batches(8), mesh))


def test_gradient_cosine_of_equal_opposed_and_other_batches(trained):
    mesh, params, _ = trained
    program = compile_gradient_cosine(EIGHT_ROWS, mesh)
    one, other = (place_batch(batch(seed, rows=8), mesh) for seed in (1, 2))
    assert float(program(params, one, one)) == pytest.approx(1.0, abs=1e-6)
    across = float(program(params, one, other))
    assert across == pytest.approx(float(program(params, other, one)), abs=1e-6)
    assert -1.0 < across < 0.9
    # The scale of a batch's weights does not matter.
    doubled = {**other, "loss_weights": other["loss_weights"] * 2}
    assert float(program(params, one, doubled)) == pytest.approx(across, abs=1e-6)


@pytest.mark.parametrize("ways", [1, 2])
def test_a_gradient_cosine_holds_the_activations_of_one_gradient_at_a_time(ways):
    shape, mesh = dataclasses.replace(SHAPE, batch_size=64, sources=1), mesh_of(ways, 1, 1)
    params, rows = abstract_state(shape.model, mesh).params, abstract_batch(shape, mesh)

    def gradient(params, rows):
        return batch_gradient(params, rows, shape=shape, platform="cpu", placement=placement(mesh))[
            0
        ]

    def temporaries(compiled):
        return compiled.memory_analysis().temp_size_in_bytes

    one = temporaries(jax.jit(gradient).lower(params, rows).compile())
    assert temporaries(compile_gradient_cosine(shape, mesh)) < 1.5 * one  # both at once: 2


def test_a_batch_that_does_not_divide_is_named_as_the_evaluation_setting():
    shape = dataclasses.replace(SHAPE, batch_size=9)
    with pytest.raises(UserError, match="nearest evaluation.batch_size that does is 8"):
        compile_evaluation(shape, mesh_of(2, 1, 1))
    with pytest.raises(UserError, match="evaluation.sequences is 0"):
        EvaluationConfig(sequences=0, batch_size=1)


def test_rows_say_what_the_sums_are_made_of(trained):
    mesh, params, program = trained
    result = evaluate(program, params, place_held_out(held_out_batches(13), mesh))
    again = evaluate(program, params, place_held_out(held_out_batches(5), mesh))
    assert result.row_nats.shape == result.row_tokens.shape == (16,)
    assert not result.row_nats[13:].any() and not result.row_tokens[13:].any()
    assert result.row_nats.sum() == result.nats and result.row_tokens.sum() == result.tokens
    np.testing.assert_allclose(result.row_nats[:5], again.row_nats[:5], rtol=1e-6)
