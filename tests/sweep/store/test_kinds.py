"""Which failures pass, which would happen again, and which only the user can mend."""

import errno
import os

import pytest

from replay_jax.errors import UserError
from replay_jax.sweep.store import facts
from replay_jax.sweep.store.facts import read_fact, write_fact
from replay_jax.sweep.store.kinds import DamagedState, kind_of


class HttpError(Exception):
    """As gcsfs raises it."""

    def __init__(self, code):
        super().__init__(f"error {code}")
        self.code = code


def caused(error, by):
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.EIO, "Input/output error"), "transient"),
        (OSError(errno.ESTALE, "Stale file handle"), "transient"),
        (TimeoutError("read"), "transient"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "transient"),
        (HttpError(503), "transient"),
        (HttpError("429"), "transient"),
        (HttpError(403), "deterministic"),
        (RuntimeError("UNAVAILABLE: gs://b/x: try later"), "transient"),
        (caused(UserError("cannot write x"), OSError(errno.ETIMEDOUT, "late")), "transient"),
        (caused(UserError("cannot write x"), OSError(errno.ENOSPC, "full")), "mistake"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "mistake"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "mistake"),
        (RuntimeError("INTERNAL: write: Read-only file system"), "mistake"),
        (UserError("mesh.tensor 2 does not divide 1"), "mistake"),
        (FloatingPointError("Update 3 has loss nan"), "deterministic"),
        (TypeError("a fault of ours"), "deterministic"),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), "memory"),
        (DamagedState("aa", "cannot be read"), "damaged"),
        (caused(DamagedState("aa", "x"), OSError(errno.EIO, "Input/output error")), "transient"),
    ],
)
def test_kinds(error, kind):
    assert kind_of(error) == kind


def test_a_fact_is_written_and_read_in_spite_of_a_fault_that_passes(tmp_path, monkeypatch):
    faults = [OSError(errno.EIO, os.strerror(errno.EIO)), HttpError(503)]
    replace, waited = os.replace, []

    def replace_later(*arguments):
        if faults:
            raise faults.pop()
        replace(*arguments)

    monkeypatch.setattr(os, "replace", replace_later)
    monkeypatch.setattr(facts.time, "sleep", waited.append)
    write_fact(tmp_path / "a.json", {"value": 1})
    assert read_fact(tmp_path / "a.json") == {"value": 1}
    assert waited == list(facts.PAUSES[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_fault_that_stays_is_one_sentence(tmp_path, monkeypatch):
    def never(*_):
        raise HttpError(503)

    monkeypatch.setattr(os, "replace", never)
    monkeypatch.setattr(facts.time, "sleep", lambda _: None)
    with pytest.raises(UserError, match=r"cannot write .*a\.json: error 503"):
        write_fact(tmp_path / "a.json", {"value": 1})
