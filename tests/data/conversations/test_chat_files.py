"""Where a tokenizer's chat template is looked for."""

import json

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from replay_jax.data.conversations.chat_files import read_chat
from replay_jax.errors import UserError


def read(place, **changes):
    return read_chat(str(place), **{"given": "", "special": ("<s>",), "download": False, **changes})


def test_the_forms_in_which_templates_are_kept(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="has no chat template .* put chat_template.jinja beside"):
        read(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(UserError, match=f"^{tmp_path}: the chat template cannot be read"):
        read(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": None}
    several = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}, 3]
    for found, wanted in (("one", "one"), (several, "d")):
        text = json.dumps({**config, "chat_template": found})
        (tmp_path / "tokenizer_config.json").write_text(text)
        (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "x", "unk_token": "u"}')
        chat = read(tmp_path / "tokenizer.json")
        assert (chat.template, chat.special) == (wanted, ("<s>",))
        tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "u"}
        assert dict(chat.tokens) == tokens
    (tmp_path / "chat_template.jinja").write_text("file")
    assert read(tmp_path).template == "file"
    (tmp_path / "own.jinja").write_text("own")
    given = str(tmp_path / "own.jinja")
    assert read(tmp_path, given=given).template == read("", given=given).template == "own"
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(UserError, match="tokenizer_config.json cannot be read"):
        read(tmp_path)
    with pytest.raises(UserError, match="the chat template .*none.jinja cannot be read"):
        read("", given=str(tmp_path / "none.jinja"))


@pytest.mark.parametrize("known", [None, object()])
def test_a_file_of_the_hub_that_is_out_of_reach_is_not_taken_for_none(monkeypatch, known):
    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: known)
    said = "has no chat template" if known else "is not in the hub's cache"
    with pytest.raises(UserError, match=said):
        read("some/model")
