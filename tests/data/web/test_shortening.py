"""Texts within a budget of tokens: the longest parts lose first, in their middles."""

import random

import pytest
from chats import chat_folder

from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.tokenizer import byte_tokenizer, load_tokenizer
from replay_jax.data.web.shortening import Part, Shortener, reduced


@pytest.fixture(scope="module", params=["bytes", "bpe"])
def shortener(request, tmp_path_factory):
    if request.param == "bytes":
        return Shortener(byte_tokenizer())
    folder = chat_folder(tmp_path_factory.mktemp("tokenizer"), None)
    return Shortener(load_tokenizer(TokenizerConfig(kind="file", path=str(folder))))


def test_the_longest_come_down_to_one_length():
    assert reduced([5, 1, 9, 7], 16) == [5, 1, 5, 5]
    assert reduced([5, 1, 9, 7], 15) == [4, 1, 5, 5]  # the longest has what is left over
    assert reduced([5, 1, 9, 7], 22) == [5, 1, 9, 7]
    assert reduced([3, 3], 0) == [0, 0] and reduced([], 5) == []


def test_the_middle_is_cut():
    found = Shortener(byte_tokenizer()).cut("abcdefghij", 7)
    assert found == "ab...ij"
    assert Shortener(byte_tokenizer()).cut("ééééé", 7) == "é...é"  # no character in two


def test_parts_that_may_not_be_cut_stay_while_others_can_be(shortener):
    parts = [Part("(uid = 12)", False), Part("hello there " * 9, True), Part("yes", True)]
    found = shortener.joined(parts, shortener.length("(uid = 12)") + 9)
    assert found.startswith("(uid = 12)") and found.endswith("yes") and "..." in found
    assert shortener.joined(parts, 10_000) == "".join(part.text for part in parts)


def test_nothing_has_more_tokens_than_its_budget(shortener):
    made = random.Random(0)
    words = ["hello", " what", "größe", "😀", "((", " ", "\n", "zzzz", "it is", '"']
    for _ in range(60):
        parts = [
            Part("".join(made.choices(words, k=made.randint(0, 12))), made.random() < 0.6)
            for _ in range(made.randint(0, 6))
        ]
        budget = made.randint(0, 40)
        found = shortener.joined(parts, budget)
        assert shortener.length(found) <= budget
        assert found == shortener.joined(parts, budget)
