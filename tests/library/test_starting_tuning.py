"""`init --model`: what it says of conversations, and the config of fine-tuning that it writes."""

import json
import random
import shutil

import jax
import numpy as np
import pytest
import tokenizers
from chats import CHATML, chat, chat_folder, write_records

from replay_jax.commands.main import main
from replay_jax.config.recipe import load_recipe
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.tokenizer import load_tokenizer
from replay_jax.errors import UserError
from replay_jax.hub.export import write_model_folder
from replay_jax.library.planning import plan
from replay_jax.library.starting import start as starting
from replay_jax.library.starting.lengths import look_with, model_tokenizer
from replay_jax.library.starting.looking import look, source_of
from replay_jax.library.starting.start import start_tuning
from replay_jax.model.architecture import ModelConfig, Variant
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.step import abstract_state

ASKED = {"minutes": 1e9, "flops_per_second": 1e9}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A small model of Qwen3's kind with a chat template, 300 conversations, and text."""
    home = tmp_path_factory.mktemp("tuning")
    tokenizer = load_tokenizer(
        TokenizerConfig(kind="file", path=str(chat_folder(home / "tokenizer", CHATML)))
    )
    model = ModelConfig(
        vocab_size=tokenizer.vocab_size, embed_dim=16, mlp_dim=8, num_layers=1, num_heads=2,
        num_kv_heads=1, max_seq_len=128, tied_embeddings=True,
        variant=Variant(head_dim=12, qk_norm="head"),
    )  # fmt: skip
    shapes = abstract_state(model, make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])).params
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    write_model_folder(home / "qwen3", params, model, tokenizer, dtype="float32", facts={})
    chat_folder(home / "qwen3", CHATML)
    words = random.Random(0)

    def said(least, most):
        count = words.randint(least, most)
        return " ".join(words.choices(["hello", "what", "is", "it", "no"], k=count))

    write_records(home / "web.jsonl", [{"text": said(40, 80)} for _ in range(400)])
    talks = [chat(("user", said(3, 30)), ("assistant", said(3, 30))) for _ in range(300)]
    write_records(home / "chats.jsonl", [*talks, {"messages": []}])
    return home


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    for name in ("study.py", "a.py"):
        (home / name).unlink(missing_ok=True)
    return home


def test_the_config_is_planned_and_prepared_as_it_was_said(at_home, capsys):
    asked = ["init", "study", "--generic=web.jsonl", "--target=chats.jsonl", "--model=qwen3"]
    assert main([*asked, "--explain", "--minutes=1000000"]) == 0
    said = capsys.readouterr().out
    assert "chats.jsonl: 300 conversations of " in said and "count in the loss (" in said
    assert "1 are none and passed over" in said and "training all parameters takes 0." in said
    assert said.splitlines()[-1].endswith("minutes here: replay-jax run study.py")
    recipe = load_recipe("study.py")
    found = plan(recipe)
    config = found.runs[0].config
    assert config.initial_weights == "qwen3" and config.model.lora is None
    sources = dict(config.data.sources)
    assert sources["target"].kind == "conversations" and sources["target"].truncate
    assert sources["target"].max_tokens == config.training.seq_len + 1 <= 129
    assert main(["prepare", "study.py"]) == 0
    runs = plan(recipe).runs  # with the rows of the stores
    assert len(runs) == 45
    for run in runs:
        entries = {entry.source: entry for entry in run.ledger.totals}
        assert entries["target"].unique == run.config.schedule.target_sequences
        assert "generic" not in entries or entries["generic"].repeated == 0
    budgets = sorted({run.config.schedule.target_sequences for run in runs})
    assert [budgets[-1] / budget for budget in budgets] == [4, 2, 1]
    assert main(asked) == 2 and "exists already" in capsys.readouterr().err


