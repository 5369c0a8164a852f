"""Multiple-choice tasks: rows and scores by hand, then through a whole sweep."""

import contextlib
import dataclasses
import gzip
import io
import json
import math
import runpy
import shutil
import sys
from unittest import mock

import jax
import numpy as np
import pytest
from places import ROOT
from tiny_sweep import RHO, SEQ_LEN, results_of
from tiny_training import MODEL, drawn_parameters, mesh_of

from replay_jax.config.grid import grid
from replay_jax.data.judging.tasks import (
    Item,
    find_task,
    load_task,
    read_items,
    score_rows,
    task_batches,
    task_rows,
)
from replay_jax.data.sources.documents import document_hash, held_out_below
from replay_jax.data.tokens.bpe_training import train_bpe
from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.errors import UserError
from replay_jax.library.evaluating import load_run, score, summary
from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.config import StepShape
from replay_jax.training.evaluate import compile_evaluation, row_losses
from replay_jax.training.step import place_batch

BYTES = byte_tokenizer()
EOS = BYTES.eos_id
ITEMS = [Item("ab ", ("c", "def"), 1), Item("xyz", ("!", "?", "??"), 0)]


def lines(path, items):
    """A task file."""
    records = [{"context": i.context, "choices": i.choices, "answer": i.answer} for i in items]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_rows_are_context_and_choice_after_what_precedes_a_document():
    """The space at the end of a context belongs to the choice, as in the harness."""
    rows = task_rows(ITEMS, BYTES, document_mask=False)
    assert rows.tokens.shape == (5, 7) and rows.tokens.dtype == np.int32
    assert rows.tokens[1].tolist() == [EOS, *b"ab def"]
    assert rows.tokens[0].tolist() == [EOS, *b"ab c", EOS, EOS]
    assert rows.counted[0].tolist() == [False, False, True, True, False, False]
    assert rows.counted[1].tolist() == [False, False, True, True, True, True]
    assert rows.counted[4].tolist() == [False, False, False, True, True, False]
    assert rows.item.tolist() == [0, 0, 1, 1, 1]
    assert rows.characters.tolist() == [1, 3, 1, 1, 2]
    assert rows.answer.tolist() == [1, 2]
    labels = rows.tokens[:, 1:]
    assert bytes(labels[1][rows.counted[1]].tolist()) == b" def"


def test_masked_documents_are_preceded_by_nothing():
    rows = task_rows(ITEMS, BYTES, document_mask=True)
    assert rows.tokens[1].tolist() == [*b"ab def"]
    assert rows.counted[1].tolist() == [False, True, True, True, True]
    begun = dataclasses.replace(BYTES, bos_id=7)
    assert task_rows(ITEMS, begun, document_mask=True).tokens[1].tolist() == [7, *b"ab def"]
    # What would follow nothing follows an end, as in the harness; beside it a context does not.
    mixed = task_rows([Item(" ", ("a", "b"), 0), ITEMS[0]], BYTES, document_mask=True)
    assert mixed.tokens[0].tolist() == [EOS, *b" a", EOS, EOS, EOS]
    assert mixed.counted[0].tolist() == [True, True, False, False, False]
    assert mixed.tokens[3].tolist() == [*b"ab def"]


def test_a_choice_is_what_the_whole_has_beyond_the_context():
    """With merges over the seam the tokens of the context alone need not begin the whole."""
    tokenizer = train_bpe(["to be or not to be, that is the question"] * 9, 270)
    item = Item("that is the", (" question", " be"), 0)
    rows = task_rows([item], tokenizer, document_mask=False)
    head = len(tokenizer.encode(item.context))
    for row, choice in enumerate(item.choices):
        whole = tokenizer.encode(item.context + choice).tolist()
        labels = rows.tokens[row, 1:][rows.counted[row]].tolist()
        assert labels == whole[head:] != []
    merged = Item("t", ("o", "h"), 0)
    assert len(tokenizer.encode("to")) == 1
    with pytest.raises(UserError, match="item 1 .* 'o' adds no token"):
        task_rows([merged], tokenizer, document_mask=False)


