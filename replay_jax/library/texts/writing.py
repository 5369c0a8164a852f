"""Texts that a model writes itself, as JSON lines that a source of kind "jsonl" reads.

For replay where the data that a model was trained on cannot be had. Each text depends on the model,
its prompt, the seed and its own number alone, whatever else is written beside it.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from replay_jax.data.sources.files import read_objects
from replay_jax.errors import UserError
from replay_jax.generation.continuing import Prompt, Speaker, continuations
from replay_jax.generation.sampling import Sampling
from replay_jax.library.evaluating import Loaded
from replay_jax.library.texts.encoding import Encoding, encoding_of
from replay_jax.progress import step_by_step

_BATCHES = 16  # written at once; prompts of alike length are found among so many


@dataclass(frozen=True)
class Wanted:
    """Which texts are wanted.

    Attributes:
        count: of texts; None for one of each prompt.
        prompts: JSON lines with what each text begins with, again from the first where there are
            fewer than texts; None for texts that begin with nothing.
        field: of the prompts' records.
        new_tokens: at most so many beyond the prompt.
        sampling: how tokens are drawn; None for the likeliest, of which there is one text only.
        seed: of all draws, uint32.
    """

    count: int | None
    prompts: Path | None
    field: str
    new_tokens: int
    sampling: Sampling | None
    seed: int


def write_texts(loaded: Loaded, wanted: Wanted, out: Path, *, batch_size: int) -> tuple[int, int]:
    """Write them; returns how many texts, and how many tokens beyond their prompts.

    A line has `text`, `prompt`, `number` (from 0), `seed`, `new_tokens` and `ended`, whether the
    model ended the text itself. The file is there when it is whole.

    Raises:
        UserError: the file exists or cannot be written, a prompt is none or too long, or the model
            has no tokenizer.
    """
    if out.exists():
        raise UserError(f"{out} exists already: choose another file, or delete it first")
    encoding = encoding_of(loaded)
    prompts = [""] if wanted.prompts is None else read_prompts(wanted.prompts, wanted.field)
    count = len(prompts) if wanted.count is None else wanted.count
    _check(wanted, count)
    speaker = Speaker(
        loaded.model, loaded.params, loaded.mesh, batch_size, encoding.ends, wanted.sampling,
        wanted.seed,
    )  # fmt: skip
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


def read_prompts(path: Path, field: str) -> list[str]:
    """A field of every record of a file of JSON lines (also .gz, .zst).

    Raises:
        UserError: no such file, no record, or one without a text in that field; names the line.
    """
    return [_prompt(record, field, where) for where, record in read_objects(path, "prompts")]


def _prompt(record: Mapping[str, Any], field: str, where: str) -> str:
    if field not in record:
        raise UserError(f"{where} has no field {field!r}: name the prompts' with --field")
    if not isinstance(record[field], str):
        raise UserError(f"{where}: {field} must be text, not {record[field]!r}")
    return str(record[field])


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
    speaker: Speaker, encoding: Encoding, wanted: Wanted, begun: Sequence[tuple[int, str]]
) -> Iterator[dict[str, Any]]:
    """Records of some texts, in their order."""
    tokens = [encoding.encode(text) or [encoding.prefix_id] for _, text in begun]
    prompts = [Prompt(own, number) for own, (number, _) in zip(tokens, begun, strict=True)]
    said = continuations(speaker, prompts, new_tokens=wanted.new_tokens)
    for (number, prompt), own, new in zip(begun, tokens, said, strict=True):
        yield {
            "text": encoding.decode([*own, *new]),
            "prompt": prompt,
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
