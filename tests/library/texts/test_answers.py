"""Answers of a model: its greedy continuation of a rendered conversation, beside the record."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from tiny_texts import write_folder

from replay_jax.commands.main import main
from replay_jax.data.conversations.chat import Chat
from replay_jax.generation.cache import logits
from replay_jax.library.evaluating import load_folder
from replay_jax.library.texts.encoding import encoding_of
from replay_jax.library.texts.prompts import chat_prompts
from replay_jax.model.decoder import build_transformer

NEW = 12
ASKED = "<|user|>to be<|end_of_text|><|assistant|>"  # as the template has the first record
RECORDS = [
    {"demo": "a", "turn": 3, "split": "valid", "prompt": "to be", "completion": "or"},
    {"demo": "a", "turn": 4, "split": "valid", "prompt": "whether 'tis the mind to suffer"},
    {"messages": [{"role": "user", "content": "or"}, {"role": "assistant", "content": "not"}]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("models") / "tiny", begins=True)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def answer(folder, prompts, out, *more):
    given = ["--chat", "--greedy", "--batch=2", f"--prompts={prompts}", f"--new_tokens={NEW}"]
    return main(["generate", str(folder), f"--out={out}", *given, *more])


@pytest.fixture(scope="module")
def by_hand(folder, prompts):
    """The likeliest next token again and again, each by a forward pass over the whole text."""
    loaded = load_folder(str(folder))
    encoding = encoding_of(loaded)
    model = build_transformer(loaded.model, platform="cpu")

    @jax.jit
    def likeliest(params, tokens):
        return jnp.argmax(logits(params, model.apply({"params": params}, tokens)[0]), axis=1)

    found = []
    for prompt in chat_prompts(encoding, prompts):
        tokens = np.zeros((1, loaded.model.max_seq_len), np.int32)
        end = len(prompt.tokens)
        tokens[0, :end] = prompt.tokens
        for place in range(end, end + NEW):
            tokens[0, place] = likeliest(loaded.params, tokens)[place - 1]
        found.append(tokens[0, end : end + NEW].tolist())
    return encoding, found


def test_answers_are_greedy_continuations_beside_their_records(
    folder, prompts, by_hand, tmp_path, capsys
):
    encoding, wanted = by_hand
    texts = [each.tokens for each in chat_prompts(encoding, prompts)]
    assert texts[0] == encoding.encode(ASKED, marks=False)  # and no token that the template lacks
    assert answer(folder, prompts, tmp_path / "a.jsonl", "--seed=7") == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'a.jsonl'}: 3 texts")
    for line, record, tokens in zip(lines(tmp_path / "a.jsonl"), RECORDS, wanted, strict=True):
        cut = next((n for n, token in enumerate(tokens) if token in encoding.ends), NEW)
        made = {"prediction": encoding.decode(tokens[:cut]), "new_tokens": cut}
        number = RECORDS.index(record)
        rest = {"number": number, "seed": 7, "ended": cut < NEW}
        assert line == {**record, **made, **rest} and line["prediction"]


def test_an_answer_ends_where_the_template_ends_a_turn(folder, prompts, by_hand, tmp_path):
    """Another token than the one that ends texts: here a token that it says, marked special."""
    encoding, wanted = by_hand
    model = tokenizers.Tokenizer.from_str(encoding.model.to_str())
    place, end = next(
        (place, model.id_to_token(token))
        for place, token in enumerate(wanted[0])
        if place > 1
        and token not in wanted[0][:place]
        and model.id_to_token(token) not in ASKED + str(RECORDS)
    )
    model.add_special_tokens([end])
    assert model.token_to_id(end) == wanted[0][place] not in encoding.ends
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "tokenizer.json").write_text(model.to_str())
    template = f"{{% if m['role'] == 'assistant' %}}{end}{{% else %}}<|end_of_text|>{{% endif %}}"
    settings = json.loads((other / "tokenizer_config.json").read_text())
    settings["chat_template"] = settings["chat_template"].replace("<|end_of_text|>", template)
    (other / "tokenizer_config.json").write_text(json.dumps(settings))
    assert answer(other, prompts, tmp_path / "a.jsonl") == 0
    first = lines(tmp_path / "a.jsonl")[0]
    assert (first["new_tokens"], first["ended"]) == (place, True)
    assert first["prediction"] == encoding.decode(wanted[0][:place])


def test_a_run_is_asked_with_the_template_that_it_was_trained_with(folder):
    loaded = load_folder(str(folder))
    assert encoding_of(loaded).chat().template.startswith("{% for m in messages %}<|")
    given = Chat("{{ messages[0]['content'] }}", ())
    trained = dataclasses.replace(loaded.tokenizer, chat=given)
    for place in (folder, None):
        found = encoding_of(dataclasses.replace(loaded, tokenizer=trained, folder=place))
        assert found.chat() is given


def test_what_cannot_be_answered_is_refused_before_anything_is_written(
    folder, prompts, tmp_path, capsys
):
    good, out = json.dumps(RECORDS[0]), tmp_path / "out.jsonl"
    cases = {
        json.dumps({"prompt": "to be " * 40}): "positions of",
        json.dumps({"text": "to be"}): "line 3: no field 'messages'",
        json.dumps({"prompt": "to<|end_of_text|>"}): "line 3: message 0 (user) spells the special",
        json.dumps({"prompt": "", "completion": ""} | {"prompt": []}): "line 3: a conversation in",
    }
    for record, words in cases.items():
        (tmp_path / "bad.jsonl").write_text(f"{good}\n\n{record}\n")
        assert answer(folder, tmp_path / "bad.jsonl", out) == 2
        said = capsys.readouterr().err
        assert words in said and "line 3" in said
        assert not out.exists() and not list(tmp_path.glob(".*"))
    assert main(["generate", str(folder), f"--out={out}", "--chat"]) == 2
    assert "give --prompts=FILE.jsonl" in capsys.readouterr().err
    (folder / "tokenizer_config.json").rename(folder / "kept.json")
    try:
        assert answer(folder, prompts, out) == 2
        assert "has no chat template" in capsys.readouterr().err
    finally:
        (folder / "kept.json").rename(folder / "tokenizer_config.json")
