"""Overlap: every passage that is trained on is found, and nothing else, against brute force."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay_jax.commands.main import main
from replay_jax.data.judging.overlap import Judged, overlap, right_answers, window_hashes
from replay_jax.data.judging.tasks import Item, task_rows
from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.errors import UserError


def training(tokens):
    """Training rows that are given by hand."""
    manifest = SimpleNamespace(source="web")
    return SimpleNamespace(
        seq_len=tokens.shape[1] - 1,
        gather=lambda rows: tokens[rows],
        store=SimpleNamespace(manifest=manifest),
    )


def brute_force(judged, trained, window):
    """Which judged tokens lie in a window of text that a training row has."""
    seen = {tuple(row[at : at + window]) for row in trained for at in range(len(row) - window + 1)}
    covered = np.zeros(judged.tokens.shape, bool)
    for number, (row, text) in enumerate(zip(judged.tokens, judged.is_text, strict=True)):
        for at in range(len(row) - window + 1):
            if text[at : at + window].all() and tuple(row[at : at + window]) in seen:
                covered[number, at : at + window] = True
    return covered


def longest_run(covered):
    """Length of the longest run of true values in any row."""
    words = ["".join("x" if c else " " for c in row) for row in covered]
    return max(len(run) for word in words for run in word.split(" "))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    window=st.integers(1, 9),
    vocabulary=st.integers(2, 4),
    drawn=st.integers(1, 12),
)
def test_what_is_covered_is_what_brute_force_finds(seed, window, vocabulary, drawn):
    random = np.random.default_rng(seed)
    trained = random.integers(0, vocabulary, (12, 14)).astype(np.int32)
    ends = random.integers(window, 12, 6)
    judged = Judged(
        "held out",
        random.integers(0, vocabulary, (6, 11)).astype(np.int32),
        np.arange(11)[None] < ends[:, None],
    )
    found = overlap(judged, training(trained), np.arange(drawn), window=window)
    covered = brute_force(judged, trained[:drawn], window)
    assert found.covered == covered.sum()
    assert found.tokens == judged.is_text.sum() and found.rows == 6
    own = judged.is_text.sum(axis=1)
    assert found.rows_mostly_covered == (covered.sum(axis=1) > own / 2).sum()
    assert found.longest == longest_run(covered)
    if found.longest:
        run = covered[found.longest_row, found.longest_start :][: found.longest]
        assert run.all() and len(run) == found.longest
    assert (found.judged, found.training, found.training_rows) == ("held out", "web", drawn)
    assert found.share == pytest.approx(covered.sum() / judged.is_text.sum())


@pytest.mark.parametrize("window", [1, 2, 3, 7, 8, 13, 20])
def test_equal_windows_have_equal_hashes_and_others_do_not(window):
    tokens = np.random.default_rng(window).integers(0, 3, 4000).astype(np.int32)
    hashes = window_hashes(tokens, window)
    words = [tuple(tokens[at : at + window]) for at in range(len(tokens) - window + 1)]
    assert len(hashes) == len(words)
    assert len({*zip(hashes.tolist(), words, strict=True)}) == len(set(words)) == len(set(hashes))
    rows = tokens[:3990].reshape(19, 210)
    np.testing.assert_array_equal(
        window_hashes(rows, window), np.stack([window_hashes(row, window) for row in rows])
    )


def test_rows_that_are_not_drawn_do_not_count():
    rows = np.arange(40, dtype=np.int32).reshape(4, 10)
    judged = Judged("held out", rows[2:3], np.ones((1, 10), bool))
    assert overlap(judged, training(rows), np.array([0, 1, 3]), window=4).covered == 0
    whole = overlap(judged, training(rows), np.array([2]), window=4)
    assert (whole.covered, whole.rows_mostly_covered, whole.longest) == (10, 1, 10)


def test_a_task_is_its_contexts_with_their_right_choices():
    items = [Item("abc ", ("de", "fghij"), 0), Item("k", ("l", "m"), 1)]
    judged = right_answers("quiz", task_rows(items, byte_tokenizer(), document_mask=True))
    texts = [
        bytes(row[text].tolist()) for row, text in zip(judged.tokens, judged.is_text, strict=True)
    ]
    assert judged.name == "task quiz" and texts == [b"abc de", b"km"]


def test_windows_longer_than_rows_are_one_sentence():
    rows = np.zeros((2, 10), np.int32)
    judged = Judged("held out", rows, np.ones((2, 10), bool))
    with pytest.raises(UserError, match="rows of held out have 10 tokens and a window 11"):
        overlap(judged, training(rows), np.arange(2), window=11)
    short = Judged("held out", rows, np.arange(10)[None] < np.array([[3], [4]]))
    with pytest.raises(UserError, match="no row of held out has 5 tokens"):
        overlap(short, training(rows), np.arange(2), window=5)


def test_a_passage_of_a_held_out_document_in_a_training_document_is_found(
    tmp_path, monkeypatch, capsys
):
    """Through the command: a licence that all documents share, and nothing else."""
    random = np.random.default_rng(0)
    licence = "this text may be copied and changed by anyone who keeps this very line "

    def text(alphabet):
        words = ["".join(random.choice(list(alphabet), 6)) for _ in range(40)]
        return " ".join(words)

    for name, alphabet, head in (("generic", "abcdefgh", ""), ("target", "stuvwxyz", licence)):
        lines = [json.dumps({"text": head + text(alphabet)}) for _ in range(80)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.py").write_text(
        "from replay_jax.config.defaults import paper_config, source, tokenizer, model_sizes\n"
        "def get_config():\n"
        "    config = paper_config()\n"
        "    config.data.sources = {n: source('jsonl', n + '.jsonl', validation_fraction=0.3)\n"
        "                           for n in ('generic', 'target')}\n"
        "    config.data.tokenizer = tokenizer('bytes')\n"
        "    config.data.store_dir = 'stores'\n"
        "    config.data.generic, config.data.target = 'generic', 'target'\n"
        "    config.model = model_sizes('16,32,1,2,2,257')\n"
        "    config.training.update({'batch_size': 4, 'seq_len': 100})\n"
        "    config.schedule.target_sequences, config.schedule.target_epochs = 60, 1.0\n"
        "    config.schedule.total_steps = 30\n"
        "    config.evaluation = {'sequences': 40, 'batch_size': 8}\n"
        "    return config\n"
        "def sweep():\n"
        "    return [{}]\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["overlap", "recipe.py", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    found = {(each["judged"], each["training"]): each for each in printed}
    assert len(found) == 4
    own = found["held-out target", "target"]
    assert own["training_rows"] == 60 and own["window"] == 50
    # A document has 71 bytes of licence and 280 of its own; rows of 101 bytes cut many of them.
    assert 0.02 < own["share"] < 71 / 351
    # Its neighbours in two documents may happen to be alike.
    assert own["longest_text"][2:-2] in licence
    assert own["longest"] <= len(licence) + 4
    others = [each for key, each in found.items() if key != ("held-out target", "target")]
    assert [each["covered"] for each in others] == [0, 0, 0]
