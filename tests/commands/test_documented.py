"""Commands in README and docs/: each is one, and is executed by a test or says why it is not."""

import json
import re
import shlex

import pytest
from places import ROOT

from replay_jax.commands.arguments import parser
from replay_jax.commands.main import main

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^ *```(?:bash|sh)?\n(.*?)^ *```$", re.M | re.S)
INDENTED = re.compile(r"^ {4,}(\S.*)$", re.M)

# The README's list of all commands: two in a line, each with its meaning.
OVERVIEW = re.compile(r"^## Commands\n\n((?: {4}.*\n)+)", re.M)

# Executed here as they stand.
HERE = {
    "config quickstart schedule",
    "config quickstart schedule.replay_fraction",
    "plan smoke --config.model.num_layers=2",
    "plan smoke --config.data.sources.c_headers.validation_fraction=0.3",
    "plan smoke --config.tasks.trivia=trivia.jsonl",
    "plan smoke --config.training.loss_weights.c_headers=0.5",
    "pilot paper/basque_8b --fraction=1/64 --plan",
}
# The same command with places and sizes of a test: the file that calls it, by its first word.
ELSEWHERE = {
    "analyse": "tests/commands/test_analyse.py",
    "config": "tests/config/test_keys.py",
    "configs": "tests/test_package.py",
    "evaluate": "tests/commands/test_commands.py",
    "export": "tests/commands/test_commands.py",
    "fit": "tests/commands/test_reporting.py",
    "gc": "tests/sweep/store/test_orphans.py",
    "generate": "tests/library/texts/test_writing.py",
    "init": "tests/library/test_starting.py",
    "overlap": "tests/commands/test_commands.py",
    "pilot": "tests/commands/test_documented.py",
    "plan": "tests/library/test_plan_shown.py",
    "prepare": "tests/library/test_starting.py",
    "recommend": "tests/commands/test_commands.py",
    "report": "tests/commands/test_commands.py",
    "run": "tests/commands/test_commands.py",
    "score": "tests/library/test_web.py",
    "ship": "tests/commands/test_ship.py",
    "status": "tests/commands/test_commands.py",
    "turns": "tests/library/test_web.py",
    "verify": "tests/commands/test_commands.py",
}
# Not executed as they stand, by how they begin, with what takes their place.
NOT = {
    "run configs/quickstart.py": "ten minutes: test_commands.py plans it and runs smoke",
    "run quickstart": "the same; experiments/quickstart has what it gave, and tests of its records",
    "run CONFIG --executor=hosts": "hosts: tests/sweep/executors/test_hosts.py starts processes",
    "run paper/mid_training --executor=ray": "a cluster: tests/sweep/executors/test_ray.py has one",
    "status gs://": "a bucket: tests/sweep/store/test_bucket.py has a stand-in",
    "recommend runs/quickstart --second_opinion": "the extra bayes: tests/analysis/bayes",
    "doctor": "ten seconds of a speed check: tests/library/test_inspecting.py looks without it",
    "compile": "compilers of TPUs and GPUs, minutes: tests/compile with small models and slices",
}


def commands():
    """Every `replay-jax …` that stands in a block, without comments, with its page."""
    for page in PAGES:
        text = OVERVIEW.sub("", page.read_text().replace("\\\n", " "))
        lines = [line for block in FENCED.findall(text) for line in block.splitlines()]
        for line in (*lines, *INDENTED.findall(text)):
            bare = " ".join(re.sub(r"\s#.*", "", line).split())
            for found in re.findall(r'(?:^|&& |")replay-jax ([^"&]+)', bare):
                yield page.name, re.sub(r" >.*", "", found).strip()


# What --print-completion prints is tried in test_completion.py.
WRITTEN = sorted({found for found in commands() if not found[1].startswith("--print")})


def test_the_readme_lists_every_command():
    lines = OVERVIEW.search((ROOT / "README.md").read_text())[1].splitlines()
    parts = [re.split(r" {2,}", line.strip().removeprefix("replay-jax ")) for line in lines]
    listed = [words.split()[0] for line in parts for words in line[::2]]
    (commands,) = (a for a in parser()._actions if a.dest == "command")
    assert sorted(listed) == sorted(commands.choices)


@pytest.mark.parametrize(("page", "command"), WRITTEN)
def test_a_written_command_is_understood_and_tested(page, command):
    known, rest = parser().parse_known_args(shlex.split(command))
    assert not rest or known.takes_overrides and all(a.startswith("--config.") for a in rest)
    if command not in HERE and not any(command.startswith(start) for start in NOT):
        assert known.command in ELSEWHERE, f"say which test calls {known.command}"
        caller = (ROOT / ELSEWHERE[known.command]).read_text()
        assert re.search(rf'["\']{known.command}["\']', caller), ELSEWHERE[known.command]


def test_nothing_is_listed_that_is_not_written():
    written = {command for _, command in WRITTEN}
    assert written >= HERE
    assert all(any(command.startswith(start) for command in written) for start in NOT)


def test_files_that_other_programs_are_given_exist():
    """Tools of minutes to hours, jobs of clusters: what they are given is there, nothing is run."""
    for page in PAGES:
        for name in re.findall(
            r"(?:tools|docs/examples|configs)/\w[\w./]*\w\.\w+", page.read_text()
        ):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_a_file_of_the_code_that_a_page_names_is_there():
    """By its path from the root or from the package, or where the folder is clear by its end."""
    files = {
        path.relative_to(ROOT).as_posix()
        for room in ("replay_jax", "configs", "tests", "tools")
        for path in (ROOT / room).rglob("*.py")
    }
    ends = {name.split("/", n)[n] for name in files for n in range(name.count("/") + 1)}
    for page in (*PAGES, *sorted((ROOT / "experiments").rglob("*.md"))):
        named = set(re.findall(r"`([\w/]+\.py)`", page.read_text())) - {"my_study.py"}
        assert named <= ends, f"{page.name}: {sorted(named - ends)}"


def test_the_parts_of_the_suite_that_ci_names_are_there():
    """A file that is gone ends a part with no test run, after the suite."""
    text = re.sub(r"\{(\w+),(\w+)\}", r"{\1|\2}", (ROOT / ".ci/run").read_text())
    named = re.findall(r"tests/[\w/{}|.]+", text)
    assert named
    for name in named:
        either = re.search(r"\{(.*)\}", name)
        for part in either[1].split("|") if either else [""]:
            path = re.sub(r"\{.*\}", part, name)
            assert (ROOT / path).exists(), f".ci/run: {path}"


@pytest.mark.parametrize("command", sorted(HERE))
def test_a_cheap_command_runs_as_it_stands(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    item = {"context": "Two and two is", "choices": [" four", " five"], "answer": 0}
    (tmp_path / "trivia.jsonl").write_text(json.dumps(item) + "\n")
    assert main(shlex.split(command)) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1
