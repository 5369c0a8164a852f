"""`init`: what it sees in somebody's files, and the config that it writes, which runs as it is."""

import json
import random

import pytest

from replay_jax.commands.main import main
from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import load_recipe
from replay_jax.errors import UserError
from replay_jax.library.planning import plan
from replay_jax.library.starting import sizes, written
from replay_jax.library.starting.looking import look, measure, shared_documents, tokenizer_of
from replay_jax.library.starting.start import start

WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in "rstvz"]


def documents(seed, number, words=60):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=words)) for _ in range(number)]


def write(path, texts, field="text"):
    path.write_text("".join(json.dumps({"id": "x", field: text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture
def sides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in (sizes, written):
        monkeypatch.setattr(module, "STEPS", 20)
    generic = documents(1, 1500)
    target = [*documents(2, 400), *generic[:3], *documents(2, 2)]
    return write(tmp_path / "web.jsonl", generic), write(tmp_path / "own.jsonl", target, "body")


def test_what_is_seen_is_what_is_there(sides):
    generic, target = map(look, sides)
    assert (generic.documents, generic.repeated, generic.is_whole) == (1500, 0, True)
    assert (target.documents, target.repeated, target.source.text_field) == (405, 2, "body")
    assert generic.bytes == sum(len(text) for text in documents(1, 1500))
    assert shared_documents(target, generic) == 3
    tokenizer = tokenizer_of(generic, 300)
    exact = sum(len(tokenizer.encode(text)) + 1 for text in documents(1, 1500))
    assert measure(generic, tokenizer).tokens == pytest.approx(exact, rel=0.02)


def test_the_config_runs_as_it_is_and_never_repeats_generic_text(sides, capsys):
    web, own = sides
    asked = ["init", "study", f"--generic={web}", f"--target={own}", "--explain", "--minutes=0.01"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "405 documents" in said and "2 of them repeated" in said
    assert "3 documents of the target stand in the generic text too" in said
    assert said.splitlines()[-1].endswith(" asked for: replay-jax run study.py")
    recipe = load_recipe("study.py")
    found = plan(recipe)
    assert len({run.id for run in found.runs}) == len(found.runs) >= 3 * 11
    configs = configs_of(experiments_of(recipe))
    budgets = sorted({config.schedule.target_sequences for config in configs})
    assert [budget / budgets[2] for budget in budgets] == [0.5, 0.75, 1, 1.5, 2, 4]
    assert {config.seed for config in configs} == {1, 2, 3}
    epochs = {
        kind: {
            (config.schedule.target_sequences / budgets[2], config.schedule.target_epochs)
            for config in configs
            if (config.schedule.protocol, config.schedule.replay_fraction) == kind
        }
        for kind in (("uniform", None), ("two_stage", 0.0))
    }
    mixed, alone = epochs.values()
    assert {share for share, _ in mixed} == {0.5, 1}
    assert mixed == {(share, count) for share, count in alone if share in (0.5, 1)}
    assert dict(configs[0].data.sources)["target"].text_field == "body"
    prepared = main(["prepare", "study.py"])
    assert prepared == 0
    for run in plan(recipe).runs:  # with the rows of the stores: none is missing or repeated
        entries = {entry.source: entry for entry in run.ledger.totals}
        assert entries["generic"].repeated == 0
        assert entries["target"].unique == run.config.schedule.target_sequences
    assert main(asked) == 2 and "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("between", ["\n\n", "\n"])
def test_a_text_file_is_cut_where_it_has_blank_lines_or_else_lines(sides, tmp_path, between):
    """One document could not be held out in part."""
    whole = tmp_path / "manuals.txt"
    whole.write_text(between.join(documents(2, 400)))
    seen = look(str(whole))
    assert (seen.documents, seen.source.separator) == (400, between)
    found = start(tmp_path / "a.py", sides[0], str(whole), minutes=0.01, flops_per_second=1e9)
    assert "400 documents" in found.facts[1] and ", cut at " in found.facts[1]
    source = load_recipe(tmp_path / "a.py").base["data"]["sources"]["target"]
    assert (source["kind"], source["separator"]) == ("text", between)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, text in enumerate(documents(2, 50)):
        (folder / f"{number}.txt").write_text(f"{text}\n\n{text}")
    assert (look(str(folder)).documents, look(str(folder)).source.separator) == (50, "")


def test_twice_the_generic_text_that_a_run_draws_is_tokenized(sides, tmp_path, monkeypatch):
    for module in (sizes, written):
        monkeypatch.setattr(module, "STEPS", 6)
    found = start(tmp_path / "a.py", *sides, minutes=0.01, flops_per_second=1e9)
    sources = load_recipe(tmp_path / "a.py").base["data"]["sources"]
    assert sources["target"]["train_fraction"] == 1
    share = sources["generic"]["train_fraction"]
    rows = found.generic_tokens.tokens / (sizes.SEQ_LEN + 1) * (1 - found.held_out[0])
    assert share == found.train_fraction < 0.5
    assert share * rows == pytest.approx(1.2 * 2 * 6 * found.size.batch, rel=0.02)


def test_documents_too_few_to_hold_some_out_are_refused(sides, tmp_path):
    few = write(tmp_path / "few.jsonl", documents(3, 3, words=9000))
    with pytest.raises(UserError, match="few.jsonl has 3 documents, and 20 are needed"):
        start(tmp_path / "a.py", sides[0], few, minutes=1.0, flops_per_second=1e9)


def test_files_that_are_not_what_they_say_are_refused(tmp_path):
    gz = tmp_path / "own.jsonl.gz"
    gz.write_bytes(b'{"text": "never compressed"}\n')
    with pytest.raises(UserError, match="own.jsonl.gz cannot be read: Not a gzipped file"):
        look(str(gz))
    gz.write_bytes(b"")
    with pytest.raises(UserError, match="own.jsonl.gz"):
        look(str(gz))
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9 " * 500)
    with pytest.raises(UserError, match="latin.txt holds no document with text: .*UTF-8"):
        look(str(latin))


def test_too_little_text_is_refused_with_both_numbers(sides, tmp_path):
    web, own = sides
    few = write(tmp_path / "few.jsonl", documents(3, 20))
    with pytest.raises(UserError, match="few.jsonl has about .* sequences of 128 tokens"):
        start(tmp_path / "a.py", web, few, minutes=1.0, flops_per_second=1e9)
    with pytest.raises(UserError, match=r"16 take 320: give [\d.]+ times as much of it$"):
        start(tmp_path / "a.py", own, own, minutes=1.0, flops_per_second=1e9)
    numbers = tmp_path / "numbers.jsonl"
    numbers.write_text('{"id": 3}\n')
    with pytest.raises(UserError, match="no field with text: id"):
        look(str(numbers))
    assert not (tmp_path / "a.py").exists()