def test_scores_by_hand():
    rows = task_rows(ITEMS, BYTES, document_mask=False)
    score = score_rows(rows, np.array([2.0, 3.0, 1.0, 1.0, 0.5], np.float32))
    # 3 nats over three characters beat 2 over one; a tie goes to the first choice.
    assert score.correct.tolist() == [False, False]
    assert score.correct_by_length.tolist() == [True, False]
    first = -math.log(math.exp(-3) / (math.exp(-2) + math.exp(-3)))
    second = -math.log(math.exp(-1) / (2 * math.exp(-1) + math.exp(-0.5)))
    np.testing.assert_allclose(score.choice_nats, [first, second], rtol=1e-12)
    tied = score_rows(rows, np.array([9.0, 1.0, 1.0, 1.0, 4.0], np.float32))
    assert tied.correct.tolist() == [True, True]


@pytest.mark.parametrize("hosts", [1, 2])
def test_batches_hold_every_row_once(hosts):
    rows = task_rows(ITEMS, BYTES, document_mask=False)
    seen, weight = [], 0.0
    for host in range(hosts):
        part = slice(host, None, hosts)
        for batch in task_batches(rows, batch_size=4, batch_rows=part):
            assert batch["inputs"].shape == (4 // hosts, 6)
            real = batch["loss_weights"].any(axis=1)
            seen += [bytes(row[row < EOS].tolist()) for row in batch["labels"][real]]
            weight += float(batch["loss_weights"].sum())
    assert sorted(seen) == sorted([b"ab c", b"ab def", b"xyz!", b"xyz?", b"xyz??"])
    assert weight == rows.counted.sum()


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2)])
def test_row_losses_are_the_choices_log_likelihoods(sizes):
    """Against a softmax over all logits, row by row, on one device and on eight."""
    random = np.random.default_rng(0)
    items = [
        Item("".join(random.choice(list("abcdef"), 7)), ("gh", "i", "jkl"), int(number) % 3)
        for number in range(5)
    ]
    rows = task_rows(items, BYTES, document_mask=False)
    model = MODEL.__class__(**{**MODEL.__dict__, "vocab_size": 264})
    mesh = mesh_of(*sizes)
    shape = StepShape(model, batch_size=8, seq_len=rows.counted.shape[1], sources=1)
    params = drawn_parameters(model, mesh)
    batches = [place_batch(batch, mesh) for batch in task_batches(rows, batch_size=8)]
    nats = row_losses(compile_evaluation(shape, mesh), params, batches, rows=len(rows.tokens))
    whole = jax.device_get(params)

    @jax.jit
    def log_probabilities(params, inputs):
        hidden = build_transformer(model, platform="cpu").apply({"params": params}, inputs)
        return jax.nn.log_softmax(hidden @ head_kernel(params))

    log_p = np.asarray(log_probabilities(whole, rows.tokens[:, :-1]))
    each = -np.take_along_axis(log_p, rows.tokens[:, 1:, None], axis=2)[:, :, 0]
    np.testing.assert_allclose(nats, (each * rows.counted).sum(axis=1), rtol=2e-5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2: an item needs context, choices and answer"),
        ('{"context": "a", "choices": ["b", "c"]}', "needs context, choices and answer"),
        ('{"context": 1, "choices": ["b", "c"], "answer": 0}', "context must be text, not 1"),
        ('{"context": "a", "choices": ["b", ""], "answer": 0}', "texts that are not empty"),
        ('{"context": "a", "choices": ["b"], "answer": 0}', "two or more different choices"),
        ('{"context": "a", "choices": ["b", "b"], "answer": 0}', "two or more different"),
        ('{"context": "a", "choices": ["b", "c"], "answer": 2}', "answer must be from 0 to 1"),
        ('{"context": "a", "choices": ["b", "c"], "answer": true}', "not True"),
        ('{"context": "\\ud83d", "choices": ["b", "c"], "answer": 0}', "half a surrogate pair"),
        ('{"context": "a", "choices": ["b", "\\udc00"], "answer": 0}', "half a surrogate pair"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("1" * 5000, "line 2 is not JSON"),
    ],
)
def test_lines_that_are_no_items_are_one_sentence(tmp_path, line, words):
    path = tmp_path / "task.jsonl"
    path.write_text('{"context": "a", "choices": ["b", "c"], "answer": 0}\n' + line + "\n")
    with pytest.raises(UserError) as refusal:
        read_items(path)
    assert words in str(refusal.value) and str(path) in str(refusal.value)


