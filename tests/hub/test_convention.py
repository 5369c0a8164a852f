"""Tokens that a model goes on from: its own or by name, and how its documents begin and end."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import tokenizers
from chats import CHATML, chat_folder
from safetensors.numpy import save_file
from tiny_training import MODEL

from replay_jax.config.defaults import paper_config, tokenizer
from replay_jax.config.experiment import resolve
from replay_jax.data.conversations.chat import Chat
from replay_jax.data.conversations.chat_files import read_chat
from replay_jax.data.tokens.bpe_training import train_bpe
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.tokenizer import byte_tokenizer, load_tokenizer, special_texts
from replay_jax.errors import UserError
from replay_jax.hub.config import family_of_model, hub_of_model
from replay_jax.hub.convention import GENERATION_FILE, check_tokenizer, is_own, own_tokenizer
from replay_jax.hub.export import write_model_folder
from replay_jax.hub.folder import Pretrained
from replay_jax.library.preparing import find_all, prepare_all
from replay_jax.training.step import init_state

BEGIN, END = "<|begin_of_text|>", "<|end_of_text|>"


@pytest.fixture(scope="module")
def words():
    """A byte-level BPE of the hub with marks for both ends, the beginning as id 256 and up."""
    model = train_bpe(["to be or not to be, that is the question"] * 9, 270).model
    model.add_special_tokens([BEGIN])
    return model.to_str()


@pytest.fixture
def folder(words, tmp_path):
    """What of a model folder concerns tokens; its marks are those of the tokenizer."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(words)
    marks = tokenizers.Tokenizer.from_str(words)
    say(folder, "config.json", eos_token_id=[marks.token_to_id(END)], bos_token_id=None)
    return folder


def say(folder, name, **values):
    path = folder / name
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}))


def warnings(folder, *, accepted="", **marks):
    """Of the folder's own tokenizer, read as data would read it."""
    read = load_tokenizer(TokenizerConfig("file", path=str(folder), **marks))
    return check_tokenizer(read, Pretrained("mine", str(folder), ""), accepted=accepted)


def test_a_model_s_own_tokenizer_is_taken_in_silence(folder, words):
    assert warnings(folder) == []
    own = load_tokenizer(TokenizerConfig("file", path=str(folder)))
    whole = json.loads(words)
    whole["truncation"] = {
        "max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right",
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    assert is_own(own, folder)


def test_another_tokenizer_is_refused_unless_it_is_named(folder, tmp_path):
    other = byte_tokenizer()
    model = Pretrained("models/mine", str(folder), "")
    with pytest.raises(UserError) as refusal:
        check_tokenizer(other, model, accepted="")
    name = other.ids_fingerprint[:12]
    assert "models/mine" in str(refusal.value) and f"'{name}'" in str(refusal.value)
    assert [name in line for line in check_tokenizer(other, model, accepted=name)] == [True]
    for wrong in (name[:4], "0" * 12):
        with pytest.raises(UserError, match="is not the tokenizer of models/mine"):
            check_tokenizer(other, model, accepted=wrong)
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in check_tokenizer(other, model, accepted="")[0]
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="tokenizer.json cannot be read as a tokenizer"):
        check_tokenizer(other, model, accepted="")


def test_a_plan_refuses_another_tokenizer(folder, tmp_path):
    save_file({"x": np.zeros(1, np.float32)}, folder / "model.safetensors")
    config = paper_config()
    config.initial_weights, config.data.store_dir = str(folder), str(tmp_path / "stores")
    config.data.tokenizer = tokenizer("bytes")
    with pytest.raises(UserError, match="data.tokenizer is not the tokenizer of .*/model"):
        find_all([resolve(config.to_dict())])
    config.other_tokenizer = byte_tokenizer().ids_fingerprint[:12]
    (warning,) = find_all([resolve(config.to_dict())]).warnings
    assert "goes on from tokens of another tokenizer" in warning
    # A file that was cut off is named before anything is made of the data.
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-2])
    with pytest.raises(UserError, match="model.safetensors is no whole safetensors file"):
        prepare_all([resolve(config.to_dict())], None)


def test_a_beginning_that_is_left_out_is_named(folder, words):
    begin = tokenizers.Tokenizer.from_str(words).token_to_id(BEGIN)
    say(folder, "config.json", bos_token_id=begin)
    (warning,) = warnings(folder)
    assert f"begin with '{BEGIN}' (bos_token_id of its config.json)" in warning
    assert "bos_token is ''" in warning and warnings(folder, bos_token=BEGIN) == []
    say(folder, "tokenizer_config.json", add_bos_token=False, bos_token=BEGIN)  # as Qwen's
    assert warnings(folder) == []
    (warning,) = warnings(folder, bos_token=BEGIN)
    assert "begins no text with a token" in warning and "set it to ''" in warning
    say(folder, "tokenizer_config.json", add_bos_token=True, bos_token={"content": BEGIN})
    assert "(add_bos_token of its tokenizer_config.json)" in warnings(folder)[0]
    model = tokenizers.Tokenizer.from_str(words)
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, begin)]
    )
    model.save(str(folder / "tokenizer.json"))
    say(folder, "tokenizer_config.json", add_bos_token=False)
    assert "(its tokenizer adds it)" in warnings(folder)[0]


def test_an_end_that_the_model_does_not_know_is_named(folder, words):
    begin = tokenizers.Tokenizer.from_str(words).token_to_id(BEGIN)
    say(folder, "config.json", eos_token_id=begin)
    (warning,) = warnings(folder)
    assert f"end with '{BEGIN}'" in warning and f"eos_token is '{END}'" in warning
    end = tokenizers.Tokenizer.from_str(words).token_to_id(END)
    say(folder, "generation_config.json", eos_token_id=[begin, end])
    assert warnings(folder) == []


