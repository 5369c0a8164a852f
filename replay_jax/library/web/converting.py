"""Web records as conversations that training reads."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from replay_jax.data.sources.durable import write_durably
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.tokenizer import load_tokenizer, token_ids
from replay_jax.data.web.budgets import Budgets
from replay_jax.data.web.prompting import conversation_of
from replay_jax.data.web.reading import read_turns
from replay_jax.errors import UserError


@dataclass(frozen=True)
class Converted:
    """What was written: turns, those without a right element, and tokens of prompt and action.

    longest: tokens of the longest prompt with its action, without what a chat template adds.
    """

    turns: int
    without_element: int
    prompt_tokens: int
    action_tokens: int
    longest: int


def convert(
    records: Sequence[str | Path], out: str | Path, *, tokenizer: str, budgets: Budgets
) -> Converted:
    """Write a file of kind `conversations`: a line for every turn, its loss on the action alone.

    Args:
        records: files of WebLINX or Mind2Web.
        out: JSON lines; must not exist yet.
        tokenizer: folder, file or hub id of the model's, by which budgets are measured.
        budgets: of the parts of a prompt.

    Raises:
        UserError: a record or tokenizer that cannot be read, or `out` exists.
    """
    place = Path(out).expanduser()
    if place.exists():
        raise UserError(f"{place} exists already: remove it or name another file")
    measuring = load_tokenizer(TokenizerConfig(kind="file", path=tokenizer))
    turns = read_turns(records)
    kept = [turn for turn in turns if turn.learnable]
    found = [conversation_of(turn, measuring, budgets) for turn in kept]
    prompts, actions = (
        [len(ids) for ids in token_ids(measuring.encode_batch([each[name] for each in found]))]
        for name in ("prompt", "completion")
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(each, ensure_ascii=False) + "\n" for each in found)
    write_durably(place, "".join(lines))
    longest = max(map(sum, zip(prompts, actions, strict=True)), default=0)
    return Converted(len(kept), len(turns) - len(kept), sum(prompts), sum(actions), longest)
