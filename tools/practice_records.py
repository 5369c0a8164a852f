"""Records of the practice studies, of public files: conversations, and turns of a web agent.

    python tools/practice_records.py chats data/instructions.jsonl.gz runs/practice/chats.jsonl
    python tools/practice_records.py web data/webagent.jsonl.gz runs/practice

`chats`: an instruction with its input asks, its output answers. `web`: WebShop's shopping
instructions with the first query that a person typed for each, as turns of WebLINX: people's are
the two texts, the page around the search box is made here. A fifth of the instructions, by a hash,
is valid.json; train.json has the others, shop.jsonl the text of instructions without a query, both
less what is nearly one of valid.json.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from replay_jax.data.sources.files import read_objects
from replay_jax.data.web.actions import Action
from replay_jax.errors import UserError

Record = Mapping[str, Any]
HELD_OUT = 0.2
NEARLY = 0.6  # of the words of either: the share that both have
# The page, the same for all: uid, left edge and width in pixels, and what is said of an element.
SEARCH_BOX = "3f6"
PAGE = (
    ("0c1", 20, 80, "[[tag]] a [[text]] Home"),
    (SEARCH_BOX, 120, 700, "[[tag]] input [[attributes]] placeholder='Search'"),
    ("a27", 840, 100, "[[tag]] button [[text]] Search"),
)


def chats(path: Path) -> Iterator[Record]:
    """Prompt and completion of every instruction."""
    for _, record in read_objects(path, "instructions"):
        asked = f"{record['instruction']}\n{record['input']}".strip()
        yield {"prompt": asked, "completion": record["output"], "source": record["source"]}


def shopping(path: Path) -> tuple[list[Record], list[Record], list[Record]]:
    """Turns to learn, turns to be judged by, and the instructions that nobody typed a query for."""
    records = [each for _, each in read_objects(path, "records") if "instruction" in each]
    typed = [each for each in records if each["queries"]]
    valid = [each for each in typed if _hashed(each["instruction"]) < HELD_OUT]
    judged = [_words(each["instruction"]) for each in valid]

    def is_far(record: Record) -> bool:
        words = _words(record["instruction"])
        return not any(_alike(words, other) >= NEARLY for other in judged)

    train = [e for e in typed if _hashed(e["instruction"]) >= HELD_OUT and is_far(e)]
    plain = [{"text": e["instruction"]} for e in records if not e["queries"] and is_far(e)]
    return [_turn(each) for each in train], [_turn(each) for each in valid], plain


def _turn(record: Record) -> Record:
    name = hashlib.sha256(record["instruction"].encode()).hexdigest()[:12]
    typed = {"text": record["queries"][0], "uid": SEARCH_BOX}
    return {
        "demo": f"webshop-{name}",
        "turn": 1,
        "action": Action("text_input", typed).text(),
        "utterances": f"[00:05] {record['instruction']}",
        "action_history": "",
        "candidates": [{"uid": uid, "doc": doc} for uid, _, _, doc in PAGE],
        "clean_html": "",
        "viewport": "",
        "bboxes": {
            uid: {"x": left, "y": 20, "width": width, "height": 40} for uid, left, width, _ in PAGE
        },
    }


def _hashed(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def _write(path: Path, records: Iterable[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{path}: {len(lines):,} records")


def main() -> int:
    """Write the files; returns 2 for the user's mistakes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("chats", "web"))
    parser.add_argument("path", type=Path)
    parser.add_argument("out", type=Path, help="a file of chats, or the folder of turns")
    asked = parser.parse_args()
    try:
        if asked.kind == "chats":
            _write(asked.out, chats(asked.path))
        else:
            names = ("train.json", "valid.json", "shop.jsonl")
            for name, records in zip(names, shopping(asked.path), strict=True):
                _write(asked.out / name, records)
    except (UserError, KeyError) as error:
        print(f"practice_records: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
