"""Texts that a model writes: the same again from a seed, whole or not at all, read as a source."""

import json

import pytest
from tiny_texts import write_folder

from replay_jax.commands.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("models") / "tiny", begins=True)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_texts_are_the_same_again_and_of_their_prompts(folder, tmp_path, capsys):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"words": "to be"}\n\n{"words": "the mind"}\n')
    given = ["generate", str(folder), "--batch=2", "--new_tokens=12", "--json"]
    asked = [f"--prompts={prompts}", "--field=words", "--count=3"]
    assert main([*given, *asked, f"--out={tmp_path / 'a.jsonl'}"]) == 0
    said = json.loads(capsys.readouterr().out)
    found = lines(tmp_path / "a.jsonl")
    assert [line["prompt"] for line in found] == ["to be", "the mind", "to be"]
    assert all(line["text"].startswith(line["prompt"]) for line in found)
    assert found[0]["text"] != found[2]["text"]
    assert all(line["ended"] or line["new_tokens"] == 12 for line in found)
    assert said["texts"] == 3 and said["new_tokens"] == sum(line["new_tokens"] for line in found)
    # More of them changes none; another seed does.
    assert main([*given, *asked[:2], "--count=4", f"--out={tmp_path / 'b.jsonl'}"]) == 0
    assert lines(tmp_path / "b.jsonl")[:3] == found
    assert main([*given, *asked, "--seed=1", f"--out={tmp_path / 'c.jsonl'}"]) == 0
    assert [line["text"] for line in lines(tmp_path / "c.jsonl")] != [x["text"] for x in found]
    # Without prompts texts begin with the token that begins texts.
    assert main([*given, "--count=2", f"--out={tmp_path / 'd.jsonl'}"]) == 0
    assert all(line["prompt"] == "" and line["text"] for line in lines(tmp_path / "d.jsonl"))
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_written_is_refused(folder, tmp_path, capsys):
    out = tmp_path / "texts.jsonl"
    (tmp_path / "long.jsonl").write_text(json.dumps({"text": "to be " * 50}))
    (tmp_path / "other.jsonl").write_text('{"text": 3}')
    (tmp_path / "taken.jsonl").touch()
    cases = {
        "--temperature=0": "a temperature of 0 draws nothing: give one above 0, or decode greedily",
        "--new_tokens=64": "an empty prompt: 1 tokens and 64 new ones are more than the 64",
        f"--prompts={tmp_path / 'long.jsonl'}": "new ones are more than the 64 positions of",
        f"--prompts={tmp_path / 'other.jsonl'}": "line 1: text must be text, not 3",
        "--prompts=nowhere.jsonl": "no file of prompts 'nowhere.jsonl'",
        "--seed=-1": "seed -1 must be in",
        "--greedy --count=2": "2 texts without prompts would all be the same greedy one",
        f"--out={tmp_path / 'taken.jsonl'}": "exists already",
        "--mesh=1,2": "--mesh=1,2 is not three numbers",
        "--batch=0": "--batch=0 must be 1 or more",
    }
    for given, words in cases.items():
        short = [] if "new_tokens" in given else ["--new_tokens=20"]
        assert main(["generate", str(folder), f"--out={out}", *short, *given.split(" ")]) == 2
        assert words in capsys.readouterr().err
        assert not out.exists() and not list(tmp_path.glob(".*"))
    (folder / "tokenizer.json").rename(folder / "kept.json")
    try:
        assert main(["generate", str(folder), f"--out={out}"]) == 2
        assert "has no tokenizer.json, so texts are no tokens to it" in capsys.readouterr().err
    finally:
        (folder / "kept.json").rename(folder / "tokenizer.json")
