"""A task file with examples before every item, for `config.tasks`.

    python tools/few_shot_task.py data/xcopa-eu.jsonl runs/tasks/xcopa-eu-5.jsonl --shots=5
    python tools/few_shot_task.py data/xcopa-eu.jsonl out.jsonl --shots=5 --examples=data/val.jsonl

A task is known by the content of its file, so the examples, their number and their seed are part of
what a run is scored on, and nothing else is. A row must be no longer than `model.max_seq_len`.
"""

import argparse
import json
import sys
from pathlib import Path

from replay_jax.data.judging.few_shot import few_shot
from replay_jax.data.judging.tasks import read_items
from replay_jax.errors import UserError


def main() -> int:
    """Write the file; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("task", type=Path, help="JSON lines, also .gz or .zst")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--shots", type=int, required=True, help="examples before each item")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument("--examples", type=Path,
                        help="what to draw from (default: the task's own other items)")  # fmt: skip
    given = parser.parse_args()
    try:
        examples = None if given.examples is None else read_items(given.examples)
        made = few_shot(read_items(given.task), given.shots, seed=given.seed, examples=examples)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    records = ({"context": i.context, "choices": i.choices, "answer": i.answer} for i in made)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("".join(lines), encoding="utf-8")
    print(f"{given.out}: {len(lines)} items, {given.shots} examples before each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
