r"""The same answers by `transformers`: an exported folder's, beside those that generate wrote.

    replay-jax generate models/tuned --chat --greedy --prompts=turns.jsonl --new_tokens=64 \
        --out=ours.jsonl
    python tools/answers_of_transformers.py models/tuned ours.jsonl theirs.jsonl --new_tokens=64

Needs transformers and PyTorch. Asks every conversation of `ours.jsonl` again, greedily, by the
folder's own chat template, and writes the same lines with its predictions. Says how many are equal,
and how far the nats of ours, given their prompts, are from those of `evaluate --tokens`.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from replay_jax.data.conversations.messages import asked_of
from replay_jax.library.evaluating import load_folder, row_nats


def ids_of(words: Any, record: Mapping[str, Any]) -> list[int]:
    """The tokens of a conversation that asks for its last answer."""
    text = words.apply_chat_template(asked_of(record), tokenize=False, add_generation_prompt=True)
    return list(words(text, add_special_tokens=False)["input_ids"])


def answer(model: Any, words: Any, ids: list[int], new_tokens: int) -> tuple[str, list[int]]:
    """The likeliest continuation up to an end token, as text and as tokens."""
    given = torch.tensor([ids])
    with torch.no_grad():
        said = model.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False,
            max_new_tokens=new_tokens, pad_token_id=words.eos_token_id,
        )[0, len(ids) :].tolist()  # fmt: skip
    return words.decode(said, skip_special_tokens=True), said


def furthest(model: Any, folder: Path, texts: list[list[int]], end: int) -> float:
    """How far the nats of a token are apart at most, of rows of one length, ended by `end`."""
    longest = max(map(len, texts))
    rows = np.array([text + [end] * (longest - len(text)) for text in texts])
    ours = row_nats(load_folder(str(folder)), rows, batch_size=8)
    differences = []
    for row, nats in zip(torch.tensor(rows), ours.tolist(), strict=True):
        with torch.no_grad():
            logits = model(row[None]).logits[0, :-1].double()
        theirs = float(torch.nn.functional.cross_entropy(logits, row[1:], reduction="sum"))
        differences.append(abs(theirs - nats) / longest)
    return max(differences)


def main() -> int:
    """Ask again; returns 1 where an answer differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path)
    parser.add_argument("--new_tokens", type=int, required=True, help="as generate was given")
    asked = parser.parse_args()
    words = AutoTokenizer.from_pretrained(asked.folder)
    model = AutoModelForCausalLM.from_pretrained(asked.folder, dtype=torch.float32).eval()
    records = [json.loads(line) for line in asked.ours.read_text(encoding="utf-8").splitlines()]
    equal, texts, lines = 0, [], []
    for record in records:
        ids = ids_of(words, record)
        text, said = answer(model, words, ids, asked.new_tokens)
        equal += text == record["prediction"]
        lines.append(json.dumps({**record, "prediction": text}, ensure_ascii=False) + "\n")
        texts.append([*ids, *said])
    asked.theirs.write_text("".join(lines), encoding="utf-8")
    apart = furthest(model, asked.folder, texts, words.eos_token_id)
    print(f"{equal} of {len(records)} answers are equal; nats per token differ by {apart:.1e}")
    return int(equal < len(records))


if __name__ == "__main__":
    sys.exit(main())
