"""Which settings are tried, tuned, compared and added, by what the first seed says of them."""

import math
import statistics
from collections.abc import Iterator, Sequence

from replay_jax.analysis.budget.goal import Finding
from replay_jax.analysis.budget.planned import Grid, is_edge, middle, neighbours
from replay_jax.analysis.budget.state import Place, State

# Reference budgets that a law takes.
_POINTS = 3


def opening(grid: Grid) -> tuple[Place, ...]:
    """Cells that answers compare, and the reference budgets of and next above each of these."""
    cells = {c for q in grid.questions for c in (*q.replaying, *q.rivals)}
    for target in {grid.cells[c].key.target for c in cells}:
        cells.update(_near_references(grid, target, cells))
    return tuple((c, middle(grid.cells[c])) for c in sorted(cells))


def _near_references(grid: Grid, target: str, compared: set[int]) -> list[int]:
    line = grid.references(target)
    keys = {c: grid.cells[c].key for c in (*line, *compared)}
    asked = {keys[c].target_tokens for c in compared if keys[c].target == target}
    near = [c for c in line if keys[c].target_tokens in asked]
    for tokens in sorted(asked):
        near += [c for c in line if keys[c].target_tokens > tokens][:1]

    def distance(cell: int) -> float:
        return min(abs(math.log(keys[cell].target_tokens / tokens)) for tokens in asked)

    rest = sorted((c for c in line if c not in near), key=distance)
    return near + rest[: max(0, _POINTS - len(set(near)))]


def to_tune(state: State) -> tuple[Place, ...]:
    """Untried neighbours of the best settings of the cells that go on, the most needed first."""
    return tuple(
        (c, s)
        for c in _alive(state)
        for s in neighbours(state.grid.cells[c], state.best(c)[1])
        if (c, s) not in state.tried
    )


def _alive(state: State) -> tuple[int, ...]:
    """The better half (rounded down) of each side of every question, and all references tried."""
    first: list[int] = []
    second: list[int] = []
    for question in state.grid.questions:
        for side in (question.replaying, question.rivals):
            ranked = sorted(side, key=lambda c: state.loss((c, middle(state.grid.cells[c]))))
            half = ranked[: max(1, len(ranked) // 2)]
            first += half[:1]
            second += half[1:]
        first.append(question.usual)
    return tuple(dict.fromkeys((*first, *state.references, *second)))


def finalists(state: State) -> tuple[Place, ...]:
    """Of every question the best that replays, its rival and the usual recipe; all references.

    A rival that is best at the edge of its grid comes with its neighbours, so that the verdict
    sees whether it still improves there.
    """
    found: list[Place] = []
    for question in state.grid.questions:
        best, rival = (_best_of(state, side) for side in (question.replaying, question.rivals))
        found += [best, rival, state.best(question.usual)]
        cell = state.grid.cells[rival[0]]
        if is_edge(cell, rival[1]):
            beside = ((rival[0], s) for s in neighbours(cell, rival[1]))
            found += [place for place in beside if place in state.tried]
    found += [state.best(c) for c in state.references]
    return tuple(dict.fromkeys(found))


def _best_of(state: State, cells: Sequence[int]) -> Place:
    return min((state.best(c) for c in cells), key=state.loss)


def challengers(state: State) -> tuple[Place, ...]:
    """Settings of the cells compared that may be better than what was best on the first seed.

    They came as near to it as two seeds of one setting differ otherwise (the standard deviation
    over the settings compared), and have no second run.
    """
    changes = [change for change in map(state.change, state.kept) if change is not None]
    if len(changes) < 2:
        return ()
    near = statistics.stdev(changes)
    return tuple(
        place
        for cell in dict.fromkeys(c for c, _ in state.kept)
        for place in state.grid.places(cell)
        if state.loss(place) - state.loss(state.best(cell)) < near and not _has_second(state, place)
    )


def _has_second(state: State, place: Place) -> bool:
    second = state.setting(place).runs[1:2]
    return not second or second[0] in state.chosen


def standing(state: State) -> tuple[Place, ...]:
    """The settings compared, in every cell the one that is best over its first two seeds.

    What is compared beside it, as a neighbour at the edge of a grid, stays.
    """
    cells = [c for c, _ in state.kept]
    found: list[Place] = []
    for place in state.kept:
        found.append(_best_of_two(state, place[0]))
        if cells.count(place[0]) > 1:
            found.append(place)
    return tuple(dict.fromkeys(found))


def _best_of_two(state: State, cell: int) -> Place:
    """The setting of least mean loss over the first two seeds, or over one if none has two."""
    means = {
        place: state.loss(place) + change / 2
        for place in state.grid.places(cell)
        if (change := state.change(place)) is not None
    }
    return min(means, key=lambda place: means[place]) if means else state.best(cell)


def newcomers(state: State) -> tuple[Place, ...]:
    """The best settings of reference budgets that were opened since settings are compared."""
    compared = {c for c, _ in state.kept}
    return tuple(state.best(c) for c in state.references if c not in compared)


def reference_beyond(state: State, found: Finding) -> tuple[Place, ...]:
    """All settings of the next reference budget towards an answer that lies beyond those tried."""
    for target, above in found.beyond.items():
        line = state.grid.references(target)
        tokens = [state.grid.cells[c].key.target_tokens for c in line]
        tried = [t for c, t in zip(line, tokens, strict=True) if c in state.references]
        further = [
            (t, c)
            for c, t in zip(line, tokens, strict=True)
            if (t > max(tried) if above else t < min(tried))
        ]
        if further:
            _, cell = min(further) if above else max(further)
            return state.grid.places(cell)
    return ()


def contenders(state: State) -> tuple[Place, ...]:
    """Settings with a first run that are not compared, those nearest to the best of theirs first.

    Theirs is the side of a question; of cells that only give reference points, the cell.
    """
    gaps = {
        place: state.loss(place) - state.loss(_best_of(state, side))
        for side in _sides(state.grid)
        for c in side
        for place in state.grid.places(c)
        if place in state.tried and place not in state.kept and math.isfinite(state.loss(place))
    }
    return tuple(sorted(gaps, key=lambda place: (gaps[place], place)))


def _sides(grid: Grid) -> Iterator[tuple[int, ...]]:
    """Cells that compete; those of a question last, so that they count there."""
    yield from ((c,) for c in range(len(grid.cells)))
    for question in grid.questions:
        yield from (question.rivals, question.replaying)
