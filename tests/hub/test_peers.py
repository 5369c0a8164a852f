"""What transformers reads and writes is what we mean by it: the same logits, both ways.

Needs the extra `bench` (PyTorch, transformers).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chats import CHATML, chat_folder
from tiny_training import mesh_of

from replay_jax.data.conversations.chat_files import read_chat
from replay_jax.data.judging.tasks import Item, task_batches, task_rows
from replay_jax.data.tokens.bpe_training import train_bpe
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.tokenizer import load_tokenizer, special_texts
from replay_jax.hub.export import write_model_folder
from replay_jax.hub.folder import find_pretrained, pretrained_config
from replay_jax.hub.weights import load_params
from replay_jax.model.architecture import ModelConfig, RopeConfig
from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.training.config import StepShape
from replay_jax.training.evaluate import compile_evaluation, row_losses
from replay_jax.training.step import abstract_state, init_state, place_batch

torch = pytest.importorskip("torch", reason="needs pip install 'replay-jax[bench]'")
transformers = pytest.importorskip("transformers", reason="needs pip install 'replay-jax[bench]'")

TOKENS = np.random.default_rng(0).integers(0, 96, (2, 40)).astype(np.int32)
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip


def peer(*, tied, rope):
    """A random Llama of transformers, norms included."""
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            tie_word_embeddings=tied, rope_parameters=rope,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def their_logits(folder):
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model(torch.tensor(TOKENS.astype(np.int64))).logits.detach().numpy()


def our_logits(params, model):
    hidden = build_transformer(model, platform="cpu").apply({"params": params}, jnp.asarray(TOKENS))
    return np.asarray(hidden @ head_kernel(params))


def choice_nats(params, model, rows):
    """Our log-likelihoods, through the program that scores tasks."""
    mesh = mesh_of(1, 1, 1)
    shape = StepShape(model, batch_size=4, seq_len=rows.counted.shape[1], sources=1)
    batches = task_batches(rows, batch_size=4)
    placed = [place_batch(batch, mesh) for batch in batches]
    return row_losses(compile_evaluation(shape, mesh), params, placed, rows=len(rows.tokens))


def their_choice_nats(folder, rows):
    """Row by row without padding, as a harness would ask for it."""
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = []
    for tokens, counted in zip(rows.tokens, rows.counted, strict=True):
        end = int(np.flatnonzero(counted)[-1]) + 1
        logits = model(torch.tensor(tokens[None, :end].astype(np.int64))).logits[0]
        log_p = torch.log_softmax(logits, dim=-1).detach().numpy()
        each = -log_p[np.arange(end), tokens[1 : end + 1]]
        found.append((each * counted[:end]).sum())
    return np.array(found)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rope", [LLAMA3, {"rope_type": "default", "rope_theta": 10_000.0}])
@pytest.mark.parametrize("loop", ["unroll", "scan"])
def test_a_model_of_transformers_gives_the_same_logits_here(tmp_path, tied, rope, loop):
    peer(tied=tied, rope=rope).save_pretrained(tmp_path / "peer", max_shard_size="20KB")
    pretrained = find_pretrained(str(tmp_path / "peer"), str(tmp_path), download=False)
    found = pretrained_config(str(tmp_path / "peer"), download=False)
    model = dataclasses.replace(found, layer_loop=loop)
    like = abstract_state(model, mesh_of(1, 1, 1)).params
    params = load_params(pretrained, like, model)
    theirs = their_logits(tmp_path / "peer")
    np.testing.assert_allclose(our_logits(params, model), theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("tied", [False, True])
def test_an_exported_model_gives_the_same_logits_there(tmp_path, tied):
    tokenizer = train_bpe(["to be or not to be, that is the question"] * 9, 270)
    model = ModelConfig(
        vocab_size=272, embed_dim=32, mlp_dim=48, num_layers=2, num_heads=4, num_kv_heads=2,
        max_seq_len=64, tied_embeddings=tied, init_scale=0.3,
        rope=RopeConfig(5e5, "llama3", 8.0, 1.0, 4.0, 32),
    )  # fmt: skip
    params = init_state(model, 5).params
    write_model_folder(tmp_path / "ours", params, model, tokenizer, dtype="float32", facts={})
    theirs = their_logits(tmp_path / "ours")
    np.testing.assert_allclose(our_logits(params, model), theirs, atol=2e-5 * np.abs(theirs).max())
    items = [Item("that is ", ("the question", "not"), 0), Item("to be", (" or", ", that"), 1)]
    rows = task_rows(items, tokenizer, document_mask=False)
    ours = choice_nats(params, model, rows)
    np.testing.assert_allclose(ours, their_choice_nats(tmp_path / "ours", rows), rtol=1e-4)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    text = "that is to be"
    assert loaded(text)["input_ids"] == tokenizer.encode(text).tolist()
    assert loaded.eos_token_id == tokenizer.eos_id


def test_an_exported_model_stops_there_where_an_answer_ends(tmp_path):
    """A base whose texts end otherwise, tuned on ChatML: this one answers with its end at once."""
    words = chat_folder(tmp_path / "words", CHATML)
    plain = load_tokenizer(TokenizerConfig("file", path=str(words)))
    special = special_texts(plain.model)
    chat = read_chat(str(words), given="", special=special, download=False)
    model = ModelConfig(
        vocab_size=plain.vocab_size, embed_dim=32, mlp_dim=48, num_layers=1, num_heads=4,
        num_kv_heads=2, max_seq_len=64,
    )  # fmt: skip
    asked = chat.render([{"role": "user", "content": "hello"}], add_generation_prompt=True)[0]
    theirs = transformers.AutoTokenizer.from_pretrained(words)
    prompt = theirs(asked, return_tensors="pt")
    end = theirs.convert_tokens_to_ids("<|im_end|>")
    params = jax.device_get(init_state(model, 5).params)
    hidden = build_transformer(model, platform="cpu").apply(
        {"params": params}, jnp.asarray(prompt["input_ids"].numpy())
    )
    head = np.array(params["head"])
    head[:, end] = 10 * np.asarray(hidden)[0, -1]
    given = {"dtype": "float32", "facts": {}}
    write_model_folder(tmp_path / "base", params, model, plain, **given)
    tuned, answering = {**params, "head": head}, dataclasses.replace(plain, chat=chat)
    new = []
    for name, tokenizer in (("silent", plain), ("tuned", answering)):
        folder = tmp_path / name
        write_model_folder(folder, tuned, model, tokenizer, origin=tmp_path / "base", **given)
        speaker = transformers.AutoModelForCausalLM.from_pretrained(folder)
        said = speaker.generate(**prompt, max_new_tokens=5, do_sample=False)
        new.append(said[0, prompt["input_ids"].shape[1] :].tolist())
    assert new[0][0] == end and len(new[0]) == 5 and new[1] == [end]
