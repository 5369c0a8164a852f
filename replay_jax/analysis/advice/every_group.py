"""Every group of a study answered: one recommendation per budget, protocol and further axes."""

from dataclasses import replace

from replay_jax.analysis.advice.compare import incomparable
from replay_jax.analysis.advice.recommend import Recommendation, recommend
from replay_jax.analysis.study.selection import focus_budget, row_of
from replay_jax.analysis.study.study import Study, TargetStudy, replays
from replay_jax.errors import UserError


def recommend_every_group(study: Study, target: str) -> tuple[Recommendation, ...]:
    """One recommendation for every group of a target with runs with and without replay.

    The first is the one to act on: at the budget of the figures (`focus_budget`) the group with
    the fewest kinds of rival that were not run, so that no knob tried beside the sweep answers for
    it unchallenged, and among equals the one whose best schedule that replays has the lowest target
    loss. The others follow by budget.

    Raises:
        UserError: unknown target; or no group where replay can be compared with its absence.
    """
    found = study.target(target)
    compared = [cell for cell in found.cells if replays(cell) and cell.baseline is not None]
    places = {row_of(cell.key) for cell in compared}
    answers = []
    for place in sorted(places, key=lambda place: (place[1], place[0], place[2])):
        alone = replace(study, targets=(_only(found, place),))
        try:
            answers.append(recommend(alone, target=target, target_tokens=place[1]))
        except UserError:
            continue  # its baseline is another group's (freely written stages)
    if not answers:
        raise UserError(incomparable(found))
    first = min(answers, key=lambda answer: _rank(found, answer))
    return (first, *(answer for answer in answers if answer is not first))


def _only(found: TargetStudy, place: tuple[str, int, tuple[tuple[str, str], ...]]) -> TargetStudy:
    """The study in which no other group of the budget has a baseline to be recommended from."""
    cells = tuple(
        replace(cell, is_baseline=cell.is_baseline and row_of(cell.key) == place)
        for cell in found.cells
    )
    return replace(found, cells=cells)


def _rank(found: TargetStudy, answer: Recommendation) -> tuple[bool, int, float]:
    loss = found.cells[answer.best].chosen.target_loss
    lacking = len(answer.answered.lacking)
    return answer.target_tokens != focus_budget(found), lacking, loss
