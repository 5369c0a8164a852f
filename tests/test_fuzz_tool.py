"""The fuzzer itself: every kind of failure of a reader is a finding, and counted once."""

import argparse
import faulthandler
import json
import multiprocessing
import os
import sys
import time

import pytest
from places import ROOT

from replay_jax.errors import UserError

sys.path.insert(0, str(ROOT / "tools"))
import fuzz
import fuzz_mutations
import fuzz_readers

INPUTS = 24


def read(which: int, data: bytes) -> None:
    """A reader that fails in every way, by the length of its input."""
    fate = len(data) % 8
    if fate == 0:
        raise KeyError("no such part")
    if fate == 1:
        raise UserError("it is damaged")
    if fate == 2:
        faulthandler.disable()  # else the suite's log shows a crash that is meant
        os.abort()
    if fate == 3:
        time.sleep(60)
    if fate == 4:
        bytearray(4 << 30)


def reader_of_all() -> fuzz_readers.Reader:
    return fuzz_readers.Reader("all", [bytes(n) for n in range(60, 68)], read)


def fuzz_in_two_calls(folder) -> None:
    fuzz._IDLE = 1
    for inputs in (INPUTS // 2, INPUTS):
        asked = argparse.Namespace(inputs=inputs, seconds=60, seed=3, limit=2.0, first=None)
        known = {"all": fuzz._known(folder, "all", 3)}
        fuzz._take_turns({"all": reader_of_all()}, known, folder, asked)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """The counts and the findings of a reader that fails in every way."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "findings").mkdir()
    # The tool forks, and a fork of this process, with JAX's threads, may hang.
    fresh = multiprocessing.get_context("spawn").Process(target=fuzz_in_two_calls, args=(folder,))
    fresh.start()
    fresh.join()
    assert fresh.exitcode == 0
    return reader_of_all(), fuzz._known(folder, "all", 3), folder


def test_every_failure_is_a_finding_and_every_input_is_counted(fuzzed):
    reader, counts, folder = fuzzed
    fates = [len(data) % 8 for _, _, data in fuzz.inputs_of(reader, 3, 0, INPUTS)]
    assert set(fates) >= {0, 1, 2, 3, 4}
    assert counts.inputs == INPUTS and counts.refused == fates.count(1)
    assert counts.findings == sum(fates.count(fate) for fate in (0, 2, 3, 4))
    assert counts.taken == INPUTS - counts.findings - counts.refused
    lines = [json.loads(line) for line in (folder / "findings.jsonl").read_text().splitlines()]
    assert sorted(line["number"] for line in lines) == [
        number for number, fate in enumerate(fates) if fate in (0, 2, 3, 4)
    ]
    words = {0: "KeyError", 2: "ended with status", 3: "no answer after 2 s", 4: "MemoryError"}
    for line in lines:
        assert words[fates[line["number"]]] in line["why"]


def test_a_finding_is_the_input_of_its_number_again(fuzzed):
    reader, _, folder = fuzzed
    for line in map(json.loads, (folder / "findings.jsonl").read_text().splitlines()):
        number = line["number"]
        ((_, which, data),) = fuzz.inputs_of(reader, 3, number, number + 1)
        assert (folder / "findings" / f"all-3-{number}").read_bytes() == data
        assert which == line["valid"]


def test_a_repeated_call_goes_on_and_another_seed_begins(fuzzed):
    _, counts, folder = fuzzed
    assert fuzz._known(folder, "all", 3) == counts
    assert fuzz._known(folder, "all", 4) == fuzz.Counts("all", 4)


def test_damage_is_damage(fuzzed):
    """Of a JSON document nearly every draw is another one."""
    valid = b'{"a": [1, 2, {"b": "text"}], "c": null}\n'
    reader = fuzz_readers.Reader("json", [valid], read)
    drawn = [data for _, _, data in fuzz.inputs_of(reader, 1, 0, 200)]
    assert len(set(drawn)) > 150 and drawn.count(valid) < 10
    assert all(len(data) <= fuzz_mutations._MOST_BYTES for data in drawn)