def test_lengths_are_those_of_the_prepared_tokens(at_home):
    """Counted by the functions that prepare: the same tokens, and as many that count."""
    side = look_with("chats.jsonl", model_tokenizer("qwen3", at_home / "qwen3"))
    assert (len(side.tokens), side.bad, side.is_whole) == (300, 1, True)
    assert "a conversation without an assistant turn" in side.first_bad
    first = json.loads((at_home / "chats.jsonl").read_text().splitlines()[0])["messages"]
    model = tokenizers.Tokenizer.from_file(str(at_home / "qwen3" / "tokenizer.json"))
    parts = ["<|im_start|>user\n" + first[0]["content"] + "<|im_end|>\n<|im_start|>assistant\n",
             first[1]["content"] + "<|im_end|>\n"]  # fmt: skip
    lengths = [len(model.encode(part, add_special_tokens=False).ids) for part in parts]
    assert side.tokens[0] == sum(lengths) and side.counted[0] == lengths[1]
    # Whole conversations in rows: fewer than their tokens would fill, none longer than a row.
    longest = int(side.tokens.max())
    assert side.tokens.sum() / longest <= side.rows(longest - 1) < len(side.tokens)
    assert side.longer(longest - 1) == 0 < side.longer(longest - 2)


def test_what_does_not_fit_is_trained_by_adapters(at_home):
    found = start_tuning(
        at_home / "a.py", "web.jsonl", "chats.jsonl", model="qwen3", memory_bytes=10**5, **ASKED
    )
    assert found.rank == 8 and found.own_bytes < found.whole_bytes
    assert "adapters (LoRA of rank 8) are trained" in found.facts[-1]
    assert load_recipe(at_home / "a.py").base["model"]["lora"]["rank"] == 8


def test_less_time_is_a_smaller_budget_and_says_so(at_home, monkeypatch):
    monkeypatch.setattr(starting, "_minutes", lambda text, speed: 60.0)
    found = start_tuning(
        at_home / "a.py", "web.jsonl", "chats.jsonl", model="qwen3", memory_bytes=None,
        minutes=59.0, flops_per_second=1e9,
    )  # fmt: skip
    assert found.budget == 16 and found.limit == "twice as much would take about 60"


def test_conversations_without_a_model_are_refused_and_not_read_as_text(at_home, tmp_path):
    pairs = [{"prompt": "what is it", "completion": "it is no answer at all"}] * 3
    shared = [{"conversations": [{"from": "human", "value": "hello"}]}]
    for name, records in (("pairs", pairs), ("shared", shared)):
        path = write_records(tmp_path / f"{name}.jsonl", records)
        with pytest.raises(UserError, match="holds conversations, .* with --model"):
            look(str(path))
    texts = write_records(tmp_path / "texts.jsonl", [{"text": "a", "messages": []}])
    assert source_of(str(texts)).kind == "jsonl"


def test_too_little_is_refused_with_both_numbers(at_home, tmp_path):
    few = write_records(tmp_path / "few.jsonl", [chat(("user", "hello"), ("assistant", "no"))] * 9)
    with pytest.raises(UserError, match="few.jsonl fills . rows of 64 tokens, and 20 are needed"):
        start_tuning(
            at_home / "a.py", "web.jsonl", str(few), model="qwen3", memory_bytes=None, **ASKED
        )
    assert not (at_home / "a.py").exists()


def test_a_folder_that_could_not_be_loaded_gets_no_config(at_home, tmp_path):
    """Cut off, or pickled alone: said at once, and not by the training of it."""
    broken = shutil.copytree(at_home / "qwen3", tmp_path / "broken")
    weights = broken / "model.safetensors"

    def refused():
        with pytest.raises(UserError) as refusal:
            start_tuning(
                at_home / "a.py", "web.jsonl", "chats.jsonl", model=str(broken), memory_bytes=None,
                **ASKED,
            )  # fmt: skip
        assert not (at_home / "a.py").exists()
        return str(refusal.value)

    weights.write_bytes(weights.read_bytes()[:-2])
    assert f"{weights} is no whole safetensors file" in refused()
    weights.rename(broken / "pytorch_model.bin")
    assert "has no *.safetensors: convert its weights to safetensors first" in refused()
