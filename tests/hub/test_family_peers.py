"""Every family against transformers: logits, loss, greedy continuation, and the way back.

Random models of odd shapes: heads that are not hidden_size / num_attention_heads wide, shared keys,
windows shorter than the sequence. And a training step on a mesh, which is dear to compile.

Needs the extra `bench` (PyTorch, transformers).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_training import MODEL, mesh_of, run

from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.hub.export import write_model_folder
from replay_jax.hub.folder import find_pretrained, pretrained_config
from replay_jax.hub.weights import load_params
from replay_jax.model.architecture import RopeConfig, Variant
from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.model.loss import weighted_loss
from replay_jax.training.config import StepShape
from replay_jax.training.step import abstract_state, compile_init, compile_train_step

torch = pytest.importorskip("torch", reason="needs pip install 'replay-jax[bench]'")
transformers = pytest.importorskip("transformers", reason="needs pip install 'replay-jax[bench]'")

VOCABULARY, LENGTH, PROMPT = 272, 32, 26
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (2, LENGTH)).astype(np.int32)
SIZES = dict(
    vocab_size=VOCABULARY, hidden_size=48, intermediate_size=56, num_hidden_layers=4,
    num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=64,
)  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 500_000.0, "factor": 8.0, "beta_fast": 8, "beta_slow": 0.5,
    "original_max_position_embeddings": 16,
}  # fmt: skip
CASES = {
    "llama-linear": ("llama", dict(
        head_dim=10, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
    )),
    "llama-yarn": ("llama", dict(rope_parameters=YARN)),
    "mistral": ("mistral", dict(sliding_window=7, head_dim=10)),
    "mistral-whole": ("mistral", dict(sliding_window=None)),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True)),
    "qwen2-windows": ("qwen2", dict(
        use_sliding_window=True, sliding_window=7, max_window_layers=2,
    )),
    "qwen3": ("qwen3", dict(head_dim=10)),
    "smollm3": ("smollm3", dict()),
    "smollm3-windows": ("smollm3", dict(
        use_sliding_window=True, sliding_window=7, no_rope_layers=[1, 0, 0, 1],
        tie_word_embeddings=False,
    )),
    "olmo2": ("olmo2", dict()),
    "olmo3": ("olmo3", dict(
        sliding_window=7, tie_word_embeddings=True,
        rope_parameters={
            "full_attention": YARN,
            "sliding_attention": {"rope_type": "default", "rope_theta": 500_000.0},
        },
    )),
    "gemma3": ("gemma3_text", dict(
        head_dim=10, query_pre_attn_scalar=12, sliding_window=7,
        layer_types=["sliding_attention"] * 2 + ["full_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 4.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )),
}  # fmt: skip


def peer(case):
    """A random model of transformers, norms and biases included."""
    kind, values = CASES[case]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **values})
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
def theirs(model):
    """Logits, loss and a greedy continuation of the first rows."""
    tokens = torch.tensor(TOKENS.astype(np.int64))
    out = model(tokens, labels=tokens)
    said = model.generate(tokens[:, :PROMPT], max_new_tokens=LENGTH - PROMPT, do_sample=False)
    return out.logits.numpy(), float(out.loss), said.numpy()


@functools.partial(jax.jit, static_argnums=0)
def logits_and_loss(model, params, tokens):
    hidden_BLD = build_transformer(model, platform="cpu").apply({"params": params}, tokens)
    weights = jnp.ones(tokens.shape).at[:, -1].set(0.0)
    labels = jnp.roll(tokens, -1, axis=1)
    nats, *_ = weighted_loss(hidden_BLD, head_kernel(params), labels, weights, chunk=LENGTH)
    return hidden_BLD @ head_kernel(params), nats / weights.sum()


def ours(model, params):
    logits, loss = logits_and_loss(model, params, TOKENS)
    tokens = TOKENS.copy()
    for place in range(PROMPT, LENGTH):  # what follows a position changes nothing before it
        tokens[:, place] = logits_and_loss(model, params, tokens)[0][:, place - 1].argmax(-1)
    return np.asarray(logits), float(loss), tokens


def load(folder, model):
    found = find_pretrained(str(folder), str(folder.parent), download=False)
    return load_params(found, abstract_state(model, mesh_of(1, 1, 1)).params, model)


@pytest.mark.parametrize("case", CASES)
def test_a_family_computes_what_transformers_computes(tmp_path, case):
    model = peer(case)
    model.save_pretrained(tmp_path / "peer", max_shard_size="30KB")
    wanted_logits, wanted_loss, wanted_tokens = theirs(model)
    found = pretrained_config(str(tmp_path / "peer"), download=False)
    for loop in ("unroll", "scan"):
        config = dataclasses.replace(found, layer_loop=loop)
        params = load(tmp_path / "peer", config)
        logits, loss, tokens = ours(config, params)
        np.testing.assert_allclose(logits, wanted_logits, atol=2e-4)
        assert loss == pytest.approx(wanted_loss, abs=2e-4)
        np.testing.assert_array_equal(tokens, wanted_tokens)
    back = tmp_path / "back"
    write_model_folder(
        back,
        params,
        config,
        byte_tokenizer(),
        dtype="float32",
        facts={},
        origin=tmp_path / "peer",
    )
    before = {}
    for file in (tmp_path / "peer").glob("*.safetensors"):
        before |= load_file(file)
    after = load_file(back / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)
    again = transformers.AutoModelForCausalLM.from_pretrained(back, attn_implementation="eager")
    assert type(again) is type(model)
    with torch.no_grad():
        same = again(torch.tensor(TOKENS.astype(np.int64))).logits.numpy()
    np.testing.assert_array_equal(same, wanted_logits)


@pytest.mark.parametrize("loop", ["unroll", "scan"])
def test_a_step_on_a_mesh_is_the_step_on_one_device(loop):
    """All that any family does, layers of two kinds, split over rows, columns and heads."""
    variant = Variant(
        head_dim=6, qkv_bias=True, qk_norm="projection", norms="both", centred_norms=True,
        scaled_embedding=True, activation="gelu_tanh", window=3, windowed_layers=(0,),
        unrotated_layers=(1,), local_rope=RopeConfig(100.0),
    )  # fmt: skip
    config = dataclasses.replace(MODEL, num_layers=2, variant=variant, layer_loop=loop)
    losses = []
    for sizes in ((1, 1, 1), (2, 2, 2)):
        mesh = mesh_of(*sizes)
        shape = StepShape(config, batch_size=16, seq_len=8, sources=2)
        state, step = compile_init(config, mesh)(0), compile_train_step(shape, mesh)
        losses += [loss for loss, _ in run(step, state, mesh, range(3))[1]]
    assert losses[3:] == pytest.approx(losses[:3], rel=1e-5)
    assert losses[2] != losses[1]