def test_files_that_are_none_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no task file"):
        read_items(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="has no item"):
        read_items(tmp_path / "empty.jsonl")
    (tmp_path / "bad.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="cannot be read"):
        read_items(tmp_path / "bad.jsonl.gz")


def test_a_compressed_task_is_the_same_items(tmp_path):
    plain = lines(tmp_path / "task.jsonl", ITEMS)
    (tmp_path / "task.jsonl.gz").write_bytes(gzip.compress((tmp_path / "task.jsonl").read_bytes()))
    assert read_items(tmp_path / "task.jsonl.gz") == read_items(tmp_path / "task.jsonl") == ITEMS
    task = find_task("it", plain, BYTES, document_mask=False)
    assert (task.items, task.length, load_task(task)) == (2, 6, ITEMS)
    lines(tmp_path / "task.jsonl", ITEMS[:1])
    with pytest.raises(UserError, match="of task 'it' has changed"):
        load_task(task)


# Files from elsewhere.


def converted(kind, source, task):
    """What the tool makes of a file: its exit code, its words, the task's items."""
    code, words = tool("convert_task.py", kind, str(source), str(task))
    return code, words, read_items(task) if task.exists() else []


def tool(name, *arguments):
    """Run a tool as Python does, in this process: its exit code, and its complaints."""
    words = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [name, *arguments]),
        contextlib.redirect_stderr(words),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_path(str(ROOT / "tools" / name), run_name="__main__")
    return ended.value.code, words.getvalue()


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    line = json.dumps({"context": "a", "choices": ["b", "c"], "answer": 0})
    (tmp_path / "it.jsonl").write_text(line + "\n")
    task = find_task("it", "~/it.jsonl", BYTES, document_mask=False)
    assert task.path == str(tmp_path / "it.jsonl") and len(load_task(task)) == 1


