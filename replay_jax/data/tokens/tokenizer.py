"""Text to token ids: plain bytes, a trained byte-level BPE, or any Hugging Face tokenizer.json."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from replay_jax.data.conversations.chat import Chat
from replay_jax.data.conversations.chat_files import of_the_hub
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.pieces import cuts_are_exact
from replay_jax.errors import UserError

END_OF_TEXT = "<|end_of_text|>"
TOKENIZER_FILE = "tokenizer.json"
# Tried in this order when eos_token is "": Llama 3, GPT-2 and Qwen, Llama 2 and T5, others.
KNOWN_ENDS = (END_OF_TEXT, "<|endoftext|>", "</s>", "<eos>", "<|eos|>", "[EOS]")
_BYTE_EOS = 256


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """An immutable tokenizer: text to ids, no tokens added; the caller adds the two below.

    bos_id: begins every document; None for none. eos_id: ends every document.
    fingerprint: hash of everything that decides the ids.
    byte_lengths: uint16[vocab_size], UTF-8 bytes each id stands for, 0 for special tokens;
        for byte-level tokenizers they sum over a text to exactly its UTF-8 length.
    chat: renders conversations; None where no source has any.
    """

    kind: str
    vocab_size: int
    bos_id: int | None
    eos_id: int
    fingerprint: str
    byte_lengths: np.ndarray
    model: tokenizers.Tokenizer | None
    chat: Chat | None = None

    @cached_property
    def cuts_are_exact(self) -> bool:
        """Whether long texts may be encoded in pieces (`pieces`)."""
        return self.model is None or cuts_are_exact(self.model)

    @cached_property
    def ids_fingerprint(self) -> str:
        """Hash of what turns text into ids, whatever begins and ends documents."""
        return self.fingerprint if self.model is None else ids_fingerprint(self.model)

    def encode(self, text: str) -> np.ndarray:
        """Token ids of one text, uint32[n]."""
        return token_ids(self.encode_batch([text]))[0]

    def encode_batch(self, texts: Sequence[str]) -> Sequence[object]:
        """Encode texts on all cores; `token_ids` turns the result into arrays.

        The two are apart because this half runs without Python's lock and the other cannot:
        preparation overlaps them.
        """
        if self.model is None:
            return [text.encode() for text in texts]
        return self.model.encode_batch_fast(texts, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; special tokens are left out."""
        if self.model is None:
            return bytes(int(i) for i in ids if i < _BYTE_EOS).decode("utf-8", "replace")
        return self.model.decode([int(i) for i in ids], skip_special_tokens=True)

    def to_json(self) -> str:
        """What `open_tokenizer` needs to build the same tokenizer again."""
        return self._json

    @cached_property
    def _json(self) -> str:
        model = None if self.model is None else json.loads(self.model.to_str())
        description = {
            "kind": self.kind,
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "model": model,
        }
        if self.chat is not None:
            description["chat"] = self.chat.to_plain()
        return json.dumps(description, ensure_ascii=False) + "\n"


# Of a tokenizer's file, what the ids of a text without added tokens depend on.
_DECIDES_IDS = ("normalizer", "pre_tokenizer", "model", "added_tokens")


def ids_fingerprint(model: tokenizers.Tokenizer) -> str:
    """Hash of what turns text into ids, in a tokenizer of the hub's library."""
    whole = json.loads(model.to_str())
    canonical = json.dumps({part: whole[part] for part in _DECIDES_IDS}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def token_ids(encoded: Sequence[object]) -> list[np.ndarray]:
    """Ids of the texts `Tokenizer.encode_batch` encoded, uint32 (uint8 for plain bytes)."""
    arrays = []
    for item in encoded:
        if isinstance(item, bytes):
            arrays.append(np.frombuffer(item, dtype=np.uint8))
        else:
            ids = item.ids  # type: ignore[attr-defined]
            arrays.append(np.fromiter(ids, dtype=np.uint32, count=len(ids)))
    return arrays


def byte_tokenizer() -> Tokenizer:
    """One token per UTF-8 byte, and id 256 at the end of each document."""
    lengths = np.ones(_BYTE_EOS + 1, np.uint16)
    lengths[_BYTE_EOS] = 0
    fingerprint = hashlib.sha256(b"bytes 1").hexdigest()
    return Tokenizer("bytes", _BYTE_EOS + 1, None, _BYTE_EOS, fingerprint, lengths, None)


def load_tokenizer(config: TokenizerConfig, *, download: bool = True) -> Tokenizer:
    """A tokenizer of kind "bytes" or "file"; "bpe" is trained by `train_tokenizer`.

    Without `download` a hub id is taken from this machine's cache of the hub, or refused at once.

    Raises UserError where the file or hub id cannot be had or holds no end-of-text token.
    """
    if config.kind == "bytes":
        return byte_tokenizer()
    if config.kind != "file":
        raise ValueError(f"a tokenizer of kind {config.kind!r} is trained, not loaded")
    place = Path(config.path).expanduser()
    try:
        if place.is_dir() and not (place / TOKENIZER_FILE).is_file():
            raise UserError(
                f"the folder {config.path!r} has no {TOKENIZER_FILE}; set tokenizer.path to the "
                "tokenizer's file"
            )
        if place.exists():
            file = str(place / TOKENIZER_FILE if place.is_dir() else place)
        elif config.path.endswith(".json") or config.path.startswith((".", "/", "~")):
            raise UserError(f"no tokenizer file {config.path!r}")
        else:
            file = of_the_hub(config.path, TOKENIZER_FILE, download=download)
        model = tokenizers.Tokenizer.from_file(file)
    except UserError:
        raise
    except Exception as error:  # the library raises plain Exception
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"tokenizer {config.path!r} cannot be loaded: {reason}") from error
    return _wrapped("file", model, _begin_of_text(model, config), _end_of_text(model, config))


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that `Tokenizer.to_json` described; raises UserError for anything else."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if description["kind"] == "bytes":
            found = byte_tokenizer()
        else:
            model = tokenizers.Tokenizer.from_str(json.dumps(description["model"]))
            marks = description["bos_id"], description["eos_id"]
            found = _wrapped(description["kind"], model, *marks)
        if "chat" not in description:
            return found
        chat = Chat.from_plain(description["chat"], special_texts(found.model))
        return replace(found, chat=chat)
    except FileNotFoundError as error:
        raise UserError(f"no tokenizer at {path}") from error
    except Exception as error:  # the library raises plain Exception
        raise UserError(f"{path} is not a tokenizer written by this program: {error}") from error


