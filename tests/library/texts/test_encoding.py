"""What begins and ends a prompt: by the tokenizer's file and the settings beside it."""

import dataclasses
import json

import pytest
from tiny_texts import BEGIN, write_folder

from replay_jax.data.tokens.tokenizer import END_OF_TEXT, byte_tokenizer
from replay_jax.errors import UserError
from replay_jax.library.evaluating import load_folder
from replay_jax.library.texts.encoding import encoding_of
from replay_jax.library.texts.harness_tasks import Asked, harness_scores


@pytest.fixture
def loaded(tmp_path):
    """A model whose tokenizer begins every text with a token."""
    return load_folder(str(write_folder(tmp_path / "tiny", begins=True)))


def say(loaded, name, **values):
    path = loaded.folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_settings_beside_the_tokenizer_decide_over_its_file(loaded):
    begin, end = (loaded.tokenizer.model.token_to_id(mark) for mark in (BEGIN, END_OF_TEXT))
    found = encoding_of(loaded)
    assert (found.bos_id, found.prefix_id, found.eos_id) == (begin, begin, end)
    plain = found.encode("to be", marks=False)
    assert found.encode("to be") == [begin, *plain] and found.decode(plain) == "to be"
    # A prompt may spell what a document may not.
    assert found.encode(f"to be{END_OF_TEXT}", marks=False) == [*plain, end]
    assert found.decode([begin, *plain, end]) == "to be"
    assert found.decode([begin, *plain], special=True) == f"{BEGIN}to be"
    say(loaded, "tokenizer_config.json", add_bos_token=False)
    assert encoding_of(loaded).encode("to be") == plain
    say(loaded, "tokenizer_config.json", add_bos_token=True, add_eos_token=True)
    assert encoding_of(loaded).encode("to be") == [begin, *plain, end]
    assert found.ends == {end}
    say(loaded, "config.json", eos_token_id=[end, 7])
    assert encoding_of(loaded).ends == {end, 7}


def test_a_folder_ends_documents_with_a_token_that_it_names(loaded):
    """Tasks begin behind it: another one of the usual names may never have been trained."""
    begin, end = (loaded.tokenizer.model.token_to_id(mark) for mark in (BEGIN, END_OF_TEXT))
    for said, wanted in ((begin, begin), ([end, begin], end), (None, end), (7, end)):
        say(loaded, "config.json", eos_token_id=said)
        assert load_folder(str(loaded.folder)).tokenizer.eos_id == wanted


def test_a_run_of_plain_bytes_has_an_encoding_and_no_template(loaded):
    found = encoding_of(dataclasses.replace(loaded, tokenizer=byte_tokenizer(), folder=None))
    assert found.encode("né") == [110, 195, 169] and found.decode([110, 195, 169, 256]) == "né"
    assert (found.prefix_id, found.ends) == (256, {256})
    with pytest.raises(UserError, match="has no chat template: it began from no model folder"):
        found.chat()


def test_tasks_by_name_need_the_extra(loaded, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"hellaswag: tasks by name .* 'replay-jax\[eval\]'"):
        harness_scores(loaded, Asked(["hellaswag"]))
