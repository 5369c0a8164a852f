"""One update: its value, its independence of devices and accumulation, its single program."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import saving
from forked import fork
from saving import save_state
from tiny_training import (
    LENGTH,
    MODEL,
    OPTIMIZER,
    ROWS,
    SHAPE,
    batch,
    begun,
    digest,
    mesh_of,
    one_device,
    run,
)

from replay_jax.compile.hlo.collectives import transfers
from replay_jax.errors import UserError
from replay_jax.model.architecture import parameter_counts
from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.model.loss import token_losses
from replay_jax.training.config import OptimizerConfig
from replay_jax.training.optimizer import hyperparameters
from replay_jax.training.step import (
    compile_reset,
    compile_train_step,
    place_batch,
    place_hyper,
)


@pytest.fixture(scope="module")
def single():
    return one_device()


def one_update(single, host, *, hyper=None, state=None):
    mesh, init, step = single
    hyper = place_hyper(hyper or hyperparameters(OPTIMIZER, 1e-2), mesh)
    return step(init(0) if state is None else state, place_batch(host, mesh), hyper)


@jax.jit
def nats_of(params, inputs, labels):
    """Nats of every label, from the model alone."""
    hidden = build_transformer(MODEL, platform="cpu").apply({"params": params}, inputs)
    return token_losses(hidden, head_kernel(params), labels, chunk=LENGTH)


def test_golden_first_steps(single):
    """A change here is right only if the model, the loss or the update was meant to change.

    Then print the new values with this test's own message, and say why in the commit.
    """
    mesh, init, step = single
    _, seen = run(step, init(0), mesh, (0, 1, 2))
    golden = [(4.17974, 0.753608), (4.168715, 0.769008), (4.184261, 0.745683)]
    np.testing.assert_allclose(seen, golden, rtol=1e-5, err_msg=f"new values: {seen}")


def test_sums_per_source_are_those_of_the_model(single):
    host = batch(3)
    host["loss_weights"][5] = 0.0
    host["loss_weights"][host["source"] == 1] *= 2.0
    _, init, _ = single
    expected = nats_of(init(0).params, host["inputs"], host["labels"]) * host["loss_weights"]
    _, metrics = one_update(single, host)
    for source in (0, 1):
        mine = host["source"] == source
        np.testing.assert_allclose(metrics.nats[source], expected[mine].sum(), rtol=1e-5)
        assert metrics.weights[source] == host["loss_weights"][mine].sum()


def test_an_untrained_model_is_near_the_uniform_loss(single):
    _, metrics = one_update(single, batch(0))
    loss = float(metrics.nats.sum() / metrics.weights.sum())
    assert abs(loss - np.log(MODEL.vocab_size)) < 0.05


def test_labels_without_weight_change_nothing(single):
    host = batch(1)
    host["loss_weights"][:, 2] = 0.0
    other = {**host, "labels": host["labels"].copy()}
    other["labels"][:, 2] = 7
    assert not np.array_equal(host["labels"], other["labels"])
    states = [one_update(single, each)[0] for each in (host, other)]
    assert digest(states[0]) == digest(states[1])


def test_the_scale_of_all_weights_changes_nothing_but_the_sums(single):
    host = batch(1)
    double = {**host, "loss_weights": host["loss_weights"] * 2}
    (one, a), (two, b) = one_update(single, host), one_update(single, double)
    assert digest(one) == digest(two)
    np.testing.assert_array_equal(a.nats * 2, b.nats)


def test_gradient_is_the_slope_of_the_loss(single):
    """Along the gradient, against central differences of the loss of the model alone."""
    host, (_, init, _) = batch(2), single
    # Without momentum and without clipping, the first moment is the gradient.
    plain = hyperparameters(OptimizerConfig(b1=0.0, clip_norm=1e9), 1e-2)
    state, metrics = one_update(single, host, hyper=plain)
    norm = float(metrics.gradient_norm)
    ends = [
        float(
            nats_of(
                jax.tree.map(
                    lambda p, g, t=t: p + t / norm * g, init(0).params, state.opt_state.mu
                ),
                host["inputs"],
                host["labels"],
            ).mean()
        )
        for t in (1e-2, -1e-2)
    ]
    # float32 losses near 4 (4e-7) over a distance of 2e-2, and the third derivative.
    np.testing.assert_allclose((ends[0] - ends[1]) / 2e-2, norm, rtol=1e-3)


def test_eight_devices_train_like_one(single):
    one_mesh, init, step = single
    state, seen = run(step, init(0), one_mesh, range(5))
    mesh = mesh_of(2, 2, 2)
    other, seen_there = run(compile_train_step(SHAPE, mesh), begun(mesh), mesh, range(5))
    np.testing.assert_allclose(seen_there, seen, rtol=1e-5)
    gate = other.params["layer_0"]["gate"]
    assert len(gate.sharding.device_set) == 8
    assert {shard.data.shape for shard in gate.addressable_shards} == {(16, 32)}


def test_gradients_are_summed_over_devices_once_an_update():
    """Counted in the compiled program, loops taken as often as they run: at any accumulation."""
    mesh = mesh_of(8, 1, 1)
    sent, states = {}, {}
    gradient = 4 * parameter_counts(MODEL).total
    for accumulation in (1, 4):
        shape = dataclasses.replace(SHAPE, batch_size=32, accumulation=accumulation)
        program = compile_train_step(shape, mesh)
        sent[accumulation] = transfers(program.as_text(), devices=8).bytes
        host = batch(0, rows=32)
        host["loss_weights"][3] = 0.0
        hyper = place_hyper(hyperparameters(OPTIMIZER, 1e-2), mesh)
        state, _ = program(begun(mesh), place_batch(host, mesh), hyper)
        states[accumulation] = state.opt_state.mu
    # A ring sends each byte to 7 of 8 devices twice.
    assert 2 * 7 / 8 * gradient <= sent[4] < 1.05 * 2 * 7 / 8 * gradient
    assert sent[4] == pytest.approx(sent[1], rel=0.05)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7)
    jax.tree.map(close, states[4], states[1])


def test_gradients_of_a_split_model_go_between_replicas_once_an_update(single):
    """At any accumulation, embedding and head among them; what they come to is the same."""
    mesh, parameters = mesh_of(2, 4, 1), parameter_counts(MODEL).total
    program = compile_train_step(dataclasses.replace(SHAPE, accumulation=2), mesh)
    moved = transfers(program.as_text(), devices=8).every
    across = [each for each in moved if len({i // 4 for i in each.group}) == 2]
    assert {each.times for each in across} == {1} and {each.times for each in moved} > {1}
    # Each device holds a quarter, and of two replicas each sends it once.
    sent = sum(each.wire_bytes for each in across)
    assert parameters <= sent < 1.1 * parameters  # of 4 bytes a quarter
    host = batch(4)
    host["loss_weights"][0::4] = 3.0
    whole, metrics = one_update(single, host)
    hyper = place_hyper(hyperparameters(OPTIMIZER, 1e-2), mesh)
    state, metrics_there = program(begun(mesh), place_batch(host, mesh), hyper)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(close, (metrics, whole.opt_state.mu), (metrics_there, state.opt_state.mu))


def test_accumulation_equals_the_full_batch(single):
    """Also where microbatches differ in weight, which a mean of means would get wrong."""
    mesh, init, step = single
    host = batch(4)
    host["loss_weights"][0::4] = 3.0
    host["loss_weights"][1::4] = 0.125
    whole, metrics = one_update(single, host)
    in_parts = compile_train_step(dataclasses.replace(SHAPE, accumulation=4), mesh)
    parts, metrics_of_parts = one_update((mesh, init, in_parts), host)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), metrics, metrics_of_parts
    )
    # Elements of the gradient are sums that cancel, so they agree absolutely, not relatively.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7),
        whole.opt_state.mu,
        parts.opt_state.mu,
    )


def test_one_program_serves_all_hyperparameters(single):
    """The compiled step cannot be traced again, and obeys what it is given."""
    results = {
        digest(one_update(single, batch(0), hyper=hyperparameters(config, rate))[0])
        for config, rate in (
            (OPTIMIZER, 1e-2),
            (OPTIMIZER, 2e-2),
            (OptimizerConfig(weight_decay=0.7), 1e-2),
            (OptimizerConfig(b1=0.5), 1e-2),
            (OptimizerConfig(epsilon=1e-3), 1e-2),
            (OptimizerConfig(clip_norm=1e-4, epsilon=1e-3), 1e-2),
        )
    }
    assert len(results) == 6
    with pytest.raises(TypeError):
        one_update(single, batch(0, rows=ROWS // 2))


def test_the_state_is_donated_and_the_parameters_counted(single):
    mesh, init, _ = single
    state = init(0)
    after, metrics = one_update(single, batch(0), state=state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert int(after.step) == int(after.opt_state.count) == 1
    squares = sum(float((np.asarray(p) ** 2).sum()) for p in jax.tree.leaves(after.params))
    np.testing.assert_allclose(float(metrics.parameter_norm) ** 2, squares, rtol=1e-5)


def test_a_reset_forgets_the_moments_only(single):
    mesh, init, step = single
    state, _ = run(step, init(0), mesh, (0, 1))
    kept = digest((state.params, state.step))
    assert float(jnp.abs(state.opt_state.mu["head"]).max()) > 0
    state = compile_reset(MODEL, mesh)(state)
    assert digest((state.params, state.step)) == kept
    assert digest(state.opt_state) == digest(init(0).opt_state)
    assert int(state.step) == 2


def test_one_batch_is_learnt_by_heart(single):
    mesh, init, step = single
    _, seen = run(step, init(0), mesh, [0] * 60)
    assert seen[-1][0] < 0.5 < seen[0][0]


def test_seeds_differ_and_are_checked(single):
    _, init, _ = single
    assert digest(init(0)) == digest(init(0)) != digest(init(1))
    with pytest.raises(UserError, match=r"seed -1 must be in \[0, 2\*\*32\)"):
        init(-1)


def test_interrupted_training_is_bit_identical_in_a_new_process(single, tmp_path):
    mesh, init, step = single
    straight, _ = run(step, init(0), mesh, range(6))
    state, _ = run(step, init(0), mesh, range(2))
    save_state(tmp_path / "state", state, {"step": 2})
    process = fork(saving.go_on, (tmp_path, 6))
    process.join()
    assert process.exitcode == 0
    assert (tmp_path / "digest").read_text() == digest(straight)


def test_memory_of_a_step_is_its_logits_once_and_the_head_gradient():
    """On CPU nothing of that size exists beside them; a batch of one row is the worst case.

    There were: exponentials beside the logits (1.31 of the bound), zeros that wait for the
    embedding's gradient (1.33), attention's scores recomputed in the forward pass (1.68).
    """
    length, layers = 512, 4
    model = dataclasses.replace(
        MODEL, vocab_size=2**14, embed_dim=256, num_layers=layers, num_heads=8, num_kv_heads=8,
        max_seq_len=length,
    )  # fmt: skip
    shape = dataclasses.replace(SHAPE, model=model, batch_size=1, seq_len=length)
    program = compile_train_step(shape, mesh_of(1, 1, 1))
    logits, head = 4 * length * model.vocab_size, 4 * model.embed_dim * model.vocab_size
    # What a layer keeps: its inputs, norms, queries, keys, values and outputs, and the MLP's three.
    kept = 4 * length * layers * (10 * model.embed_dim + 3 * model.mlp_dim)
    bound = logits + head + kept
    temporaries = program.memory_analysis().temp_size_in_bytes
    assert 0.8 * bound < temporaries < 1.2 * bound
