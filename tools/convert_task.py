"""Published multiple-choice data as a task file for `config.tasks`.

    python tools/convert_task.py xcopa xcopa-eu/test.jsonl data/xcopa-eu.jsonl
    python tools/convert_task.py minimal_pairs data/bl2mp.jsonl.gz runs/tasks/bl2mp.jsonl

xcopa: premise, choice1, choice2, question ("cause" or "effect") and label, as HiTZ/XCOPA-eu has
them. The prompt is that of the lm-evaluation-harness for Basque: the premise, the connector, and a
choice in lower case; other languages have other connectors (--cause, --effect).
minimal_pairs: sentence_good and sentence_bad, as BLiMP and BL2MP have them. A pair has no context,
so the whole sentences are compared; every second pair has the wrong sentence first, so that
neither place is favoured.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from replay_jax.data.sources.files import open_binary

Record = dict[str, Any]


def xcopa(record: Record, number: int, arguments: argparse.Namespace) -> Record:
    """A question of XCOPA."""
    connector = {"cause": arguments.cause, "effect": arguments.effect}[record["question"]]
    choices = [record[key][0].lower() + record[key][1:] for key in ("choice1", "choice2")]
    context = f"{record['premise'].strip()} {connector} "
    return {"context": context, "choices": choices, "answer": int(record["label"])}


def minimal_pair(record: Record, number: int, arguments: argparse.Namespace) -> Record:
    """A right sentence and a wrong one."""
    choices, answer = [record["sentence_good"], record["sentence_bad"]], number % 2
    return {"context": "", "choices": choices[::-1] if answer else choices, "answer": answer}


KINDS = {"xcopa": xcopa, "minimal_pairs": minimal_pair}


def main() -> int:
    """Convert one file; returns 2 for a file that is not of its kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("source", type=Path, help="JSON lines, also .gz or .zst")
    parser.add_argument("task", type=Path)
    parser.add_argument("--cause", default="Izan ere,", help="connector before a cause (xcopa)")
    parser.add_argument("--effect", default="Beraz,", help="connector before an effect (xcopa)")
    arguments = parser.parse_args()
    lines: list[str] = []
    try:
        with open_binary(arguments.source) as records:
            for record in map(json.loads, records):
                item = KINDS[arguments.kind](record, len(lines), arguments)
                lines.append(json.dumps(item, ensure_ascii=False))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        print(
            f"convert_task: {arguments.source}, line {len(lines) + 1} is no item of "
            f"{arguments.kind}: {type(error).__name__} {error}",
            file=sys.stderr,
        )
        return 2
    arguments.task.parent.mkdir(parents=True, exist_ok=True)
    arguments.task.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{arguments.task}: {len(lines)} items")
    return 0


if __name__ == "__main__":
    sys.exit(main())
