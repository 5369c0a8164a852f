"""Result records: reading, looking up, refusing."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from replay_jax.analysis.runs.records import AnalysisConfig, load_records, look_up, text
from replay_jax.analysis.statistics.simulate import BEST_EPOCHS, record, sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.errors import UserError

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)


def worth(rho: float) -> float:
    """True equivalent of a schedule over its budget."""
    return 0.8 * math.exp(2 * rho - 2 * rho * rho)


def refused(records: list[dict[str, Any]], words: str, config: AnalysisConfig = CONFIG) -> None:
    with pytest.raises(UserError, match=words):
        analyse(records, config, resamples=20)


def test_bad_records_are_refused_in_words():
    good = sweep(worth=worth)
    nan = json.loads(json.dumps(good))
    nan[3]["losses"]["target"] = float("nan")
    refused(nan, "target loss nan; a run that diverged")
    nan[3]["losses"]["target"] = None
    refused(nan, "target loss None")
    other = json.loads(json.dumps(good))
    other[-1]["evaluation"] = "held-out-2"
    refused(other, "2 different sets")
    refused([*good, {**good[0], "id": "again"}], "share every setting and seed")
    refused([], "no finished runs")
    refused(
        good,
        "has no 'schedule.epochs'",
        AnalysisConfig({"protocol": "uniform"}, ("schedule.epochs",), 0.9),
    )
    refused(
        sweep(worth=worth, reference="no replay", allocations=(0.5, 1.0)),
        "2 groups of runs claim to be the reference at 4,096",
        AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), 0.9),
    )
    with pytest.raises(UserError, match="between 0 and 1"):
        AnalysisConfig({"protocol": "uniform"}, (), 90.0)
    with pytest.raises(UserError, match="analysis.reference is empty"):
        AnalysisConfig({}, (), 0.9)


def test_lookup_goes_from_overrides_to_record_to_config():
    one = record(target_loss=3.0)
    assert look_up(one, "schedule.target_epochs") == BEST_EPOCHS
    assert look_up(one, "protocol") == "two_stage"
    assert look_up(one, "schedule.learning_rate.peak") == 3e-3
    assert look_up(one, "replay_fraction") == 0.0


def test_floats_that_differ_have_other_texts_and_rounding_has_none():
    assert text(1000000.5) != text(1000001.5) and text(0.1 + 0.2) == text(0.3) == "0.3"
    assert text(16.0) == text(16) == "16" and text(1e6) == text(1000000) and text(3e-4) == "0.0003"


def test_records_are_read_line_by_line(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    with pytest.raises(UserError, match="no results at"):
        load_records(path)
    path.write_text("\n")
    with pytest.raises(UserError, match="no finished run"):
        load_records(path)
    path.write_text(json.dumps(record(target_loss=3.0)) + "\n\n")
    assert load_records(path)[0]["losses"]["target"] == 3.0
    good = record(target_loss=3.0)
    path.write_text(json.dumps(good) + '\n{"id": ')
    with pytest.raises(UserError, match="line 2 is not JSON"):
        load_records(path)
    for wrong, words in (
        ([1], "it is \\[1\\], not an object"),
        ({**good, "losses": {"target": 3.0}}, "losses.generic is missing"),
        ({**good, "losses": 3.0}, "losses is 3.0, not an object"),
        ({**good, "boundary": {"step": 1}}, "boundary.gradient_cosine is missing"),
        ({**good, "seed": True}, "seed is True, not int"),
        ({**good, "total_steps": 10**400}, "total_steps has 1329 bits, more than 63"),
        ({**good, "bits_per_byte": {}}, "bits_per_byte.target is missing"),
        ({**good, "curve": [[]]}, "curve\\[0\\] is \\[\\], not an object"),
    ):
        path.write_text(json.dumps(wrong) + "\n")
        with pytest.raises(UserError, match=f"line 1 is no record of a run: {words}"):
            load_records(path)
    for damaged in (b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="line 1 is not JSON"):
            load_records(path)
