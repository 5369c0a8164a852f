"""Records of the practice studies, of public files: conversations, and turns of a web agent.

    python tools/practice_records.py chats data/instructions.jsonl.gz runs/practice/chats.jsonl
    python tools/practice_records.py web data/webagent.jsonl.gz runs/practice

`chats`: an instruction with its input asks, its output answers. `web`: WebShop's shopping
instructions with the first query that a person typed for each, as turns of WebLINX: people's are
the two texts, the page around the search box is made here. A fifth of the instructions, by a hash,
is valid.json; train.json has the others, less what is nearly one of these.
"""

import argparse
import hashlib
import json
import random
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from replay_jax.data.sources.files import read_objects
from replay_jax.data.web.actions import Action
from replay_jax.errors import UserError

HELD_OUT = 0.2
NEARLY = 0.6  # of the words of either: the share that both have
SHOWN = 3
SEARCH = ("input", "placeholder='Search'")
# What stands beside the search box: tag, text.
OTHERS = (
    ("button", "Search"), ("a", "Cart"), ("a", "Sign in"), ("a", "Home"), ("button", "Help"),
    ("a", "Orders"),
)  # fmt: skip
WIDTH, HEIGHT = 1280, 40


def chats(path: Path) -> Iterator[Mapping[str, str]]:
    """Prompt and completion of every instruction."""
    for _, record in read_objects(path, "instructions"):
        asked = f"{record['instruction']}\n{record['input']}".strip()
        yield {"prompt": asked, "completion": record["output"], "source": record["source"]}


def split_turns(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Turns to learn and turns to be judged by."""
    records = [each for _, each in read_objects(path, "records") if each.get("queries")]
    valid = [each for each in records if _hashed(each["instruction"]) < HELD_OUT]
    words = [_words(each["instruction"]) for each in valid]
    train = [
        each
        for each in records
        if _hashed(each["instruction"]) >= HELD_OUT
        and not any(_alike(_words(each["instruction"]), other) >= NEARLY for other in words)
    ]
    return [_turn(each) for each in train], [_turn(each) for each in valid]


def _turn(record: Mapping[str, Any]) -> dict[str, Any]:
    """A page with a search box among other elements, in an order and with uids of its own."""
    name = hashlib.sha256(record["instruction"].encode()).hexdigest()[:12]
    drawn = random.Random(name)
    shown = [SEARCH, *drawn.sample(OTHERS, SHOWN - 1)]
    drawn.shuffle(shown)
    uids = [f"{number:03x}" for number in drawn.sample(range(16**3), SHOWN)]
    boxes = {
        uid: {"x": WIDTH // SHOWN * place, "y": 20, "width": WIDTH // SHOWN - 20, "height": HEIGHT}
        for place, uid in enumerate(uids)
    }
    elements = [{"uid": uid, "doc": _doc(*each)} for uid, each in zip(uids, shown, strict=True)]
    box = uids[shown.index(SEARCH)]
    return {
        "demo": f"webshop-{name}",
        "turn": 1,
        "action": Action("text_input", {"text": record["queries"][0], "uid": box}).text(),
        "utterances": f"[00:05] {record['instruction']}",
        "action_history": "",
        "candidates": elements,
        "clean_html": "",
        "viewport": "",
        "bboxes": boxes,
    }


def _doc(tag: str, text: str) -> str:
    return f"[[tag]] {tag} " + (f"[[attributes]] {text}" if tag == "input" else f"[[text]] {text}")


def _hashed(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def _write(path: Path, records: Iterator[Mapping[str, Any]] | list[dict[str, Any]]) -> None:
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
            train, valid = split_turns(asked.path)
            _write(asked.out / "train.json", train)
            _write(asked.out / "valid.json", valid)
    except (UserError, KeyError) as error:
        print(f"practice_records: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