def test_an_export_has_what_its_origin_says_of_tokens(folder, words, tmp_path):
    """Tokenizer, chat template and settings of generation, byte for byte; not another's."""
    params = jax.eval_shape(lambda: init_state(MODEL, 0)).params
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)
    begin = tokenizers.Tokenizer.from_str(words).token_to_id(BEGIN)
    own = load_tokenizer(TokenizerConfig("file", path=str(folder)))
    given = {"dtype": "bfloat16", "facts": {}}
    write_model_folder(tmp_path / "origin", params, MODEL, own, **given)
    origin = tmp_path / "origin"
    texts = {"chat_template.jinja": "{{ messages }}", "generation_config.json": '{"top_k": 3}'}
    texts["tokenizer_config.json"] = '{"add_bos_token": true}'
    for name, text in texts.items():
        (origin / name).write_text(text)
    say(origin, "config.json", bos_token_id=begin, pad_token_id=3, eos_token_id=[5, 6])
    files = write_model_folder(tmp_path / "after", params, MODEL, own, origin=origin, **given)
    assert set(texts) | {"tokenizer.json"} < set(files)
    assert {name: (tmp_path / "after" / name).read_text() for name in texts} == texts
    written = json.loads((tmp_path / "after" / "config.json").read_text())
    assert [written[f"{mark}_token_id"] for mark in ("bos", "eos", "pad")] == [begin, [5, 6], 3]
    other = write_model_folder(
        tmp_path / "other", params, MODEL, byte_tokenizer(), origin=origin, **given
    )
    assert "chat_template.jinja" not in other and "tokenizer.json" not in other
    written = json.loads((tmp_path / "other" / "config.json").read_text())
    assert (written["bos_token_id"], written["eos_token_id"]) == (None, 256)


def test_an_export_stops_where_an_answer_ended_in_training(tmp_path):
    """A base says that texts end; conversations taught it how answers do."""
    params = jax.eval_shape(lambda: init_state(MODEL, 0)).params
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)
    chat_folder(tmp_path / "origin", CHATML)
    place = TokenizerConfig("file", path=str(tmp_path / "origin"))
    plain = load_tokenizer(place)
    end, answer_end = (plain.model.token_to_id(mark) for mark in ("<|endoftext|>", "<|im_end|>"))
    special = special_texts(plain.model)
    chat = read_chat(str(tmp_path / "origin"), given="", special=special, download=False)
    chatting = dataclasses.replace(plain, chat=chat)
    config = hub_of_model(MODEL, family_of_model(MODEL))
    sampled = {"do_sample": True, "eos_token_id": end, "pad_token_id": 7}
    silent = dataclasses.replace(chatting, chat=Chat("{{ messages[0]['content'] }}", ()))
    refusing = dataclasses.replace(chatting, chat=Chat("{{ raise_exception('no') }}", special))
    for number, (tokens, told, settings, wanted) in enumerate(
        [
            (chatting, end, None, {"eos_token_id": [end, answer_end], "bos_token_id": 5}),
            (
                chatting,
                end,
                sampled,
                {**sampled, "eos_token_id": [end, answer_end], "bos_token_id": 5},
            ),
            (chatting, [answer_end, end], {"top_k": 3}, {"top_k": 3}),
            (
                chatting,
                answer_end,
                {"eos_token_id": end},
                {"eos_token_id": [end, answer_end], "bos_token_id": 5},
            ),
            (chatting, end, {"eos_token_id": [9, answer_end]}, {"eos_token_id": [9, answer_end]}),
            (plain, end, sampled, sampled),
            (silent, end, None, None),
            (refusing, end, None, None),
        ]
    ):
        origin = shutil.copytree(tmp_path / "origin", tmp_path / f"origin{number}")
        say(origin, "config.json", **config, bos_token_id=5, eos_token_id=told)
        if settings is not None:
            say(origin, "generation_config.json", **settings)
        after = tmp_path / f"after{number}"
        given = {"dtype": "bfloat16", "facts": {}, "origin": origin}
        write_model_folder(after, params, MODEL, tokens, **given)
        path = after / "generation_config.json"
        assert (json.loads(path.read_text()) if path.exists() else None) == wanted
        assert json.loads((after / "config.json").read_text())["eos_token_id"] == told
    made = {"dtype": "bfloat16", "facts": {}}
    assert GENERATION_FILE in write_model_folder(tmp_path / "new", params, MODEL, chatting, **made)
    assert own_tokenizer(tmp_path / "new").eos == {end, answer_end}


def test_an_export_has_the_chat_template_that_training_was_given(folder, words, tmp_path):
    """Also where no folder was gone on from; a folder's own is not written twice."""
    params = jax.eval_shape(lambda: init_state(MODEL, 0)).params
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)
    given = Chat("given {{ messages }}", ())
    own = load_tokenizer(TokenizerConfig("file", path=str(folder)))
    chatting = dataclasses.replace(own, chat=given)
    more = {"dtype": "bfloat16", "facts": {}}
    write_model_folder(tmp_path / "first", params, MODEL, chatting, **more)
    assert (tmp_path / "first" / "chat_template.jinja").read_text() == given.template
    write_model_folder(tmp_path / "origin", params, MODEL, own, **more)
    say(tmp_path / "origin", "tokenizer_config.json", chat_template="own {{ messages }}")
    more["origin"] = tmp_path / "origin"
    write_model_folder(tmp_path / "after", params, MODEL, chatting, **more)
    found = read_chat(str(tmp_path / "after"), given="", special=(), download=False)
    assert found.template == given.template
    same = dataclasses.replace(own, chat=Chat("own {{ messages }}", ()))
    assert "chat_template.jinja" not in write_model_folder(
        tmp_path / "same", params, MODEL, same, **more
    )
