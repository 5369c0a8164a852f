"""How long the documents of a side are to a model: tokens, and which of them count in the loss.

The very functions that prepare a study read, render, mask and pack here. Nothing is written, and no
more than a bounded part is read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import tokenizers

from replay_jax.data.conversations.chat_files import read_chat
from replay_jax.data.conversations.packing import pack
from replay_jax.data.conversations.token_mask import encoded_with_offsets
from replay_jax.data.sources.documents import Document, split_documents
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.encode import marked_tokens
from replay_jax.data.tokens.tokenizer import Tokenizer, load_tokenizer, special_texts, token_ids
from replay_jax.errors import UserError
from replay_jax.hub.convention import own_tokenizer
from replay_jax.library.starting.looking import source_of
from replay_jax.progress import stage

# Documents that are tokenized of each side, and how many at a time.
_MOST, _AT_ONCE = 4000, 250
_UNBOUNDED = 2**31


@dataclass(frozen=True, eq=False)
class Side:
    """Documents of one side as a model is given them.

    Attributes:
        source: how they are read; of conversations without a bound.
        tokens, counted: int64 [documents], of each its tokens and those that count in the loss.
        bad: documents that are none, which are passed over; first_bad: why the first of them is.
        is_whole: whether that is all there is.
    """

    source: SourceConfig
    tokens: np.ndarray
    counted: np.ndarray
    bad: int
    first_bad: str
    is_whole: bool

    def row_length(self, most: int) -> int:
        """Tokens of a row that hold 95 % of the documents whole: a multiple of 64, at most `most`.

        Less one, as a row of labels holds one token more.
        """
        wanted = int(np.ceil((np.quantile(self.tokens, 0.95) - 1) / 64)) * 64
        return max(min(64, most), min(wanted, most))

    def longer(self, seq_len: int) -> int:
        """Documents that a row does not hold."""
        return int((self.tokens > seq_len + 1).sum())

    def rows(self, seq_len: int) -> int:
        """Rows that the documents fill: whole ones behind each other, or all as one stream."""
        if not self.source.masked:
            return int(self.tokens.sum()) // (seq_len + 1)
        return len(pack(np.cumsum(np.minimum(self.tokens, seq_len + 1)), seq_len))


def model_tokenizer(name: str, folder: Path) -> TokenizerConfig:
    """A model's own tokenizer, with the tokens that begin and end its texts.

    Raises:
        UserError: the folder has none, or it cannot be read.
    """
    own = own_tokenizer(folder)
    if own is None:
        raise UserError(f"{folder} has no tokenizer.json, and a model's own tokenizer is needed")
    word = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).id_to_token
    bos = "" if own.bos is None else word(own.bos[0]) or ""
    config = TokenizerConfig(kind="file", path=name, bos_token=bos)
    if own.eos and _usual_end(config) not in own.eos:
        config = replace(config, eos_token=word(min(own.eos)) or "")
    return config


def _usual_end(config: TokenizerConfig) -> int | None:
    """The id that ends documents where no token is named for that; None without a usual one."""
    try:
        return load_tokenizer(config).eos_id
    except UserError:
        return None


def look_with(path: str, config: TokenizerConfig) -> Side:
    """Read a side as far as the bound, and tokenize it as a study would.

    Raises:
        UserError: no such file, nothing in it that can be used, or no chat template for it.
    """
    source, tokenizer = source_of(path), load_tokenizer(config)
    if source.kind == "conversations":
        source = replace(source, max_tokens=_UNBOUNDED)
        special = special_texts(tokenizer.model)
        chat = read_chat(config.path, given="", special=special, download=True)
        tokenizer = replace(tokenizer, chat=chat)
    lengths: list[tuple[int, int]] = []
    bad: list[str] = []
    documents = split_documents(source, tokenizer.chat)
    whole = True
    with stage(f"tokenizing {path}", _MOST) as advance:
        while batch := list(islice(documents, _AT_ONCE)):
            for document, *found in _tokens(batch, tokenizer, source):
                bad += [document.bad] * bool(document.bad)
                lengths += [(found[0], found[1])] * bool(found[0])
            advance(len(batch))
            if len(lengths) >= _MOST:
                whole = next(documents, None) is None
                break
    if not lengths:
        why = f": {bad[0]}" if bad else ""
        raise UserError(f"{path} holds nothing that could be trained on{why}")
    tokens, counted = np.array(lengths, np.int64).T
    return Side(source, tokens, counted, len(bad), bad[0] if bad else "", whole)


def _tokens(
    batch: Sequence[Document], tokenizer: Tokenizer, source: SourceConfig
) -> Iterator[tuple[Document, int, int]]:
    """Every document with its tokens and those that count; none where it is empty or bad."""
    texts = [document.text for document in batch]
    if not source.masked:
        marks = 1 + (tokenizer.bos_id is not None)
        for document, ids in zip(batch, token_ids(tokenizer.encode_batch(texts)), strict=True):
            length = len(ids) + marks if document.bytes else 0
            yield document, length, length
        return
    encoded = encoded_with_offsets(tokenizer.model, texts, rendered=True)
    for document, ids, each in zip(batch, token_ids(encoded), encoded, strict=True):
        found, kept, counts = marked_tokens(document, ids, each, tokenizer, source)
        yield found, len(kept), int(counts.sum())
