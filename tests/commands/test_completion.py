"""Completion of commands in the shell, by the script that it reads."""

import subprocess

import pytest

from replay_jax.commands.asked import SHELLS
from replay_jax.commands.main import main

# What bash does when a tab is pressed after the words of a line.
PRESSED = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
complete=$(complete -p replay-jax)
complete=${complete##*-F }
"${complete%% *}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def pressed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    script = folder / "replay-jax"
    with script.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        with pytest.raises(SystemExit, match="0"):
            main(["--print-completion", "bash"])
    (folder / "a_folder").mkdir()
    (folder / "a_config.py").touch()

    def press(*words):
        command = ["bash", "-c", PRESSED, "bash", script, "replay-jax", *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    return press


def test_commands_and_options_are_completed(pressed):
    assert pressed("re") == {"report", "recommend"}
    assert pressed("export", "--d") == {"--dtype"}
    assert pressed("run", "--executor", "") == {"local", "hosts", "ray"}


def test_configs_are_files_and_working_directories_folders(pressed):
    assert pressed("plan", "a_") == {"a_config.py", "a_folder"}
    assert pressed("status", "a_") == {"a_folder"}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_told_of_every_command(shell, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert all(word in script for word in ("recommend", "generic_margin", "replay-jax"))


def test_a_shell_that_is_not_known_is_refused_with_those_that_are(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--print-completion", "nushell"])
    assert "choose from" in capsys.readouterr().err
