"""What the commands about web navigation can be given."""

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from replay_jax.data.web.budgets import Budgets

Add = Callable[..., argparse.ArgumentParser]


def web_commands(commands: Any, add: Add) -> None:
    """Add `turns` and `score` to a command line by its own way to add commands."""
    turns = add(
        commands, "turns", "Turn records of WebLINX or Mind2Web into conversations to train on.",
        "replay-jax turns data/weblinx/train.json.gz --tokenizer=models/llama --out=turns.jsonl",
    )  # fmt: skip
    turns.add_argument("records", metavar="RECORDS", nargs="+", help="JSON lines or JSON lists, "
                       "named after their split")  # fmt: skip
    turns.add_argument("--out", required=True, metavar="FILE.jsonl", help="must not exist yet")
    turns.add_argument("--tokenizer", required=True, metavar="FOLDER",
                       help="of the model, by which budgets are measured; or a hub id")  # fmt: skip
    for field in fields(Budgets):
        turns.add_argument(f"--{field.name}", type=int, default=field.default, metavar="N",
                           help=f"most tokens of it (default: {field.default})")  # fmt: skip
    score = add(
        commands, "score", "Score predicted actions on the web turns of WebLINX or Mind2Web.",
        "replay-jax score predictions.jsonl data/weblinx/valid.json.gz", json=True,
    )  # fmt: skip
    score.add_argument("predictions", metavar="PREDICTIONS.jsonl",
                       help="demo, turn and prediction a line, perhaps a seed")  # fmt: skip
    score.add_argument("records", metavar="RECORDS", nargs="+", help="what was done")
    score.add_argument("--against", metavar="PREDICTIONS.jsonl",
                       help="others, to say the change and how sure it is")  # fmt: skip
    score.add_argument("--level", type=float, default=0.9, help="of intervals (default: 0.9)")
