"""Tokenizers: exact byte counts, no way to forge an end of text, training that repeats itself."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from replay_jax.data.sources.documents import Document, document_hash
from replay_jax.data.tokens.bpe_training import merged, sample_texts, train_bpe
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.encode import piece_batches
from replay_jax.data.tokens.pieces import PIECE_CHARACTERS, cuts_are_exact, text_pieces
from replay_jax.data.tokens.tokenizer import (
    END_OF_TEXT,
    Tokenizer,
    byte_tokenizer,
    load_tokenizer,
    open_tokenizer,
    token_ids,
)
from replay_jax.errors import UserError

WORDS = (
    "the target data is scarce and generic data is not 12345 naïve größe データ 🎉 if x==1:".split()
)
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def prose(seed: int, words: int) -> str:
    rng = random.Random(seed)
    gaps = [" ", " ", " ", "\n", "  ", "\n\n    ", ", "]
    coined = ["".join(rng.choices(("ba", "le", "mi", "tor", "unk"), k=3)) for _ in range(20)]
    return "".join(rng.choice(WORDS + coined) + rng.choice(gaps) for _ in range(words))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_bpe([prose(seed, 400) for seed in range(40)], 400)


def test_bytes_are_their_own_ids() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode("aé\0")
    assert ids.tolist() == list("aé\0".encode())
    assert (tokenizer.vocab_size, tokenizer.eos_id) == (257, 256)
    assert tokenizer.decode([*ids.tolist(), tokenizer.eos_id]) == "aé\0"


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_token_bytes_sum_to_the_text(bpe: Tokenizer, text: str) -> None:
    for tokenizer in (bpe, byte_tokenizer()):
        ids = tokenizer.encode(text)
        assert int(tokenizer.byte_lengths[ids].sum()) == len(text.encode())
        assert tokenizer.decode(ids.tolist()) == text
        assert tokenizer.byte_lengths[tokenizer.eos_id] == 0


def test_a_document_cannot_spell_end_of_text(bpe: Tokenizer) -> None:
    ids = bpe.encode(f"before {END_OF_TEXT} after").tolist()
    assert bpe.eos_id not in ids and bpe.decode(ids) == f"before {END_OF_TEXT} after"


def test_batch_equals_one_by_one(bpe: Tokenizer) -> None:
    texts = [prose(seed, 30) for seed in range(20)] + [""]
    for ids, text in zip(token_ids(bpe.encode_batch(texts)), texts, strict=True):
        assert np.array_equal(ids, bpe.encode(text))
        assert np.all(ids < bpe.vocab_size)


def test_training_does_not_depend_on_order_or_chance() -> None:
    texts = [prose(seed, 200) for seed in range(30)]
    first = train_bpe(texts, 350)
    again = train_bpe(list(reversed(texts)), 350)
    other = train_bpe(texts[:3], 350)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.vocab_size == 350


def test_too_little_text_for_the_vocabulary_names_what_it_reaches() -> None:
    with pytest.raises(UserError, match=r"only yields 2\d\d of the 5000 tokens"):
        train_bpe(["ab ab ab cd"], 5000)


def test_sample_is_bounded_and_free_of_order() -> None:
    texts = [prose(seed, 50) for seed in range(200)]
    sample = sample_texts(texts, 20_000).texts()
    sizes = sum(len(text.encode()) for text in sample)
    assert 20_000 - max(len(text.encode()) for text in texts) <= sizes <= 20_000
    assert sample == sample_texts(reversed([*texts, *texts]), 20_000).texts()
    assert set(sample_texts(texts, 10_000).texts()) < set(sample) < set(texts)
    assert set(sample_texts(texts, 10**9).texts()) == set(texts)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=20),
    limit=st.integers(1, 2000),
    cut=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_sample_of_any_sizes_is_free_of_order_and_of_how_it_is_shared(
    sizes: list[int], limit: int, cut: int, seed: int
) -> None:
    """A small text with a large hash must not fit where one before it did not."""
    texts = [f"{number} " + "x" * size for number, size in enumerate(sizes)]
    shuffled = random.Random(seed).sample(texts, len(texts))
    whole = sample_texts(texts, limit)
    by_hash = sorted(texts, key=lambda text: document_hash(text.encode()))
    fitting = np.cumsum([len(text) for text in by_hash]) <= limit
    assert whole.texts() == by_hash[: max(1, int(fitting.sum()))]
    assert sample_texts(shuffled, limit) == whole
    one, other = sample_texts(shuffled[:cut], limit), sample_texts(shuffled[cut:], limit)
    assert merged(one, other, limit) == whole
    bounded = sample_texts(shuffled[cut:], limit, bound=one.bound)
    assert merged(one, bounded, limit) == whole


def trained_bpe(pattern: str) -> tokenizers.Tokenizer:
    """A byte-level BPE with one of the known word patterns."""
    model = tokenizers.Tokenizer(models.BPE())
    split = tokenizers.Regex(LLAMA3_WORDS)
    model.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False)
        if pattern == "gpt2"
        else pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(split, "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )
    model.train_from_iterator(
        [prose(0, 3000)], trainers.BpeTrainer(vocab_size=600, show_progress=False)
    )
    return model


@pytest.mark.parametrize("pattern", ["gpt2", "llama3"])
def test_pieces_of_a_long_text_tokenize_as_the_whole(pattern: str) -> None:
    model = trained_bpe(pattern)
    assert cuts_are_exact(model)
    text = prose(1, 6000)
    pieces = list(text_pieces(text, 500))
    assert len(pieces) > 50 and max(map(len, pieces)) <= 500 and "".join(pieces) == text
    whole = model.encode(text).ids
    assert [i for piece in pieces for i in model.encode(piece).ids] == whole
    # The same cuts anywhere would not do: this test can tell.
    blunt = [text[start : start + 500] for start in range(0, len(text), 500)]
    assert [i for piece in blunt for i in model.encode(piece).ids] != whole


@settings(deadline=None)
@given(text=st.text(max_size=80), size=st.integers(1, 9))
def test_pieces_always_join_to_the_text(text: str, size: int) -> None:
    pieces = list(text_pieces(text, size))
    assert "".join(pieces) == text and all(pieces)
    for before, after in zip(pieces, pieces[1:], strict=False):
        assert before[-1].isalnum() and after[0].isspace()


def test_pieces_of_a_table_without_letters_are_not_cut() -> None:
    """A cut between other characters gave tokens that the whole text does not have."""
    model = trained_bpe("gpt2")
    text = "| - | - |\n" * 3000
    assert list(text_pieces(text, 500)) == [text]
    ids = [i for piece in text_pieces("a " + text + "b c", 500) for i in model.encode(piece).ids]
    assert ids == model.encode("a " + text + "b c").ids


def test_a_stored_tokenizer_opens_to_the_same(bpe: Tokenizer, tmp_path: Path) -> None:
    for tokenizer in (bpe, byte_tokenizer()):
        path = tmp_path / "tokenizer.json"
        path.write_text(tokenizer.to_json(), encoding="utf-8")
        opened = open_tokenizer(path)
        assert opened.fingerprint == tokenizer.fingerprint
        assert np.array_equal(opened.encode(prose(7, 50)), tokenizer.encode(prose(7, 50)))
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="not a tokenizer written by this program"):
        open_tokenizer(path)


def test_any_tokenizer_file_is_read_and_its_end_of_text_found(
    bpe: Tokenizer, tmp_path: Path
) -> None:
    assert bpe.model is not None
    path = tmp_path / "tokenizer.json"
    path.write_text(bpe.model.to_str(), encoding="utf-8")
    loaded = load_tokenizer(TokenizerConfig("file", str(path)))
    assert (loaded.eos_id, loaded.vocab_size) == (bpe.eos_id, bpe.vocab_size)
    assert loaded.fingerprint == bpe.fingerprint
    renamed = bpe.model.to_str().replace(END_OF_TEXT, "<|my_end|>")
    path.write_text(renamed, encoding="utf-8")
    with pytest.raises(UserError, match="has no token .* set tokenizer.eos_token"):
        load_tokenizer(TokenizerConfig("file", str(path)))
    found = load_tokenizer(TokenizerConfig("file", str(path), eos_token="<|my_end|>"))
    assert found.eos_id == bpe.eos_id and found.fingerprint != bpe.fingerprint
    with pytest.raises(UserError, match="no tokenizer file"):
        load_tokenizer(TokenizerConfig("file", str(tmp_path / "none.json")))
    path.write_text(json.dumps({"model": 3}), encoding="utf-8")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_tokenizer(TokenizerConfig("file", str(path)))


def test_a_token_that_begins_documents_is_one_of_the_files(bpe: Tokenizer, tmp_path: Path) -> None:
    assert bpe.model is not None and bpe.bos_id is None
    path = tmp_path / "tokenizer.json"
    path.write_text(bpe.model.to_str(), encoding="utf-8")
    with pytest.raises(UserError, match="no token '<s>'; set tokenizer.bos_token"):
        load_tokenizer(TokenizerConfig("file", str(path), bos_token="<s>"))
    begun = load_tokenizer(TokenizerConfig("file", str(path), bos_token=END_OF_TEXT))
    assert (begun.bos_id, begun.eos_id) == (bpe.eos_id, bpe.eos_id)
    assert begun.fingerprint != bpe.fingerprint
    assert begun.encode("to be").tolist() == bpe.encode("to be").tolist()
    kept = tmp_path / "kept.json"
    kept.write_text(begun.to_json(), encoding="utf-8")
    again = open_tokenizer(kept)
    assert (again.bos_id, again.fingerprint) == (begun.bos_id, begun.fingerprint)


def test_padding_truncation_and_templates_of_a_file_are_ignored(tmp_path: Path) -> None:
    model = tokenizers.Tokenizer(
        models.WordLevel({"a": 0, "</s>": 1, "[UNK]": 2}, unk_token="[UNK]")
    )
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    model.add_special_tokens(["</s>"])
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single="</s> $A </s>", special_tokens=[("</s>", 1)]
    )
    model.enable_truncation(3)
    model.enable_padding(length=8)
    model.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(TokenizerConfig("file", str(tmp_path / "tokenizer.json")))
    assert tokenizer.encode("a a a a a").tolist() == [0] * 5 and tokenizer.eos_id == 1


def test_byte_lengths_of_word_marks_and_byte_tokens(tmp_path: Path) -> None:
    vocabulary = {"<unk>": 0, "</s>": 1, "▁": 2, "▁a": 3, "é": 4, "<0x0A>": 5, "a": 6}
    model = tokenizers.Tokenizer(models.BPE(vocabulary, [("▁", "a")], byte_fallback=True))
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    model.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    model.add_special_tokens(["<unk>", "</s>"])
    model.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(TokenizerConfig("file", str(tmp_path / "tokenizer.json")))
    assert tokenizer.byte_lengths.tolist() == [0, 0, 1, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "word"}, "'word' is not one of"),
        ({"kind": "file"}, "needs a path"),
        ({"kind": "bpe", "path": "x.json"}, "no other kind takes one"),
        ({"kind": "bytes", "eos_token": "</s>"}, "eos_token is for"),
        ({"kind": "bpe", "bos_token": "<s>"}, "bos_token is for"),
        ({"kind": "bpe", "vocab_size": 256}, "256 is too small"),
        ({"kind": "bpe", "train_bytes": 0}, "train_bytes 0"),
    ],
)
def test_impossible_tokenizers_are_refused(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TokenizerConfig(**values)


def llama2() -> tokenizers.Tokenizer:
    """As Llama 2, Mistral and TinyLlama: every text gets a mark, and no word is split off."""
    words = "the quick brown fox jumps over a lazy dog and runs away".split()
    rng = random.Random(0)
    model = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    model.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=120,
        special_tokens=["<unk>", "<s>", "</s>"],
        show_progress=False,
        max_token_length=12,
    )
    model.train_from_iterator([" ".join(rng.choices(words, k=8)) for _ in range(200)], trainer)
    return model


def test_a_long_document_is_not_cut_where_each_text_gets_a_mark(tmp_path: Path) -> None:
    llama2().save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(TokenizerConfig("file", str(tmp_path / "tokenizer.json")))
    assert not tokenizer.cuts_are_exact
    text = "the lazy dog runs " * (PIECE_CHARACTERS // 8)
    (batch,) = piece_batches(
        [Document(text, len(text), 0, False)], threads=2, cut=tokenizer.cuts_are_exact
    )
    ids = [i for piece in batch for i in tokenizer.encode(piece.text).tolist()]
    assert ids == llama2().encode(text, add_special_tokens=False).ids


def test_only_tokenizers_that_end_words_at_cuts_are_cut() -> None:
    def changed(change) -> tokenizers.Tokenizer:  # type: ignore[no-untyped-def]
        model = trained_bpe("gpt2")
        change(model)
        return model

    def words(*steps: pre_tokenizers.PreTokenizer):  # type: ignore[no-untyped-def]
        return lambda m: setattr(m, "pre_tokenizer", pre_tokenizers.Sequence(list(steps)))

    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    two_words = pre_tokenizers.Split(tokenizers.Regex(r"\w+ \w+|\s+"), "isolated")
    reaching = AddedToken("two words", normalized=False)
    for change, exact in (
        (lambda m: None, True),
        (lambda m: setattr(m, "normalizer", normalizers.NFC()), True),
        (lambda m: setattr(m, "normalizer", normalizers.Prepend("x")), False),
        (lambda m: m.add_tokens([AddedToken("<tag>", normalized=False)]), True),
        (lambda m: m.add_tokens([reaching]), False),
        (words(pre_tokenizers.ByteLevel(add_prefix_space=True)), False),
        (words(plain), False),
        (words(two_words, plain), False),
        (words(pre_tokenizers.Metaspace()), False),
    ):
        assert cuts_are_exact(changed(change)) == exact, change


def test_the_end_of_text_is_a_token_that_no_document_can_spell(tmp_path: Path) -> None:
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=270,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(["some old text with html"] * 5, trainer)
    # An HTML tag that was added for its own sake.
    model.add_tokens([AddedToken("</s>", special=False, normalized=False)])
    path = str(tmp_path / "tokenizer.json")
    model.save(path)
    tokenizer = load_tokenizer(TokenizerConfig("file", path))
    assert tokenizer.eos_id == model.token_to_id("<eos>")
    ids = tokenizer.encode("was <s>10</s> now <eos> 9").tolist()
    assert tokenizer.eos_id not in ids and tokenizer.byte_lengths[tokenizer.eos_id] == 0
    with pytest.raises(UserError, match="'</s>' .* is not marked special"):
        load_tokenizer(TokenizerConfig("file", path, eos_token="</s>"))


def test_a_folder_with_a_tokenizer_is_one(bpe: Tokenizer, tmp_path: Path) -> None:
    assert bpe.model is not None
    with pytest.raises(UserError, match="has no tokenizer.json; set tokenizer.path"):
        load_tokenizer(TokenizerConfig("file", str(tmp_path)))
    bpe.model.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(TokenizerConfig("file", str(tmp_path)))
    assert loaded.fingerprint == bpe.fingerprint
    for missing in ("./none", str(tmp_path / "none")):
        with pytest.raises(UserError, match="no tokenizer file"):
            load_tokenizer(TokenizerConfig("file", missing))


def test_planning_asks_no_hub(monkeypatch):
    """What is not in this machine's cache of the hub is refused at once, without a connection."""
    asked = []

    def hub(name, file, *, local_files_only):
        asked.append((name, file, local_files_only))
        raise OSError("not in the cache")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    for download in (False, True):
        with pytest.raises(UserError, match="'some/model' cannot be loaded: not in the cache"):
            load_tokenizer(TokenizerConfig("file", "some/model"), download=download)
    assert asked == [
        ("some/model", "tokenizer.json", True),
        ("some/model", "tokenizer.json", False),
    ]
