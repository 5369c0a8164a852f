"""What experiments/pilots claims follows from its records and the quickstart's."""

import re
import sys
from fractions import Fraction

from places import ROOT

from replay_jax.analysis.runs.records import load_records

sys.path.insert(0, str(ROOT / "tools"))
import pilot_hits


def bare(number, form):
    return re.sub(r"^0\.", ".", f"{number:{form}}")


def test_the_table_and_the_rates_follow_from_the_records():
    text = (ROOT / "experiments/pilots/README.md").read_text()
    large = load_records(ROOT / "experiments/quickstart/results.jsonl")
    pilots = load_records(ROOT / "experiments/pilots/quickstart_quarter.jsonl")
    answers = pilot_hits.answered(large, pilots, Fraction(1, 4))
    assert len(answers) == 2
    for answer in answers:
        best, picked = (
            f"{bare(rho, 'g')} at {epochs:g} epochs"
            for rho, epochs in (answer.large, answer.pilots)
        )
        seeds = " ".join(bare(rho, "g") for rho, _ in answer.by_seed)
        costs = f"{bare(answer.regret, '.3f')} nat | {bare(answer.gain, '.3f')} nat"
        row = f" | {best} | {picked} | {seeds} | {costs} |"
        assert re.search(rf"\| {int(answer.question[2]):,} \| [^|]+{re.escape(row)}", text), row
    said = pilot_hits.said(answers)
    assert "1 of 2 questions by all seeds together, in 3 of 6 by one seed; a guess" in said
    kept = [round(100 * (1 - answer.regret / answer.gain)) for answer in answers]
    assert f"{kept[0]} and {kept[1]} %" in text
    gains = []
    for _, by_setting in sorted(pilot_hits.losses(pilots, Fraction(1, 4)).items()):
        means = {setting: pilot_hits.mean(losses) for setting, losses in by_setting.items()}
        if any(rho for rho, _ in means):
            alone = min(loss for (rho, _), loss in means.items() if rho == 0)
            gains.append(bare(alone - min(means.values()), ".3f"))
    assert f"{gains[0]} and {gains[1]} nat in the pilots" in text
