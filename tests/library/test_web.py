"""From records to conversations that train on the action alone, and from predictions to scores."""

import json
import random

import numpy as np
import pytest
from chats import CHATML, chat_folder
from web_records import BOXES, mind2web_record, weblinx_record, write_json_lines

from replay_jax.analysis.study.task_scores import two_way_interval
from replay_jax.commands.main import main
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.config import DataConfig, TokenizerConfig
from replay_jax.data.tokens.prepare import prepare
from replay_jax.data.web.reading import read_turns
from replay_jax.errors import UserError
from replay_jax.library.web.scoring import TEST_OOD, score

OUT_OF_DOMAIN = ("test_web", "test_cat", "test_geo", "test_vis")
ACTIONS = ('click(uid="a1")', 'say(speaker="navigator", utterance="yes")', 'click(uid="b2")')


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return chat_folder(tmp_path_factory.mktemp("web") / "tokenizer", CHATML)


def test_turns_become_rows_whose_loss_is_on_the_action(tokenizer, tmp_path, capsys):
    records = [weblinx_record("d", n, action) for n, action in enumerate(ACTIONS)]
    steps = [("CLICK", "", ["7"], ["8"]), ("CLICK", "", [], ["8"])]
    paths = [
        write_json_lines(tmp_path / "valid.json", records),
        write_json_lines(tmp_path / "train_0.json", [mind2web_record("t", steps)]),
    ]
    out = tmp_path / "turns.jsonl"
    command = ["turns", *map(str, paths), f"--out={out}", f"--tokenizer={tokenizer}", "--html=20"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "4 turns" in said and "1 steps have no right element" in said
    source = SourceConfig("conversations", str(out), validation_fraction=0.5, max_tokens=2000)
    texts = write_json_lines(tmp_path / "text.jsonl", [{"text": f"yes {n}"} for n in range(90)])
    data = DataConfig(
        sources=(("web", source), ("text", SourceConfig("jsonl", str(texts)))),
        tokenizer=TokenizerConfig(kind="file", path=str(tokenizer)),
        store_dir=str(tmp_path / "stores"),
        generic="text",
        target="web",
    )
    store = prepare(data)["web"]
    learnt = []
    for split in ("train", "validation"):
        rows = store.rows(split, 2000)
        every = np.arange(len(rows))
        for tokens, counted in zip(rows.gather(every), rows.counted(every), strict=True):
            learnt.append(store.tokenizer.decode(tokens[1:][counted].tolist()))
    whole = "".join(learnt)
    for action in (*ACTIONS, 'click(uid="7")'):
        assert action in whole
    assert "Page" not in whole and "Elements" not in whole
    assert main(command) == 2 and "exists already" in capsys.readouterr().err


@pytest.fixture
def turns(tmp_path):
    """Turns of 24 demonstrations in four splits; every third of them is scored with page boxes."""
    records = [
        weblinx_record(f"d{demo}", n, ACTIONS[n % 3], split=OUT_OF_DOMAIN[demo % 4], bboxes=BOXES)
        for demo in range(24)
        for n in range(3 + demo % 3)
    ]
    return read_turns([write_json_lines(tmp_path / "records.jsonl", records)])


def outputs(turns, right, seed):
    """Each the reference with this probability, by demonstration, else another element."""
    made = random.Random(seed)
    good = {turn.demo: made.random() < right for turn in turns}
    return tuple(turn.text if good[turn.demo] else 'click(uid="c3")' for turn in turns)


def test_means_are_over_turns_and_out_of_domain_over_splits(turns):
    pytest.importorskip("sacrebleu")
    said = outputs(turns, 0.5, 0)
    found = score({None: said}, turns)
    means = {}
    for split in OUT_OF_DOMAIN:
        place = [n for n, turn in enumerate(turns) if turn.split == split]
        right = [float(said[n] == turns[n].text) for n in place]
        part = found.parts[split]
        assert part.turns == len(place) and part.demos == 6
        assert part.scores["overall"].value == pytest.approx(np.mean(right))
        means[split] = np.mean(right)
        assert part.by_intent["say"]["intent"] == pytest.approx(
            np.mean([said[n] == turns[n].text for n in place if "say" in turns[n].text])
        )
    assert found.parts[TEST_OOD].scores["overall"].value == pytest.approx(
        np.mean(list(means.values()))
    )
    assert found.seeds == 1 and found.unread == 0 and found.changes == {}


def test_turns_of_a_demonstration_count_as_one_observation(turns):
    """Right or wrong by demonstration: the interval is that of so many demonstrations."""
    pytest.importorskip("sacrebleu")
    split = [turn for turn in turns if turn.split == "test_web"]
    found = score({None: outputs(split, 0.5, 1)}, split).parts["test_web"].scores["overall"]
    again = [turn for turn in split if turn.turn < 1]
    alone = score({None: outputs(again, 0.5, 1)}, again).parts["test_web"].scores["overall"]
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.3)


