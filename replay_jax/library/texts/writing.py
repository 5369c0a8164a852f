"""Texts that a model writes itself, and its answers, as JSON lines.

Texts are for replay where the data that a model was trained on cannot be had: a source of kind
"jsonl" reads them. Answers are what `score` takes. Each depends on the model, its prompt, the seed
and its own number alone, whatever else is written beside it.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from replay_jax.errors import UserError
from replay_jax.generation.continuing import Prompt, Speaker, continuations
from replay_jax.generation.sampling import Sampling
from replay_jax.library.evaluating import Loaded
from replay_jax.library.texts.encoding import Encoding, encoding_of
from replay_jax.library.texts.prompts import (
    Begun,
    chat_prompts,
    check_lengths,
    nothing_begun,
    text_prompts,
)
from replay_jax.progress import step_by_step

_BATCHES = 16  # written at once; prompts of alike length are found among so many


@dataclass(frozen=True)
class Wanted:
    """Which texts are wanted.

    Attributes:
        count: of texts; None for one of each prompt.
        prompts: JSON lines with what each text begins with, again from the first where there are
            fewer than texts; None for texts that begin with nothing.
        field: of the prompts' records; None for conversations, which the chat template renders up
            to where the assistant speaks last.
        new_tokens: at most so many beyond the prompt.
        sampling: how tokens are drawn; None for the likeliest, of which there is one text only.
        seed: of all draws, uint32; every line has it.
    """

    count: int | None
    prompts: Path | None
    field: str | None
    new_tokens: int
    sampling: Sampling | None
    seed: int


def write_texts(loaded: Loaded, wanted: Wanted, out: Path, *, batch_size: int) -> tuple[int, int]:
    """Write them; returns how many texts, and how many tokens beyond their prompts.

    A line has `number` (from 0), `seed`, `new_tokens` and `ended`, whether the model ended the text
    itself; before these `text`, with its prompt, and `prompt`; of a conversation all fields of its
    record, and `prediction`. The file is there when it is whole.

    Raises:
        UserError: the file exists or cannot be written, a prompt is none or too long, or the model
            has no tokenizer or, for conversations, no chat template.
    """
    if out.exists():
        raise UserError(f"{out} exists already: choose another file, or delete it first")
    encoding = encoding_of(loaded)
    prompts = _prompts(encoding, wanted)
    count = len(prompts) if wanted.count is None else wanted.count
    _check(wanted, count)
    check_lengths(
        prompts[:count],
        new_tokens=wanted.new_tokens,
        positions=loaded.model.max_seq_len,
        name=loaded.name,
    )
    ends = encoding.ends | (encoding.answer_ends() if wanted.field is None else frozenset())
    speaker = Speaker(
        loaded.model, loaded.params, loaded.mesh, batch_size, ends, wanted.sampling, wanted.seed
    )
    partial, tokens = out.with_name(f".{out.name}.partial"), 0
    try:
        with open(partial, "w", encoding="utf-8") as file:
            for start in step_by_step(range(0, count, _BATCHES * batch_size), "writing texts"):
                numbers = range(start, min(count, start + _BATCHES * batch_size))
                begun = [(number, prompts[number % len(prompts)]) for number in numbers]
                tokens += _write(file, _texts(speaker, encoding, wanted, begun))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return count, tokens


def _prompts(encoding: Encoding, wanted: Wanted) -> list[Begun]:
    if wanted.prompts is None:
        return nothing_begun(encoding)
    if wanted.field is None:
        return chat_prompts(encoding, wanted.prompts)
    return text_prompts(encoding, wanted.prompts, wanted.field)


def _check(wanted: Wanted, count: int) -> None:
    if count < 1:
        raise UserError(f"{count} texts are nothing to write: ask for 1 or more")
    if not 0 <= wanted.seed < 2**32:
        raise UserError(f"seed {wanted.seed} must be in [0, 2**32)")
    if wanted.sampling is None and wanted.prompts is None and count > 1:
        raise UserError(
            f"{count:,} texts without prompts would all be the same greedy one: give prompts or a "
            "temperature"
        )


def _texts(
    speaker: Speaker, encoding: Encoding, wanted: Wanted, begun: Sequence[tuple[int, Begun]]
) -> Iterator[dict[str, Any]]:
    """Records of some texts, in their order."""
    prompts = [Prompt(each.tokens, number) for number, each in begun]
    said = continuations(speaker, prompts, new_tokens=wanted.new_tokens)
    for (number, each), new in zip(begun, said, strict=True):
        if wanted.field is None:
            written = {**each.about, "prediction": encoding.decode(new)}
        else:
            written = {"text": encoding.decode([*each.tokens, *new]), **each.about}
        yield {
            **written,
            "number": number,
            "seed": wanted.seed,
            "new_tokens": len(new),
            "ended": len(new) < wanted.new_tokens,
        }


def _write(file: TextIO, records: Iterator[dict[str, Any]]) -> int:
    """Write records as lines; returns their new tokens."""
    total = 0
    for record in records:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
        total += record["new_tokens"]
    return total
