"""XCOPA as a multiple-choice task file for `config.tasks`.

    python tools/xcopa_task.py xcopa-eu/test.jsonl data/xcopa-eu.jsonl

Reads JSON lines with premise, choice1, choice2, question ("cause" or "effect") and label, as
HiTZ/XCOPA-eu has them, and writes context, choices and answer. The prompt is that of the
lm-evaluation-harness for Basque: the premise, the connector, and a choice in lower case; other
languages have other connectors (--cause, --effect).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

KEYS = ("premise", "choice1", "choice2", "question", "label")


def item(record: dict[str, Any], connectors: dict[str, str]) -> dict[str, Any]:
    """One question as `replay_jax.data.tasks` reads it."""
    choices = [record[key][0].lower() + record[key][1:] for key in ("choice1", "choice2")]
    context = f"{record['premise'].strip()} {connectors[record['question']]} "
    return {"context": context, "choices": choices, "answer": int(record["label"])}


def main() -> int:
    """Convert one file; returns 2 for a file that is not XCOPA's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("--cause", default="Izan ere,", help="connector before a cause")
    parser.add_argument("--effect", default="Beraz,", help="connector before an effect")
    arguments = parser.parse_args()
    connectors = {"cause": arguments.cause, "effect": arguments.effect}
    lines: list[str] = []
    try:
        for line in arguments.source.read_text(encoding="utf-8").splitlines():
            found = item(json.loads(line), connectors)
            lines.append(json.dumps(found, ensure_ascii=False))
    except (OSError, ValueError) as error:
        print(f"xcopa_task: {arguments.source} cannot be read: {error}", file=sys.stderr)
        return 2
    except (KeyError, TypeError, IndexError) as error:
        print(
            f"xcopa_task: {arguments.source}, line {len(lines) + 1} is no question of XCOPA with "
            f"{', '.join(KEYS)}: {type(error).__name__} {error}",
            file=sys.stderr,
        )
        return 2
    arguments.task.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{arguments.task}: {len(lines)} items")
    return 0


if __name__ == "__main__":
    sys.exit(main())
