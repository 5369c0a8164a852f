"""Pilots against large runs: hits, misses and what a miss costs, by hand."""

import sys
from fractions import Fraction

import pytest
from places import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import pilot_hits


def runs(tokens, losses):
    """Records of one budget: {(rho, epochs): losses by seed}."""
    return [
        {
            "target": "laws",
            "protocol": "two_stage",
            "target_tokens": tokens,
            "target_epochs": epochs,
            "replay_fraction": {"requested": rho},
            "seed": seed,
            "losses": {"target": loss},
        }
        for (rho, epochs), by_seed in losses.items()
        for seed, loss in enumerate(by_seed)
    ]


LARGE = runs(4096, {(0, 8): [4.0, 4.2], (0.5, 8): [3.8, 3.8], (0.5, 4): [3.5, 3.7],
                    (0.75, 8): [3.7, 3.7]})  # fmt: skip
HIT = {(0, 8): [5.0, 5.0], (0.5, 8): [4.6, 4.8], (0.5, 4): [4.7, 4.9], (0.75, 8): [4.9, 4.7]}
MISS = HIT | {(0.75, 8): [4.0, 4.0]}


def test_a_hit_may_still_cost_by_its_epochs():
    (found,) = pilot_hits.answered(LARGE, runs(1024, HIT), Fraction(1, 4))
    assert found.question == ("laws", "two_stage", 4096)
    assert (found.large, found.pilots, found.fractions) == ((0.5, 4), (0.5, 8), 3)
    assert found.by_seed == ((0.5, 8), (0.75, 8))
    assert found.regret == pytest.approx(0.2) and found.gain == pytest.approx(0.5)
    assert "hit in 1 of 1 questions by all seeds together, in 1 of 2 by one seed" in (
        pilot_hits.said([found])
    )


def test_a_miss_and_what_is_no_question():
    (found,) = pilot_hits.answered(LARGE, runs(1024, MISS), Fraction(1, 4))
    assert found.pilots == (0.75, 8) and found.regret == pytest.approx(0.1)
    said = pilot_hits.said([found])
    assert said.endswith("together, in 0 of 2 by one seed; a guess would hit 33%")
    assert pilot_hits.answered(LARGE, runs(1024, MISS), Fraction(1, 2)) == []  # another budget
    alone = {key: value for key, value in MISS.items() if key[0] == 0.5}
    assert pilot_hits.answered(LARGE, runs(1024, alone), Fraction(1, 4)) == []
