"""Tools of the practice studies: a tokenizer with ChatML, and records that do not leak."""

import importlib.util
import json

import pytest
from places import ROOT

from replay_jax.data.conversations.chat import ConversationTaker
from replay_jax.data.conversations.chat_files import read_chat
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.tokenizer import load_tokenizer, special_texts
from replay_jax.data.web.reading import read_turns
from replay_jax.library.web.scoring import score


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(module, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
    return module.main()


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_trained_tokenizer_renders_turns_that_end_as_documents_do(tmp_path, monkeypatch):
    words = [{"text": f"to be or not to be, {word}"} for word in "that is the question".split()]
    texts, folder = write(tmp_path / "text.jsonl", words * 9), tmp_path / "tokenizer"
    made = run(tool("chat_tokenizer"), monkeypatch, texts, folder, "--vocab_size=262")
    assert made == 0
    tokenizer = load_tokenizer(TokenizerConfig("file", path=str(folder), eos_token="<|im_end|>"))
    assert tokenizer.vocab_size == 264 and tokenizer.eos_id == 263
    special = special_texts(tokenizer.model)
    chat = read_chat(str(folder), given="", special=special, download=False)
    found = ConversationTaker(chat, "assistant").text({"prompt": "to", "completion": "be"}, "")
    assert [found.text[a:b] for a, b in found.spans] == ["be<|im_end|>"]
    assert found.text.startswith("<|im_start|>user\nto<|im_end|>\n<|im_start|>assistant\n")
    assert chat.turn_end().startswith("<|im_end|>")


def test_an_instruction_with_its_input_asks(tmp_path, monkeypatch):
    record = {"instruction": "Add.", "input": "1 and 1", "output": "2", "source": "mine"}
    path = write(tmp_path / "instructions.jsonl", [record, {**record, "input": ""}])
    assert run(tool("practice_records"), monkeypatch, "chats", path, tmp_path / "chats.jsonl") == 0
    made = [json.loads(line) for line in (tmp_path / "chats.jsonl").read_text().splitlines()]
    assert [each["prompt"] for each in made] == ["Add.\n1 and 1", "Add."]
    assert {each["completion"] for each in made} == {"2"}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Every second of forty instructions is nearly the one before it."""
    numbers = [f"w{n // 2} x{n // 2} y{n // 2} z{n // 2}" + " more" * (n % 2) for n in range(40)]
    records = [{"instruction": text, "queries": [f"q {text}"]} for text in numbers]
    records += [{"instruction": f"{text} again", "queries": []} for text in numbers]
    path = write(tmp_path / "shop.jsonl", [*records, {"text": "of another source"}])
    assert run(tool("practice_records"), monkeypatch, "web", path, tmp_path / "out") == 0
    return tmp_path / "out"


def test_nothing_that_is_learnt_is_nearly_what_is_judged(shop):
    said = {}
    for name in ("train", "valid"):
        turns = read_turns([shop / f"{name}.json"])
        said[name] = {turn.shown.utterances.split()[1] for turn in turns}
        assert all(turn.text.startswith('text_input(text="q w') for turn in turns)
        # The query in the search box scores all, the same in another element nothing.
        right = {1: [turn.text for turn in turns]}
        wrong = {1: [turn.text.replace("3f6", "a27") for turn in turns]}
        for given, wanted in ((right, 1), (wrong, 0)):
            assert score(given, turns).parts[name].scores["overall"].value == wanted
    said["shop"] = {
        json.loads(line)["text"].split()[0]
        for line in (shop / "shop.jsonl").read_text().splitlines()
    }
    assert said["train"] and said["valid"] and said["shop"]
    assert not said["valid"] & (said["train"] | said["shop"])
