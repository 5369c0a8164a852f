"""Examples before items: drawn by a seed, never the item itself, and part of the task's digest."""

import json
import runpy
import sys

import pytest
from places import ROOT

from replay_jax.data.judging.few_shot import few_shot
from replay_jax.data.judging.tasks import Item, find_task, read_items
from replay_jax.errors import UserError

ITEMS = [Item(f"{n} and {n} are ", (f"{2 * n}.", f"{2 * n + 1}."), n % 2) for n in range(6)]


def shown(item: Item) -> str:
    return item.context + item.choices[item.answer]


def test_examples_are_others_with_their_right_choices():
    for item, own in zip(few_shot(ITEMS, 3, seed=1), ITEMS, strict=True):
        *examples, asked = item.context.split("\n\n")
        assert asked == own.context and (item.choices, item.answer) == (own.choices, own.answer)
        others = {shown(other) for other in ITEMS if other != own}
        assert len(set(examples)) == 3 and set(examples) <= others
    assert few_shot(ITEMS, 0, seed=1) == ITEMS


def test_an_item_is_its_own_example_in_no_copy_of_it():
    asked = [ITEMS[0], ITEMS[0], ITEMS[1]]
    pool = [*ITEMS[:2], Item(ITEMS[0].context, ("0!", "1!"), 1)]
    first, again, other = few_shot(asked, 1, seed=0, examples=pool)
    for item in (first, again):
        assert item.context == shown(ITEMS[1]) + "\n\n" + ITEMS[0].context
    assert ITEMS[0].context in other.context
    with pytest.raises(UserError, match="item 1 of the task has 1 others .* and 2 are asked for"):
        few_shot(asked, 2, seed=0, examples=pool)
    with pytest.raises(UserError, match="-1 examples"):
        few_shot(asked, -1, seed=0)


def test_a_draw_is_of_the_seed_and_the_item_alone():
    one, same, other = (few_shot(ITEMS, 2, seed=seed) for seed in (5, 5, 6))
    assert one == same != other
    assert len({item.context.split("\n\n")[0] for item in one}) > 1  # each its own
    pool = ITEMS[3:]
    fewer, more = (few_shot(ITEMS[:n], 2, seed=5, examples=pool) for n in (2, 3))
    assert more[:2] == fewer


def test_the_file_that_is_written_is_another_task(tmp_path, monkeypatch, capsys):
    task, out = tmp_path / "own.jsonl", tmp_path / "made" / "own-2.jsonl"
    records = [{"context": i.context, "choices": i.choices, "answer": i.answer} for i in ITEMS]
    task.write_text("".join(json.dumps(record) + "\n" for record in records))
    tool = runpy.run_path(str(ROOT / "tools" / "few_shot_task.py"))["main"]
    monkeypatch.setattr(sys, "argv", ["few_shot_task", str(task), str(out), "--shots=2"])
    assert tool() == 0
    assert read_items(out) == few_shot(ITEMS, 2, seed=0)
    plain, made = (find_task("t", str(path), None, document_mask=False) for path in (task, out))
    assert plain.digest != made.digest and plain.items == made.items
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], "--shots=6"])
    assert tool() == 2 and "5 others" in capsys.readouterr().err
