"""How often small pilots pick the large run's best replay fraction, and what a miss costs.

    python tools/pilot_hits.py LARGE.jsonl PILOTS.jsonl --fraction=1/4

Both are results.jsonl of finished sweeps: of a config, and of `replay-jax pilot` of it. A question
is one target, protocol and budget for which both ran the same replay fractions, none among them. Of
every question: the best fraction of the large runs (mean over their seeds, epochs tuned), that of
the pilots together and of every seed of the pilots alone, and the regret: what the large runs lose
at the pilots' choice of fraction and epochs, nats per token. Beside it what the best fraction gains
over none, and the share of questions that a guess among the fractions would have hit.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from replay_jax.analysis.runs.records import load_records

Record = Mapping[str, Any]
# A schedule: replay fraction and epochs.
Setting = tuple[float, float]
Question = tuple[str, str, Fraction]


@dataclass(frozen=True)
class Answer:
    """What one question has come to; losses in nats per token of the large runs."""

    question: Question
    fractions: int
    large: Setting
    pilots: Setting
    by_seed: tuple[Setting, ...]
    regret: float
    gain: float


def losses(records: Sequence[Record], share: Fraction) -> dict[Question, dict[Setting, dict]]:
    """Target losses by question, setting and seed; budgets in tokens of the large run."""
    found: dict[Question, dict[Setting, dict]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        rho = record["replay_fraction"]["requested"]
        if record["protocol"] == "uniform" or rho is None:
            continue
        question = record["target"], record["protocol"], record["target_tokens"] / share
        setting = rho, record["target_epochs"]
        found[question][setting][record["seed"]] = record["losses"]["target"]
    return found


def mean(by_seed: Mapping[int, float]) -> float:
    """Over seeds."""
    return sum(by_seed.values()) / len(by_seed)


def answered(large: Sequence[Record], pilots: Sequence[Record], share: Fraction) -> list[Answer]:
    """All questions that both have, with two replay fractions or more."""
    full, small = losses(large, Fraction(1)), losses(pilots, share)
    answers = []
    for question in sorted(full.keys() & small.keys()):
        both = full[question].keys() & small[question].keys()
        fractions = {rho for rho, _ in both}
        if len(fractions) < 2 or 0 not in fractions:
            continue
        ours = {setting: mean(full[question][setting]) for setting in both}
        theirs = {setting: small[question][setting] for setting in both}
        seeds = set.intersection(*(set(by_seed) for by_seed in theirs.values()))
        best = min(ours, key=ours.__getitem__)
        picked = min(theirs, key=lambda setting: mean(theirs[setting]))
        alone = min((setting for setting in ours if setting[0] == 0), key=ours.__getitem__)
        answers.append(
            Answer(
                question,
                fractions=len(fractions),
                large=best,
                pilots=picked,
                by_seed=tuple(
                    min(theirs, key=lambda setting: theirs[setting][seed]) for seed in sorted(seeds)
                ),
                regret=ours[picked] - ours[best],
                gain=ours[alone] - ours[best],
            )
        )
    return answers


def said(answers: Sequence[Answer]) -> str:
    """A line for every question, and the rates."""
    lines = []
    for answer in answers:
        target, protocol, tokens = answer.question
        seeds = " ".join(f"{rho:g}" for rho, _ in answer.by_seed)
        lines.append(
            f"{target}, {protocol}, {int(tokens):,} tokens: large rho {answer.large[0]:g} at "
            f"{answer.large[1]:g} epochs, pilots {answer.pilots[0]:g} at {answer.pilots[1]:g}, by "
            f"seed {seeds}; regret {answer.regret:.3f} of a gain of {answer.gain:.3f}"
        )
    hits = [answer.pilots[0] == answer.large[0] for answer in answers]
    single = [rho == answer.large[0] for answer in answers for rho, _ in answer.by_seed]
    guess = sum(1 / answer.fractions for answer in answers) / len(answers)
    lines.append(
        f"rho hit in {sum(hits)} of {len(hits)} questions by all seeds together, in {sum(single)} "
        f"of {len(single)} by one seed; a guess would hit {guess:.0%}"
    )
    return "\n".join(lines)


def main() -> None:
    """Read both files and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("large", type=Path)
    parser.add_argument("pilots", type=Path)
    parser.add_argument("--fraction", type=Fraction, required=True)
    arguments = parser.parse_args()
    large, pilots = load_records(arguments.large), load_records(arguments.pilots)
    print(said(answered(large, pilots, arguments.fraction)))


if __name__ == "__main__":
    main()
