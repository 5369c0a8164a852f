"""PEFT loads our adapter folders and computes what we do.

Needs the extra `bench` (PyTorch, transformers, PEFT).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import MODEL

from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.hub.adapter import write_adapter_folder
from replay_jax.hub.export import write_model_folder
from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.model.lora import MATRICES, LoraConfig
from replay_jax.training.begin import adapted_state
from replay_jax.training.step import init_state
from replay_jax.training.trainable import joined, split

torch = pytest.importorskip("torch", reason="needs pip install 'replay-jax[bench]'")
transformers = pytest.importorskip("transformers", reason="needs pip install 'replay-jax[bench]'")
peft = pytest.importorskip("peft", reason="needs pip install 'replay-jax[bench]'")

DEEP = dataclasses.replace(MODEL, num_layers=2, vocab_size=257)


@pytest.mark.parametrize("matrices", [MATRICES, ("value", "out")])
@pytest.mark.parametrize("layer_loop", ["unroll", "scan"])
def test_peft_computes_the_same_logits(tmp_path, matrices, layer_loop):
    model = dataclasses.replace(
        DEEP, layer_loop=layer_loop, lora=LoraConfig(rank=3, alpha=6.0, matrices=matrices)
    )
    plain = dataclasses.replace(model, lora=None)
    base = init_state(plain, 0).params
    adapters, frozen = split(adapted_state(base, 1, model).params, model)
    random = np.random.default_rng(2)
    adapters = jax.tree.map(
        lambda x: x + 0.3 * random.normal(size=x.shape).astype(np.float32), adapters
    )
    about = {"dtype": "float32", "facts": {}}
    write_model_folder(tmp_path / "base", base, plain, byte_tokenizer(), **about)
    where = str(tmp_path / "base")
    write_adapter_folder(tmp_path / "adapter", adapters, model, base=where, **about)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32)
    tokens = random.integers(0, 257, (2, 24))
    unadapted = theirs(torch.tensor(tokens)).logits.detach().numpy()
    theirs = peft.PeftModel.from_pretrained(theirs, str(tmp_path / "adapter"))
    expected = theirs(torch.tensor(tokens)).logits.detach().numpy()
    params = joined(adapters, frozen)
    hidden = build_transformer(model, platform="cpu").apply({"params": params}, jnp.asarray(tokens))
    found = np.asarray(hidden @ head_kernel(params))
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert np.abs(unadapted - expected).max() > 0.05
