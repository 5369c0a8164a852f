"""A state that is there already is no error for the second process that comes to it."""

from types import SimpleNamespace

from replay_jax.errors import UserError
from replay_jax.sweep.train.course import Course


class Second:
    """A checkpointer that finds the state complete only when it is about to save it."""

    def __init__(self, path, error):
        self._path, self._error, self.saved = path, error, 0

    def save(self, path, state, meta):
        self.saved += 1
        self._path.mkdir(parents=True)
        (self._path / "commit_success.txt").touch()
        raise UserError(self._error)

    def wait(self):
        raise UserError(self._error)


def course(tmp_path, checkpointer):
    """As much of a course as saving takes."""
    it = object.__new__(Course)
    it._store = SimpleNamespace(confirm=lambda: None)
    it._checkpointer, it._saving = checkpointer, None
    return it


def test_a_state_that_another_process_completes_meanwhile(tmp_path):
    checkpointer = Second(tmp_path / "aa", "exists already")
    it = course(tmp_path, checkpointer)
    it._save_at(tmp_path / "aa", None, {})
    it._settle_save()
    # Found there from the beginning, it is not saved at all.
    it._save_at(tmp_path / "aa", None, {})
    assert checkpointer.saved == 1
