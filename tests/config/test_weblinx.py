"""paper/weblinx_8b at a small scale: a model and files of somebody's own."""

import json

import pytest
from chats import CHATML, chat_folder

from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import load_recipe
from replay_jax.errors import UserError

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 420,
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True, "rope_theta": 10_000.0, "hidden_act": "silu",
}  # fmt: skip
FILES = {"data.generic": "chats.jsonl, related.jsonl", "data.target": "turns.jsonl"}


@pytest.fixture
def own_model(tmp_path):
    folder = chat_folder(tmp_path / "small", CHATML)
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return {"scale": "tiny", "initial_weights": str(folder)}


def test_replay_sources_and_turns_of_one_s_own(own_model):
    configs = configs_of(experiments_of(load_recipe("paper/weblinx_8b", own_model | FILES)))
    assert len(configs) == 2 * 8 + 4
    assert {config.data.generic for config in configs} == {"chats", "related"}
    assert {config.model.max_seq_len for config in configs} == {512}
    decays = [c.optimizer.weight_decay for c in configs if c.schedule.replay_fraction == 0]
    assert sorted(decays) == [0, 0, 0.1, 0.2, 0.4, 0.6]
    sources = dict(configs[0].data.sources)
    assert {source.kind for source in sources.values()} == {"conversations"}
    assert not sources["weblinx"].truncate and sources["chats"].truncate
    assert {source.max_tokens for source in sources.values()} == {513}


def test_files_that_are_missing_are_asked_for(own_model):
    with pytest.raises(UserError, match="give --config.data.generic=CHATS.jsonl,TURNS.jsonl"):
        load_recipe("paper/weblinx_8b", own_model)
