"""Texts to tokens and back as `transformers` does it with the same model folder.

Unlike a document that is trained on, a prompt may spell special tokens, as chat templates do, and
what begins a text is decided by the tokenizer's file and the settings beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.processors import TemplateProcessing

from replay_jax.data.conversations.chat import Chat
from replay_jax.data.conversations.chat_files import read_chat
from replay_jax.data.tokens.tokenizer import Tokenizer, special_texts
from replay_jax.errors import UserError
from replay_jax.hub.convention import own_tokenizer, stops
from replay_jax.hub.folder import json_object
from replay_jax.library.evaluating import Loaded

_SETTINGS = ("special_tokens_map.json", "tokenizer_config.json")


@dataclass(frozen=True, eq=False)
class Encoding:
    """How texts become a model's tokens.

    Attributes:
        name: of the model, for messages.
        model: the tokenizer; None for plain bytes.
        bos_id, eos_id: the tokens that begin and end a text; bos_id is None where none does.
        ends: tokens after which a model has nothing to say.
        folder: where its files are; None for a run that began from no model folder.
        trained_chat: the chat template that a run was trained with; None for a folder, and where no
            source of it had conversations.
    """

    name: str
    model: tokenizers.Tokenizer | None
    bos_id: int | None
    eos_id: int
    ends: frozenset[int]
    folder: Path | None
    trained_chat: Chat | None

    @property
    def prefix_id(self) -> int:
        """What a text that follows nothing follows."""
        return self.eos_id if self.bos_id is None else self.bos_id

    def encode(self, text: str, *, marks: bool = True) -> list[int]:
        """Token ids; with `marks` those that the tokenizer adds to a text by itself."""
        if self.model is None:
            return list(text.encode())
        return list(self.model.encode(text, add_special_tokens=marks).ids)

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Text of token ids, with that of special tokens or without."""
        if self.model is None:
            return bytes(i for i in ids if i < 256).decode("utf-8", "replace")
        return str(self.model.decode(list(ids), skip_special_tokens=not special))

    def chat(self) -> Chat:
        """The chat template; raises UserError where there is none."""
        if self.trained_chat is not None:
            return self.trained_chat
        if self.folder is None:
            raise UserError(f"{self.name} has no chat template: it began from no model folder")
        special = special_texts(self.model)
        return read_chat(str(self.folder), given="", special=special, download=False)

    def answer_ends(self) -> frozenset[int]:
        """The special token that ends an answer; none where the chat template has none."""
        end = None if self.model is None else self.model.token_to_id(self.chat().end_token)
        return frozenset() if end is None else frozenset({end})


def encoding_of(loaded: Loaded) -> Encoding:
    """The encoding of a model's texts; raises UserError for a model without a tokenizer."""
    if loaded.tokenizer is None:
        raise UserError(
            f"{loaded.name} has no tokenizer.json, so texts are no tokens to it: put its tokenizer "
            "beside its weights"
        )
    if loaded.folder is None:
        return _of_run(loaded.name, loaded.tokenizer)
    return _of_folder(loaded.name, loaded.folder, loaded.tokenizer)


def _of_run(name: str, tokenizer: Tokenizer) -> Encoding:
    """As the folder that `export` writes for it."""
    model = None if tokenizer.model is None else _plain(tokenizer.model.to_str())
    ends = frozenset(stops(tokenizer, ()))
    return Encoding(name, model, tokenizer.bos_id, tokenizer.eos_id, ends, None, tokenizer.chat)


def _of_folder(name: str, folder: Path, tokenizer: Tokenizer) -> Encoding:
    model = _plain((folder / "tokenizer.json").read_text(encoding="utf-8"))
    settings: dict[str, Any] = {}
    for file in _SETTINGS:
        if (folder / file).is_file():
            settings |= json_object(folder / file)
    bos, eos = (_named(settings, f"{mark}_token", model) for mark in ("bos", "eos"))
    told = {f"add_{mark}_token" for mark in ("bos", "eos")} & settings.keys()
    if told:
        model.post_processor = _added(settings, bos, eos)
    eos_id = tokenizer.eos_id if eos is None else eos[1]
    own = own_tokenizer(folder)
    assert own is not None
    ends = frozenset(stops(tokenizer, own.eos))
    begin = None if bos is None else bos[1]
    return Encoding(name, model, begin, eos_id, ends, folder, tokenizer.chat)


def _plain(text: str) -> tokenizers.Tokenizer:
    """A tokenizer that neither pads nor cuts, and knows special tokens in a text."""
    model = tokenizers.Tokenizer.from_str(text)
    model.encode_special_tokens = False
    model.no_padding()
    model.no_truncation()
    return model


def _named(
    settings: Mapping[str, Any], name: str, model: tokenizers.Tokenizer
) -> tuple[str, int] | None:
    """A special token that the settings name: its text and id."""
    token = settings[name] if name in settings else None
    if isinstance(token, Mapping) and "content" in token:
        token = token["content"]
    found = model.token_to_id(token) if isinstance(token, str) else None
    return None if found is None else (str(token), int(found))


def _added(
    settings: Mapping[str, Any], bos: tuple[str, int] | None, eos: tuple[str, int] | None
) -> TemplateProcessing:
    """What puts the tokens around a text that the settings ask for."""
    before = [bos] if bos and settings.get("add_bos_token") is True else []
    after = [eos] if eos and settings.get("add_eos_token") is True else []
    words = [*(text for text, _ in before), "$A", *(text for text, _ in after)]
    return TemplateProcessing(single=words, special_tokens=[*before, *after])
