"""The torturer itself: what is wrong is a finding, and a repeated call goes on from its tally."""

import argparse
import json
import random
import sys
from pathlib import Path

import pytest
from places import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import torture
import torture_arena
import torture_files


def test_trials_are_counted_and_what_is_wrong_is_kept(tmp_path):
    place, folder = tmp_path / "place", tmp_path / "folder"
    (place / "trial").mkdir(parents=True)
    folder.mkdir()
    (place / "trial" / "file").write_text("as it was")
    drawn = []

    def trial(chance):
        drawn.append(chance.random())
        if len(drawn) == 2:
            raise torture_arena.Wrong("other results: ['a run']")
        return "facts/*.json bit: same"

    for trials in (2, 3):
        asked = argparse.Namespace(hours=1.0, trials=trials, seed=4)
        torture._take_turns({"fault": trial}, place, folder, asked)
    assert drawn == [random.Random(f"4 fault {number}").random() for number in range(3)]
    tally = torture.known(folder, 4)
    assert [line["outcome"] for line in tally] == ["right", "wrong", "right"]
    assert torture.known(folder, 5) == []
    (finding,) = map(json.loads, (folder / "findings.jsonl").read_text().splitlines())
    assert finding["number"] == 1 and "other results: ['a run']" in finding["why"]
    assert (folder / "findings" / "fault-4-1" / "file").read_text() == "as it was"
    found = torture.summary(tally, "fault")
    assert (found["tries"], found["wrong"], found["outcomes"]["same"]) == (3, 1, 2)


def test_every_kind_of_file_is_damaged_alike_often_and_never_left_alone(tmp_path):
    for name in (
        "workdir.json",
        "segments/" + "a" * 32 + ".json",
        "segments/" + "b" * 32 + ".json",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"step": 1.25, "loss": 3.5}')
    content = (tmp_path / "workdir.json").read_bytes()
    chance, kinds, changed = random.Random(1), [], 0
    for _ in range(300):
        path, kind, how = torture_files._damaged(tmp_path, chance)
        kinds.append(kind)
        changed += not path.exists() or path.read_bytes() != content
        if how == "digit":
            assert set(json.loads(path.read_bytes())) == {"step", "loss"}
        path.write_bytes(content)
    assert set(kinds) == {"workdir.json", "segments/*.json"}
    assert 100 < kinds.count("workdir.json") < 200 and changed > 280


@pytest.mark.parametrize(
    ("names", "words", "outcome"),
    [
        (["dir/segments/a.json"], ["dir/segments/a.json is damaged", ""], "refused, then same"),
        (["dir/segments/a.json"], [""], "same"),
        (["dir/segments/a.json"], ["it is damaged"], None),
        (["dir/segments/a.json"], ["dir/segments/a.json\nis damaged", ""], None),
        (["dir/segments/a.json"], ["dir/segments/a.json is damaged"] * 3, None),
    ],
)
def test_a_refusal_is_one_sentence_that_helps(names, words, outcome):
    said = iter(words)

    def mended():
        return torture_files._mended(lambda: next(said), names, lambda _: None)

    if outcome is None:
        with pytest.raises(torture_arena.Wrong):
            mended()
    else:
        assert mended() == outcome


def test_kinds_of_files_are_named_without_what_differs():
    for path, kind in {
        "states/" + "0a" * 16 + "/state/d/" + "b1" * 16: "states/*/state/d/*",
        "metrics/0_6_rho=0.5-" + "0a" * 8 + "/events.out.tfevents.1764117000.host":
            "metrics/*/events.out.tfevents.*",
        "shards/" + "0a" * 16 + "/train.tokens": "shards/*/train.tokens",
        "lease/000001.json": "lease/*.json",
    }.items():  # fmt: skip
        assert torture_files.kind_of(Path(path)) == kind
