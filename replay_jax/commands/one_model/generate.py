"""`generate`: texts that a model writes itself, and its answers."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from replay_jax.errors import UserError


def generate(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Write texts into a file of JSON lines, and say how many."""
    from replay_jax.commands.one_model.loading import load
    from replay_jax.generation.sampling import Sampling
    from replay_jax.library.texts.writing import Wanted, write_texts

    if arguments.chat and arguments.prompts is None:
        raise UserError("--chat asks for answers: give --prompts=FILE.jsonl of conversations")
    sampling = None
    if not arguments.greedy:
        sampling = Sampling(arguments.temperature, arguments.top_k, arguments.top_p)
    wanted = Wanted(
        arguments.count,
        None if arguments.prompts is None else Path(arguments.prompts).expanduser(),
        None if arguments.chat else arguments.field,
        arguments.new_tokens,
        sampling,
        arguments.seed,
    )
    out = Path(arguments.out).expanduser()
    texts, tokens = write_texts(load(arguments), wanted, out, batch_size=arguments.batch)
    said = {"file": str(out), "texts": texts, "new_tokens": tokens}
    print(json.dumps(said) if arguments.json else f"{out}: {texts:,} texts, {tokens:,} new tokens")
    return 0