def test_minimal_pairs_take_turns_in_being_first(tmp_path):
    pairs = [{"sentence_good": f"good {n}", "sentence_bad": f"bad {n}"} for n in range(3)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    code, _, items = converted("minimal_pairs", tmp_path / "pairs.jsonl", tmp_path / "task.jsonl")
    assert code == 0 and [item.answer for item in items] == [0, 1, 0]
    assert [item.choices[item.answer] for item in items] == ["good 0", "good 1", "good 2"]
    assert {item.context for item in items} == {""}


def test_xcopa_becomes_premise_connector_and_choice(tmp_path):
    question = {
        "premise": "Gizona joan zen. ", "choice1": "Nekatuta zegoen.", "choice2": "Kalean zegoen.",
        "question": "cause", "label": 1,
    }  # fmt: skip
    (tmp_path / "xcopa.jsonl").write_text(json.dumps(question, ensure_ascii=False))
    code, _, items = converted("xcopa", tmp_path / "xcopa.jsonl", tmp_path / "task.jsonl")
    choices = ("nekatuta zegoen.", "kalean zegoen.")
    assert code == 0 and items == [Item("Gizona joan zen. Izan ere, ", choices, 1)]


def test_continuations_are_those_of_held_out_documents(tmp_path):
    """Right choices follow their context in a held-out document, wrong ones in no such place."""
    random = np.random.default_rng(0)
    texts = [
        " ".join("".join(random.choice(list("abcdefgh"), 5)) for _ in range(60)) for _ in range(80)
    ]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    (tmp_path / "recipe.py").write_text(
        "from replay_jax.config.defaults import paper_config, source\n"
        "def get_config():\n"
        "    config = paper_config()\n"
        f"    path = {str(tmp_path / 'some.jsonl')!r}\n"
        "    some = source('jsonl', path, validation_fraction=0.5)\n"
        "    config.data.sources = {'some': some, 'c4': some}\n"
        "    config.data.target = 'some'\n"
        "    return config\n"
        "def sweep():\n"
        "    return [{}]\n"
    )
    task = tmp_path / "tasks" / "task.jsonl"
    recipe = tmp_path / "recipe.py"

    def run(*arguments):
        return tool("continuation_task.py", str(recipe), *arguments)

    code, words = run("some", str(task), "--items=20", "--context=40", "--choice=25")
    assert code == 0, words
    held = [t for t in texts if document_hash(t.encode()) < held_out_below(0.5)]
    items = read_items(task)
    assert len(items) == 20 and [item.answer for item in items[:5]] == [0, 1, 2, 3, 0]
    for item in items:
        follows = [any(item.context + choice in text for text in held) for choice in item.choices]
        assert follows == [number == item.answer for number in range(4)]
    again = tmp_path / "again.jsonl"
    run("some", str(again), "--items=20", "--context=40", "--choice=25")
    assert again.read_bytes() == task.read_bytes()
    code, words = run("some", str(task), "--items=999")
    assert code == 2 and "lower --items" in words
    code, words = run("other", str(task))
    assert code == 2 and "no source 'other', only c4, some" in words


@pytest.mark.parametrize("kind", ["minimal_pairs", "xcopa"])
def test_a_file_of_something_else_is_one_sentence(tmp_path, kind):
    (tmp_path / "other.jsonl").write_text('{"text": "a"}\n')
    code, words, items = converted(kind, tmp_path / "other.jsonl", tmp_path / "task.jsonl")
    assert code == 2 and items == []
    assert words.count("\n") == 1 and f"other.jsonl, line 1 is no item of {kind}" in words


# Through a sweep.


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """Does a word go on with letters of the target (s to z), or with those of no source?"""
    random = np.random.default_rng(1)

    def word(alphabet):
        return "".join(random.choice(list(alphabet), 4))

    items = []
    for number in range(40):
        choices = [word("stuvwxyz"), word("ABCDEFGH")]
        answer = number % 2
        items.append(Item(word("stuvwxyz") + " ", tuple(choices[:: -1 if answer else 1]), answer))
    return lines(tmp_path_factory.mktemp("tasks") / "letters.jsonl", items)


@pytest.fixture(scope="module")
def scored(study, letters, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("scored")
    outcome = study.train(
        grid({RHO: [0.0, 0.5]}),
        workdir,
        here=True,
        tasks={"letters": letters},
        execution__keep_states=True,
    )
    assert (outcome.failures, outcome.results) == ((), 2)
    return workdir


def test_every_run_is_scored_on_its_way_and_at_its_end(scored, letters):
    for record in results_of(scored).values():
        found = record["tasks"]["letters"]
        assert found["items"] == len(found["correct"]) == len(found["correct_by_length"]) == 40
        assert found["accuracy"] == found["correct"].count("1") / 40
        steps = [point["step"] for point in found["curve"]]
        assert steps == [point["step"] for point in record["curve"]]
        last = found["curve"][-1]
        assert (last["accuracy"], last["choice_loss"]) == (found["accuracy"], found["choice_loss"])
        # Twelve steps on the target's letters are enough to know them from others.
        assert found["accuracy"] > 0.9
        assert found["choice_loss"] < math.log(2)
        assert found["curve"][0]["choice_loss"] > found["choice_loss"]
        again = summary(score(load_run(scored, record["id"]), letters, batch_size=16))
        assert again["accuracy"] == found["accuracy"]
        assert again["choice_nats"] == pytest.approx(found["choice_loss"], rel=1e-5)
    assert verify(scored) == ([], 2)


def test_scores_do_not_change_the_training(study, scored, tmp_path):
    """The same states, and the ids of runs without tasks are what they were."""
    plain = study.plan([{RHO: 0.5}], None).runs[0]
    of_both = {run["id"]: run["path"][-1]["digest"] for run in WorkStore(scored).runs()}
    assert plain.id not in of_both
    assert plain.chain[-1].tobytes().hex() in of_both.values()


def test_a_task_that_is_added_later_is_only_measured(study, scored, letters, tmp_path):
    """States are known by their digest, so kept ones are scored without any training."""
    copy, other = tmp_path / "copy", tmp_path / "other.jsonl"
    shutil.copytree(scored, copy)
    shutil.copy(letters, other)
    tasks = {"letters": letters, "again": str(other)}
    sweep = grid({RHO: [0.0, 0.5]})
    assert study.plan(sweep, copy, tasks=tasks, execution__keep_states=True).steps_remaining == 0
    outcome = study.train(sweep, copy, here=True, tasks=tasks, execution__keep_states=True)
    assert (outcome.failures, outcome.results) == ((), 2)
    before = results_of(scored)
    for name, record in results_of(copy).items():
        assert record["losses"] == before[name]["losses"]
        assert record["tasks"]["letters"]["correct"] == before[name]["tasks"]["letters"]["correct"]
        assert record["tasks"]["again"]["correct"] == record["tasks"]["letters"]["correct"]
        assert [point["step"] for point in record["tasks"]["again"]["curve"]] == [12]


def test_a_task_with_longer_rows_than_the_model_takes_is_refused(study, tmp_path):
    path = lines(tmp_path / "long.jsonl", [Item("a" * SEQ_LEN, ("b", "c"), 0)])
    with pytest.raises(UserError, match="'long' has rows of 17 tokens and model.max_seq_len is 16"):
        study.plan([{}], None, tasks={"long": path})
