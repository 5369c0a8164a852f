"""A task from held-out documents of a source: which of four passages goes on from here?

    python tools/continuation_task.py configs/basque_small.py basque runs/tasks/basque.jsonl

For a target without a benchmark of its own. Every item is one held-out document: some words of it
as context, and as choices what really follows and what follows in three other held-out documents,
cut at words to the same number of characters. Documents, places and order are fixed by a seed.
"""

import argparse
import dataclasses
import json
import random
import sys
from pathlib import Path

from replay_jax.config.experiments import experiments_of
from replay_jax.config.recipe import load_recipe
from replay_jax.data.sources.documents import split_documents
from replay_jax.errors import UserError

CHOICES = 4


@dataclasses.dataclass(frozen=True)
class Passage:
    """A place in a document: the words before it and the words after it."""

    before: str
    after: str


def passages(texts: list[str], *, context: int, choice: int, seed: int) -> list[Passage]:
    """One passage of every text that is long enough, in a random order."""
    rng = random.Random(seed)
    found = []
    for text in texts:
        words = " ".join(text.split())
        if len(words) < 2 * (context + choice):
            continue
        start = rng.randrange(context, len(words) - 2 * choice)
        at = words.find(" ", start)
        before = words[max(0, at - context) : at].split(" ", 1)[-1]
        after = words[at + 1 : at + 1 + choice].rsplit(" ", 1)[0]
        if before and after:
            found.append(Passage(before, after))
    rng.shuffle(found)
    return found


def items(found: list[Passage], *, count: int, seed: int) -> list[dict]:
    """Items whose wrong choices are what follows elsewhere."""
    rng = random.Random(seed)
    made = []
    for number, passage in enumerate(found[:count]):
        others = [p.after for p in found if p.after != passage.after]
        choices = [passage.after, *rng.sample(others, CHOICES - 1)]
        answer = number % CHOICES
        choices[0], choices[answer] = choices[answer], choices[0]
        made.append({"context": passage.before + " ", "choices": choices, "answer": answer})
    return made


def main() -> int:
    """Write a task file; returns 2 for the user's mistakes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("source", help="name of a source of the config")
    parser.add_argument("task", type=Path)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--context", type=int, default=120, help="characters of context")
    parser.add_argument("--choice", type=int, default=60, help="characters of a choice")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        config = experiments_of(load_recipe(arguments.recipe, {}))[0][0]
        sources = dict(config.data.sources)
        if arguments.source not in sources:
            known = ", ".join(sources)
            raise UserError(f"{arguments.recipe} has no source '{arguments.source}', only {known}")
        documents = split_documents(sources[arguments.source])
        texts = [document.text for document in documents if document.held_out]
        found = passages(
            texts, context=arguments.context, choice=arguments.choice, seed=arguments.seed
        )
        if len(found) < max(arguments.items, CHOICES):
            raise UserError(
                f"only {len(found)} of {len(texts)} held-out documents are long enough for "
                f"{arguments.items} items: lower --items, --context or --choice"
            )
    except UserError as error:
        print(f"continuation_task: {error}", file=sys.stderr)
        return 2
    made = items(found, count=arguments.items, seed=arguments.seed)
    lines = (json.dumps(item, ensure_ascii=False) for item in made)
    arguments.task.parent.mkdir(parents=True, exist_ok=True)
    arguments.task.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{arguments.task}: {len(made)} items of {len(found)} documents")
    return 0


if __name__ == "__main__":
    sys.exit(main())