def wrap_trained(model: tokenizers.Tokenizer) -> Tokenizer:
    """A Tokenizer around a BPE that was trained with END_OF_TEXT as its special token."""
    eos_id = model.token_to_id(END_OF_TEXT)
    if eos_id is None:
        raise ValueError(f"a trained tokenizer needs the special token {END_OF_TEXT}")
    return _wrapped("bpe", model, None, eos_id)


def _wrapped(kind: str, model: tokenizers.Tokenizer, bos_id: int | None, eos_id: int) -> Tokenizer:
    # A document that spells a special token must not be able to end itself.
    model.encode_special_tokens = True
    model.no_padding()
    model.no_truncation()
    described = json.loads(model.to_str())
    canonical = json.dumps(described, sort_keys=True)
    marks = f"{eos_id}" if bos_id is None else f"{bos_id} {eos_id}"
    fingerprint = hashlib.sha256(f"{marks} {canonical}".encode()).hexdigest()
    lengths = _byte_lengths(model, described)
    return Tokenizer(kind, len(lengths), bos_id, eos_id, fingerprint, lengths, model)


def special_texts(model: tokenizers.Tokenizer | None) -> tuple[str, ...]:
    """Texts of the special tokens."""
    added = {} if model is None else model.get_added_tokens_decoder()
    return tuple(token.content for token in added.values() if token.special)


def _begin_of_text(model: tokenizers.Tokenizer, config: TokenizerConfig) -> int | None:
    if not config.bos_token:
        return None
    found = model.token_to_id(config.bos_token)
    if found is None:
        raise UserError(
            f"tokenizer {config.path!r} has no token {config.bos_token!r}; set "
            "tokenizer.bos_token to the one that begins a document, or to ''"
        )
    return int(found)


def _end_of_text(model: tokenizers.Tokenizer, config: TokenizerConfig) -> int:
    """The token that ends documents: one that no document's text can become."""
    wanted = (config.eos_token,) if config.eos_token else KNOWN_ENDS
    there = {name: found for name in wanted if (found := model.token_to_id(name)) is not None}
    for name, found in there.items():
        if not _is_spelt(model, name, found):
            return found
    if there:
        raise UserError(
            f"token {next(iter(there))!r} of tokenizer {config.path!r} is not marked special, so a "
            "document that holds it would end there; set tokenizer.eos_token to a special token"
        )
    named = repr(config.eos_token) if config.eos_token else " or ".join(KNOWN_ENDS)
    raise UserError(
        f"tokenizer {config.path!r} has no token {named}; set tokenizer.eos_token to the "
        "one that ends a document"
    )


def _is_spelt(model: tokenizers.Tokenizer, name: str, token: int) -> bool:
    """Whether a text that holds a token's name gets the token itself."""
    model.encode_special_tokens = True
    texts = (name, f"a{name}b", f"a {name} b")
    return any(token in model.encode(text, add_special_tokens=False).ids for text in texts)


def is_byte_level(described: Mapping[str, Any]) -> bool:
    """Whether the characters of the tokens of a model, as its JSON describes it, are bytes."""
    return "ByteLevel" in json.dumps([described[part] for part in ("pre_tokenizer", "decoder")])


def _byte_lengths(model: tokenizers.Tokenizer, described: Mapping[str, Any]) -> np.ndarray:
    """UTF-8 bytes per id. Exact for byte-level vocabularies, whose characters are bytes.

    For vocabularies with word marks ("▁", "<0x0A>", "##") the mark is read as what it stands
    for; normalizers may still change the text, so preparation records both counts.
    """
    vocabulary = model.get_vocab(with_added_tokens=True)
    added = model.get_added_tokens_decoder()
    byte_level = is_byte_level(described)
    lengths = np.zeros(max(vocabulary.values()) + 1, np.uint16)
    for token, index in vocabulary.items():
        if index in added:
            lengths[index] = 0 if added[index].special else len(token.encode())
        elif byte_level:
            lengths[index] = len(token)
        elif token.startswith("<0x") and len(token) == 6:
            lengths[index] = 1
        else:
            lengths[index] = len(token.removeprefix("##").replace("▁", " ").encode())
    return lengths
