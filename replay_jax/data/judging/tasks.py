"""Multiple-choice tasks: items from a JSON-lines file, their token rows, and their scores.

An item is `{"context": text, "choices": [text, ...], "answer": number}`. A choice is scored by its
log-likelihood after the context, without further training, in the convention of the
lm-evaluation-harness: spaces at the end of the context belong to the choice, and a choice is the
tokens of context and choice together beyond as many as the context has alone.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from replay_jax.data.reading.batch_rows import ALL_ROWS, BatchRows, row_numbers
from replay_jax.data.sources.durable import file_sha256
from replay_jax.data.sources.files import open_binary
from replay_jax.data.tokens.tokenizer import Tokenizer, token_ids
from replay_jax.errors import UserError

_KEYS = {"context", "choices", "answer"}


@dataclass(frozen=True)
class Item:
    """One question: what is read, what may follow, and which of it is right (from 0)."""

    context: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Task:
    """A task's file as it was found.

    Attributes:
        name: in configurations and reports.
        path: the file, absolute, as workers may stand elsewhere.
        digest: SHA-256 of the file, by which the task is known.
        items: how many there are.
        length: labels of the longest row (`TaskRows`); None where no tokenizer was at hand.
    """

    name: str
    path: str
    digest: str
    items: int
    length: int | None


@dataclass(frozen=True, eq=False)
class TaskRows:
    """Every choice of every item as a row of tokens, padded on the right.

    Attributes:
        tokens: int32 [R, L + 1]; inputs are all but the last, labels all but the first.
        counted: bool [R, L], the labels that belong to the choice.
        item: int64 [R], ascending.
        characters: int64 [R], of the choice's text.
        answer: int64 [items], the row that is right.
    """

    tokens: np.ndarray
    counted: np.ndarray
    item: np.ndarray
    characters: np.ndarray
    answer: np.ndarray


@dataclass(frozen=True)
class TaskScore:
    """What a model makes of a task.

    Attributes:
        correct: bool [items], whether the right choice is the most likely one.
        correct_by_length: the same with log-likelihoods per character of the choice.
        choice_nats: float [items], -log of the right choice's share of the probability that the
            choices have together: a loss, less noisy than being right or wrong.
    """

    correct: np.ndarray
    correct_by_length: np.ndarray
    choice_nats: np.ndarray


def find_task(name: str, path: str, tokenizer: Tokenizer | None, *, document_mask: bool) -> Task:
    """Read a task's file and check it.

    Args:
        name: of the task.
        path: JSON lines, also .gz or .zst.
        tokenizer: to measure rows with, None if there is none yet.
        document_mask: as in `task_rows`.

    Raises:
        UserError: no such file, or an item that is none; names the line.
    """
    place = Path(os.path.expanduser(path))
    items = read_items(place)
    length = None
    if tokenizer is not None:
        length = task_rows(items, tokenizer, document_mask=document_mask).counted.shape[1]
    return Task(name, os.path.abspath(place), file_sha256(place), len(items), length)


def load_task(task: Task) -> list[Item]:
    """The items of a task that was found before; raises UserError if its file has changed."""
    if file_sha256(Path(task.path)) != task.digest:
        raise UserError(f"{task.path} of task '{task.name}' has changed: run the command again")
    return read_items(Path(task.path))


def read_items(path: Path) -> list[Item]:
    """All items of a file in its order; blank lines are passed over.

    Raises:
        UserError: no such file, no item, or a line that is no item.
    """
    if not path.is_file():
        raise UserError(f"no task file '{path}': give JSON lines with context, choices and answer")
    try:
        items = list(_items(path))
    except (EOFError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not items:
        raise UserError(f"{path} has no item")
    return items


def task_rows(items: list[Item], tokenizer: Tokenizer, *, document_mask: bool) -> TaskRows:
    """Token rows of all choices.

    A row begins with what precedes a document in training: its own first token if documents have
    one, else the token that ends documents, else (documents masked) nothing. A choice whose context
    is empty then follows the token that ends documents, as in the harness.

    Raises:
        UserError: a choice adds no token to its context.
    """
    end_id = tokenizer.eos_id
    first = [end_id] if tokenizer.bos_id is None else [tokenizer.bos_id]
    split = [len(item.context.rstrip()) for item in items]
    heads = _encode(tokenizer, [item.context[:at] for item, at in zip(items, split, strict=True)])
    begins_bare = tokenizer.bos_id is None and document_mask
    starts = [[] if begins_bare and len(head) else first for head in heads]
    pairs = [(number, choice) for number, item in enumerate(items) for choice in item.choices]
    wholes = _encode(tokenizer, [items[number].context + choice for number, choice in pairs])
    for (number, choice), whole in zip(pairs, wholes, strict=True):
        if len(whole) <= len(heads[number]):
            raise UserError(
                f"item {number + 1} of the task: the choice {choice!r} adds no token to its context"
            )
    begun = [[*starts[number], *text] for (number, _), text in zip(pairs, wholes, strict=True)]
    length = max(map(len, begun)) - 1
    tokens = np.full((len(pairs), length + 1), end_id, np.int32)
    counted = np.zeros((len(pairs), length), bool)
    for row, ((number, _), text) in enumerate(zip(pairs, begun, strict=True)):
        before = len(starts[number]) + len(heads[number])
        tokens[row, : len(text)] = text
        counted[row, before - 1 : len(text) - 1] = True
    firsts = np.cumsum([0, *(len(item.choices) for item in items[:-1])])
    return TaskRows(
        tokens=tokens,
        counted=counted,
        item=np.array([number for number, _ in pairs]),
        characters=np.array([len(choice) for _, choice in pairs]),
        answer=firsts + np.array([item.answer for item in items]),
    )


def task_batches(
    rows: TaskRows, *, batch_size: int, batch_rows: BatchRows = ALL_ROWS
) -> Iterator[dict[str, np.ndarray]]:
    """These rows of every batch, as a train step takes them; the last batch is padded.

    Only the labels of choices have weight.
    """
    return row_batches(rows.tokens, rows.counted, batch_size=batch_size, batch_rows=batch_rows)


def row_batches(
    tokens: np.ndarray, counted: np.ndarray, *, batch_size: int, batch_rows: BatchRows = ALL_ROWS
) -> Iterator[dict[str, np.ndarray]]:
    """`task_batches` of tokens int32 [R, L + 1] and the labels with weight, bool [R, L]."""
    chosen = row_numbers(batch_rows, batch_size)
    for start in range(0, len(tokens), batch_size):
        row = start + chosen
        real = row < len(tokens)
        # Padding repeats the last row: any valid tokens do, since their weight is 0.
        filled = np.minimum(row, len(tokens) - 1)
        yield {
            "inputs": np.ascontiguousarray(tokens[filled, :-1]),
            "labels": np.ascontiguousarray(tokens[filled, 1:]),
            "loss_weights": (counted[filled] & real[:, None]).astype(np.float32),
            "source": np.zeros(len(row), np.int32),
        }


def score_rows(rows: TaskRows, nats: np.ndarray) -> TaskScore:
    """What the choices' negative log-likelihoods [R] in nats make of every item.

    Of equally likely choices the first one counts as chosen.
    """
    ends = np.append(np.flatnonzero(np.diff(rows.item)) + 1, len(rows.item))
    starts = np.concatenate([[0], ends[:-1]])
    correct, by_length, choice_nats = [], [], []
    for start, end, answer in zip(starts, ends, rows.answer, strict=True):
        own = nats[start:end].astype(np.float64)
        right = answer - start
        correct.append(np.argmin(own) == right)
        by_length.append(np.argmin(own / rows.characters[start:end]) == right)
        choice_nats.append(own[right] + np.logaddexp.reduce(-own))
    return TaskScore(np.array(correct), np.array(by_length), np.array(choice_nats))


def _items(path: Path) -> Iterator[Item]:
    with open_binary(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    value = json.loads(line)
                except UnicodeDecodeError:
                    raise
                except (ValueError, RecursionError) as error:  # no JSON, nested without end
                    raise UserError(f"{path}, line {number} is not JSON: {error}") from error
                wrong = _what_is_wrong(value)
                if wrong:
                    raise UserError(f"{path}, line {number}: {wrong}")
                yield Item(value["context"], tuple(value["choices"]), value["answer"])


def _what_is_wrong(value: Any) -> str:
    if not isinstance(value, Mapping) or not value.keys() >= _KEYS:
        return "an item needs context, choices and answer"
    choices, answer = value["choices"], value["answer"]
    if not isinstance(value["context"], str):
        return f"context must be text, not {value['context']!r}"
    if not isinstance(choices, list) or not all(isinstance(c, str) and c for c in choices):
        return f"choices must be texts that are not empty, not {choices!r}"
    if not all(_is_whole(text) for text in (value["context"], *choices)):
        return "half a surrogate pair, which is not text"
    if len(set(choices)) != len(choices) or len(choices) < 2:
        return f"there must be two or more different choices, not {choices!r}"
    if type(answer) is not int or not 0 <= answer < len(choices):
        return f"answer must be from 0 to {len(choices) - 1}, not {answer!r}"
    return ""


def _is_whole(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    return token_ids(tokenizer.encode_batch(texts))
