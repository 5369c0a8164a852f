"""Where a working directory is: the home folder is no folder of the name "~"."""

import pytest

from replay_jax.errors import UserError
from replay_jax.sweep.store.places import existing, place


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert str(place("~/runs")) == str(existing("~/runs")) == str(tmp_path / "runs")
    assert str(place("runs/~a")) == "runs/~a"


def test_a_home_folder_that_is_not_known_is_one_sentence():
    with pytest.raises(UserError, match="'~nobody-of-this-name/runs' begins with a home folder"):
        place("~nobody-of-this-name/runs")
