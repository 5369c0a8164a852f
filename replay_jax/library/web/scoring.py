"""Predictions for web turns against what was done, with intervals over demonstrations.

Turns of one demonstration are right or wrong together, so demonstrations are what was sampled; with
several seeds these are chance too (`task_scores.two_way_interval`). A score is a mean over the
turns that count in it, and these may differ between two models: the interval is that of the turns'
contributions to the mean (its linearization).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.task_scores import by_group, two_way_interval
from replay_jax.data.web.actions import is_number, read_prediction
from replay_jax.data.web.step_scores import step_columns
from replay_jax.data.web.turn import OUT_OF_DOMAIN, SPLITS, WEBLINX, WebTurn
from replay_jax.data.web.turn_scores import judged_by_uid, left_out, turn_columns
from replay_jax.errors import UserError

Predictions = Mapping[int | None, Sequence[str]]
TEST_OOD = "test_ood"  # the mean over OUT_OF_DOMAIN, as the benchmark's leaderboard has it
_TEXTS = ("utterance", "url", "text", "value")


@dataclass(frozen=True)
class Part:
    """Scores of one split (or TEST_OOD) in [0, 1] by name.

    turns, demos: how many were judged. by_intent: means by what was done, without intervals.
    """

    turns: int
    demos: int
    scores: Mapping[str, Interval]
    by_intent: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class WebScores:
    """What predictions score.

    Attributes:
        parts: by split.
        changes: those of the other predictions taken from these, paired by turn and seed; {} for
            none.
        seeds: averaged over.
        left_out: turns that the benchmark does not judge.
        judged_by_uid: turns of which no other element than the right one can score, as its box is
            not known.
        numbers: turns whose text is a number, which the benchmark's reader takes for no text, so
            that it scores 0 whatever is predicted.
        unread: predictions without an action that could be read.
    """

    parts: Mapping[str, Part]
    changes: Mapping[str, Mapping[str, Interval]]
    seeds: int
    left_out: int
    judged_by_uid: int
    numbers: int
    unread: int

    def to_json(self) -> dict[str, object]:
        """Plain JSON object."""
        splits = {
            name: {
                "turns": part.turns,
                "demos": part.demos,
                "scores": _plain(part.scores),
                "by_intent": {intent: dict(means) for intent, means in part.by_intent.items()},
            }
            for name, part in self.parts.items()
        }
        counts = {name: getattr(self, name) for name in _COUNTS}
        changes = {name: _plain(scores) for name, scores in self.changes.items()}
        return {**counts, "splits": splits, "changes": changes}


_COUNTS = ("seeds", "left_out", "judged_by_uid", "numbers", "unread")


def score(
    predictions: Predictions,
    turns: Sequence[WebTurn],
    *,
    against: Predictions | None = None,
    level: float = 0.9,
) -> WebScores:
    """Score predictions, and compare them with others for the same turns.

    Args:
        predictions: one for each turn, by seed (`read_predictions`).
        turns: of one data set (`read_turns`).
        against: others, which must share a seed.
        level: of intervals.

    Raises:
        UserError: turns of two data sets, another number of predictions, or no seed in common.
    """
    data_set = _data_set(turns)
    for given in (predictions, against or {}):
        for texts in given.values():
            if len(texts) != len(turns):
                raise UserError(f"{len(texts)} predictions for {len(turns)} turns")
    out = left_out(turns) if data_set == WEBLINX else set()
    kept = np.array([turn.key not in out for turn in turns], bool)
    if not kept.any():
        raise UserError("no turn is judged: the pages have no box of any right element")
    judged = [turn for turn in turns if turn.key not in out]
    own = _tables(predictions, judged, kept)
    places = _places(judged)
    parts = {name: _part(own, judged, place, level) for name, place in places.items()}
    changes = {}
    if against is not None:
        seeds = [seed for seed in predictions if seed in against]
        if not seeds:
            raise UserError(
                f"no seed in common: {_seed_words(predictions)} and {_seed_words(against)}"
            )
        pair = own, _tables(against, judged, kept)
        changes = {n: _changes(*pair, seeds, judged, p, level) for n, p in places.items()}
    written = [text for texts in predictions.values() for text in texts]
    return WebScores(
        parts=parts,
        changes=changes,
        seeds=len(predictions),
        left_out=len(out),
        judged_by_uid=sum(map(judged_by_uid, judged)) if data_set == WEBLINX else 0,
        numbers=sum(map(_types_a_number, judged)) if data_set == WEBLINX else 0,
        unread=sum(not read_prediction(text).intent for text in written),
    )


# By score, the values [n] of every seed, nan where a turn does not count.
_Tables = Mapping[str, Mapping[int | None, np.ndarray]]


def _data_set(turns: Sequence[WebTurn]) -> str:
    found = sorted({turn.data_set for turn in turns})
    if len(found) != 1:
        raise UserError(f"records must be of one data set, not of {' and '.join(found) or 'none'}")
    return found[0]


def _tables(predictions: Predictions, judged: Sequence[WebTurn], kept: np.ndarray) -> _Tables:
    columns = turn_columns if judged[0].data_set == WEBLINX else step_columns
    by_seed = {}
    for seed, texts in predictions.items():
        own = [text for text, is_kept in zip(texts, kept, strict=True) if is_kept]
        by_seed[seed] = columns(judged, own)
    names = next(iter(by_seed.values()))
    return {
        name: {seed: np.array(c[name], np.float64) for seed, c in by_seed.items()} for name in names
    }


def _places(judged: Sequence[WebTurn]) -> dict[str, np.ndarray]:
    """Turns of every split in the order of SPLITS, and of TEST_OOD where it is whole."""
    splits = np.array([turn.split for turn in judged])
    found = {
        name: np.flatnonzero(splits == name)
        for name in SPLITS[judged[0].data_set]
        if (splits == name).any()
    }
    if all(name in found for name in OUT_OF_DOMAIN):
        found[TEST_OOD] = np.concatenate([found[name] for name in OUT_OF_DOMAIN])
    return found


def _part(tables: _Tables, judged: Sequence[WebTurn], place: np.ndarray, level: float) -> Part:
    splits, demos, intents = _labels(judged, place)
    scores = {}
    for name, by_seed in tables.items():
        found = [_contributions(values[place], splits) for values in by_seed.values()]
        scores[name] = _interval(found, demos, level)
    by_intent = {}
    for intent in sorted(set(intents.tolist())):
        chosen = place[intents == intent]
        means = {name: _mean([v[chosen] for v in own.values()]) for name, own in tables.items()}
        by_intent[intent] = {name: mean for name, mean in means.items() if mean is not None}
    return Part(len(place), len(set(demos.tolist())), scores, by_intent)


def _changes(
    own: _Tables,
    other: _Tables,
    seeds: Sequence[int | None],
    judged: Sequence[WebTurn],
    place: np.ndarray,
    level: float,
) -> dict[str, Interval]:
    splits, demos, _ = _labels(judged, place)
    found = {}
    for name in own:
        pairs = [
            (
                _contributions(own[name][s][place], splits),
                _contributions(other[name][s][place], splits),
            )
            for s in seeds
        ]
        differences = [None if a is None or b is None else a - b for a, b in pairs]
        found[name] = _interval(differences, demos, level)
    return found


def _labels(
    judged: Sequence[WebTurn], place: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split, demonstration and intent of the turns of a part."""
    turns = [judged[number] for number in place.tolist()]
    named = [(turn.split, turn.demo, turn.action.intent) for turn in turns]
    splits, demos, intents = (np.array(names) for names in zip(*named, strict=True))
    return splits, demos, intents


