"""docs/fine_tuning.md, followed with a small model of Qwen3's kind and made-up conversations."""

import dataclasses
import json
import random
import re

import jax
import pytest
import tokenizers
from chats import CHATML, chat, chat_folder, write_records
from fake_report import without_pictures
from in_process import in_this_process
from places import ROOT
from tiny_training import drawn_parameters, mesh_of

import replay_jax
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.tokenizer import TOKENIZER_FILE, load_tokenizer
from replay_jax.hub.export import write_model_folder
from replay_jax.hub.folder import RUN_FILE
from replay_jax.library.evaluating import load_folder, load_run, score, summary
from replay_jax.library.plan_shown import supervised_shown
from replay_jax.model.architecture import ModelConfig, Variant

PAGE = (ROOT / "docs" / "fine_tuning.md").read_text(encoding="utf-8")
SMALL = {
    "SEQ_LEN, BATCH = 2048, 16": "SEQ_LEN, BATCH = 64, 4",
    "BUDGET = 256": "BUDGET = 8",
    "HELD_OUT = 64": "HELD_OUT = 4",
    "config.training.evaluate_every = 0": "config.tasks = {'mine': 'mine.jsonl'}\n"
    "    config.model.compute_dtype = 'float32'",
}


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A folder with the three things that the page asks for, and its config at a small size."""
    monkeypatch.chdir(tmp_path)
    chat_folder(tmp_path / "tokenizer", CHATML)
    config = TokenizerConfig(kind="file", path=str(tmp_path / "tokenizer"))
    tokenizer = load_tokenizer(config)
    model = ModelConfig(
        vocab_size=tokenizer.vocab_size, embed_dim=32, mlp_dim=48, num_layers=1, num_heads=2,
        num_kv_heads=1, max_seq_len=128, tied_embeddings=True,
        variant=Variant(head_dim=24, qk_norm="head"),
    )  # fmt: skip
    params = jax.device_get(drawn_parameters(model, mesh_of(1, 1, 1), 3))
    folder = tmp_path / "models" / "qwen3"
    folder.parent.mkdir()
    write_model_folder(folder, params, model, tokenizer, dtype="float32", facts={})
    chat_folder(folder, CHATML)
    words = random.Random(0)

    def said(count):
        return " ".join(words.choices(["hello", "what", "is", "it", "no"], k=count))

    (tmp_path / "data").mkdir()
    write_records(tmp_path / "data" / "web.jsonl", [{"text": said(60)} for _ in range(200)])
    talks = [chat(("user", said(6)), ("assistant", said(4))) for _ in range(150)]
    write_records(tmp_path / "data" / "chats.jsonl", talks)
    text = re.search(r"```python\n(.*?)```", PAGE, re.S)[1]
    for usual, small in SMALL.items():
        assert usual in text
        text = text.replace(usual, small)
    (tmp_path / "study.py").write_text(text)
    items = [
        {"context": said(3), "choices": [" yes", " no", f" {said(2)}"], "answer": n % 3}
        for n in range(6)
    ]
    write_records(tmp_path / "mine.jsonl", items)
    return tmp_path


def own_ids(folder):
    return tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE)).get_vocab()


def test_the_page_from_weights_and_conversations_to_an_exported_model(at_home, monkeypatch):
    assert json.loads((at_home / "models/qwen3/config.json").read_text())["model_type"] == "qwen3"
    recipe = replay_jax.load_recipe("study.py")
    planned = replay_jax.plan(recipe)
    assert len(planned.runs) == 27
    (said,) = supervised_shown(planned)
    assert said == "which labels count in the loss is known when all sources are tokenized"
    wanted = [
        item for item in recipe.sweep
        if item["seed"] == 1 and item["schedule.target_epochs"] == 1.0
    ]  # fmt: skip
    without_pictures(monkeypatch)
    with in_this_process():
        outcome = replay_jax.run(dataclasses.replace(recipe, sweep=tuple(wanted[:2])), "runs/study")
    assert outcome.failures == () and outcome.results == 2
    first = replay_jax.results("runs/study")
    assert len(first["id"]) == 2
    replay_jax.export("runs/study", "best", "models/qwen3-tuned")
    tuned = at_home / "models" / "qwen3-tuned"
    assert json.loads((tuned / "config.json").read_text())["model_type"] == "qwen3"
    for name in (TOKENIZER_FILE, "chat_template.jinja"):
        assert (tuned / name).read_bytes() == (at_home / "models/qwen3" / name).read_bytes()
    ends = [own_ids(at_home / "models/qwen3")[name] for name in ("<|endoftext|>", "<|im_end|>")]
    assert json.loads((tuned / "generation_config.json").read_text())["eos_token_id"] == ends
    # Whoever asks what the run was asked says what its record says.
    replay_jax.export("runs/study", "best", "models/exact", dtype="float32")
    record = json.loads((tuned / RUN_FILE).read_text())["run"]
    wanted = record["tasks"]["mine"]
    for loaded in (load_run("runs/study", "best"), load_folder("models/exact")):
        found = summary(score(loaded, "mine.jsonl"))
        assert found["accuracy"] == wanted["accuracy"]
        assert found["choice_nats"] == pytest.approx(wanted["choice_loss"], rel=1e-5)
    # From another folder it is the same: tokenizer, family and stores are those of the study.
    (at_home / "elsewhere").mkdir()
    monkeypatch.chdir(at_home / "elsewhere")
    replay_jax.export("../runs/study", "best", "model")
    again = at_home / "elsewhere" / "model"
    assert sorted(path.name for path in again.iterdir()) == sorted(p.name for p in tuned.iterdir())
    assert all(path.read_bytes() == (tuned / path.name).read_bytes() for path in again.iterdir())


def test_every_command_of_the_page_is_one():
    from replay_jax.commands.arguments import parser

    commands = re.findall(r"^    replay-jax (.+)$", PAGE, re.M)
    assert len(commands) == 9
    for command in commands:
        parser().parse_args(command.split())