def test_a_change_is_paired_and_intervals_know_seeds(turns):
    pytest.importorskip("sacrebleu")
    base = {seed: outputs(turns, 0.5, seed) for seed in range(3)}
    same = score(base, turns, against=base).changes[TEST_OOD]["overall"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = {
        seed: tuple(
            turn.text if turn.demo in ("d0", "d1", "d2", "d3", "d4", "d5") else text
            for turn, text in zip(turns, texts, strict=True)
        )
        for seed, texts in base.items()
    }
    found = score(better, turns, against=base)
    change = found.changes[TEST_OOD]["overall"]
    own, other = (score(p, turns).parts[TEST_OOD].scores["overall"].value for p in (better, base))
    assert change.value == pytest.approx(own - other) and found.seeds == 3
    assert change.low < change.value < change.high
    # Of a mean over turns whose intent is right, the turns differ between the two.
    conditional = found.changes[TEST_OOD]["overall_if_intent"]
    values = [
        score(p, turns).parts[TEST_OOD].scores["overall_if_intent"].value for p in (better, base)
    ]
    assert conditional.value == pytest.approx(values[0] - values[1])
    with pytest.raises(UserError, match="no seed in common: seeds 0, 1, 2 and seeds none is named"):
        score(base, turns, against={None: base[0]})


def test_turns_that_do_not_count_neither_widen_an_interval_nor_narrow_it(tmp_path):
    """Task success counts once a task: its interval is that of so many tasks."""
    records = [
        mind2web_record(f"t{n}", [("CLICK", "", ["7"], ["8"])] * (1 + n % 4), split="test_task")
        for n in range(12)
    ]
    steps = read_turns([write_json_lines(tmp_path / "m.jsonl", records)])
    said = outputs(steps, 0.5, 5)
    found = score({None: said}, steps).parts["test_task"].scores["task_success"]
    won = [float(s == t.text) for s, t in zip(said, steps, strict=True) if t.turn == 0]
    expected = two_way_interval(np.array([won]), level=0.9)
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert 0 < found.value < 1


def test_a_change_that_is_none_is_said_to_be_one_as_rarely_as_the_level_says(tmp_path):
    """Two models that are right by demonstration with the same probability."""
    records = [
        mind2web_record(f"t{n}", [("CLICK", "", ["7"], ["8"])] * (1 + n % 3), split="test_task")
        for n in range(30)
    ]
    steps = read_turns([write_json_lines(tmp_path / "m.jsonl", records)])
    missed = 0
    for study in range(60):
        pair = [{None: outputs(steps, 0.5, 1000 * study + n)} for n in range(2)]
        change = score(pair[0], steps, against=pair[1]).changes["test_task"]["step_success"]
        missed += not change.low <= 0 <= change.high
    assert missed <= 12  # of 60 at level .9; 6 are expected, more than 12 in 1 of 200


def test_the_command_prints_scores_and_their_changes(turns, tmp_path, capsys):
    pytest.importorskip("sacrebleu")
    paths = []
    for name, right in (("good", 1.0), ("bad", 0.0)):
        lines = [
            {"demo": turn.demo, "turn": turn.turn, "prediction": text}
            for turn, text in zip(turns, outputs(turns, right, 0), strict=True)
        ]
        paths.append(str(write_json_lines(tmp_path / f"{name}.jsonl", lines)))
    records = str(tmp_path / "records.jsonl")
    assert main(["score", paths[0], records, f"--against={paths[1]}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"][TEST_OOD]["scores"]["overall"]["value"] == pytest.approx(1)
    assert found["changes"]["test_geo"]["overall"]["value"] == pytest.approx(1)
    assert main(["score", paths[0], records]) == 0
    shown = capsys.readouterr().out
    assert "test_ood" in shown and "100.00" in shown and "one seed" in shown
    assert main(["score", records, records]) == 2
    assert "prediction is missing" in capsys.readouterr().err
