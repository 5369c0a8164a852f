"""Minimal pairs (a right sentence and a wrong one) as a task file for `config.tasks`.

    python tools/minimal_pairs_task.py data/bl2mp.jsonl.gz data/bl2mp-task.jsonl

Reads JSON lines with sentence_good and sentence_bad, as BLiMP and BL2MP have them. A pair has no
context, so the whole sentences are compared; every second pair has the wrong sentence first, so
that neither place is favoured.
"""

import argparse
import json
import sys
from pathlib import Path

from replay_jax.data.file_sources import open_binary


def main() -> int:
    """Convert one file; returns 2 for a file without such pairs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("task", type=Path)
    arguments = parser.parse_args()
    lines: list[str] = []
    try:
        with open_binary(arguments.source) as pairs:
            for pair in map(json.loads, pairs):
                answer = len(lines) % 2
                choices = [pair["sentence_good"], pair["sentence_bad"]]
                item = {
                    "context": "",
                    "choices": choices[::-1] if answer else choices,
                    "answer": answer,
                }
                lines.append(json.dumps(item, ensure_ascii=False))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(
            f"minimal_pairs_task: {arguments.source}, line {len(lines) + 1} is no pair with "
            f"sentence_good and sentence_bad: {type(error).__name__} {error}",
            file=sys.stderr,
        )
        return 2
    arguments.task.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{arguments.task}: {len(lines)} items")
    return 0


if __name__ == "__main__":
    sys.exit(main())