def _contributions(values: np.ndarray, splits: np.ndarray) -> np.ndarray | None:
    """Values [n] whose mean is the mean over splits of each split's mean of what counts.

    Of a turn: the mean of all, and its own distance from its split's mean as it weighs in it.
    None where nothing counts in a split.
    """
    names = sorted(set(splits.tolist()))
    counts = ~np.isnan(values)
    found = np.zeros(len(values))
    total = 0.0
    for name in names:
        own = counts & (splits == name)
        if not own.any():
            return None
        mean = float(values[own].mean())
        found[own] = (values[own] - mean) * len(values) / len(names) / own.sum()
        total += mean / len(names)
    return total + found


def _interval(rows: Sequence[np.ndarray | None], demos: np.ndarray, level: float) -> Interval:
    whole = [row for row in rows if row is not None]
    if len(whole) < len(rows):
        return Interval(None, None, None, note="no turn counts")
    values = by_group(np.stack(whole), demos)
    if values.shape[1] < 2:
        return Interval(float(values.mean()), None, None, note="one demonstration")
    return two_way_interval(values, level=level)


def _mean(rows: Sequence[np.ndarray]) -> float | None:
    means = [float(row[~np.isnan(row)].mean()) for row in rows if not np.isnan(row).all()]
    return float(np.mean(means)) if len(means) == len(rows) else None


def _types_a_number(turn: WebTurn) -> bool:
    arguments = turn.action.arguments
    return any(name in arguments and is_number(arguments[name]) for name in _TEXTS)


def _seed_words(predictions: Predictions) -> str:
    named = ["none is named" if seed is None else str(seed) for seed in predictions]
    return f"seeds {', '.join(named)}"


def _plain(scores: Mapping[str, Interval]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in scores.items():
        plain: dict[str, object] = {"value": value.value, "low": value.low, "high": value.high}
        found[name] = {**plain, "note": value.note} if value.note else plain
    return found
