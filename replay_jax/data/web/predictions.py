"""Predictions of a model for turns: JSON lines with demo, turn and prediction, perhaps a seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from replay_jax.data.sources.files import read_objects
from replay_jax.data.web.turn import WebTurn
from replay_jax.errors import UserError
from replay_jax.shape import misshapen

_SHAPE = {"demo": str, "turn": int, "prediction": str}


def read_predictions(
    path: str | Path, turns: Sequence[WebTurn]
) -> Mapping[int | None, tuple[str, ...]]:
    """What is predicted for each turn, in the order of the turns, by seed (None: none is named).

    Raises:
        UserError: a line that is no prediction, one for a turn that is not there or has one
            already, or a seed that lacks some.
    """
    place = Path(path).expanduser()
    numbers = {turn.key: number for number, turn in enumerate(turns)}
    found: dict[int | None, dict[int, str]] = {}
    for where, value in read_objects(place, "predictions"):
        if wrong := misshapen(value, _SHAPE):
            raise UserError(f"{where}: {wrong}")
        key, seed = (value["demo"], value["turn"]), _seed(value, where)
        if key not in numbers:
            raise UserError(f"{where}: the records have no turn {key[1]} of {key[0]!r}")
        own = found.setdefault(seed, {})
        if numbers[key] in own:
            raise UserError(f"{where}: turn {key[1]} of {key[0]!r} has a prediction already")
        own[numbers[key]] = value["prediction"]
    for seed, own in found.items():
        if len(own) < len(turns):
            lacking = next(turn for n, turn in enumerate(turns) if n not in own)
            words = "" if seed is None else f" of seed {seed}"
            raise UserError(
                f"{place} has {len(own)} predictions{words} for {len(turns)} turns: turn "
                f"{lacking.turn} of {lacking.demo!r} has none"
            )
    return {seed: tuple(own[n] for n in range(len(turns))) for seed, own in found.items()}


def _seed(value: Mapping[str, Any], where: str) -> int | None:
    if "seed" not in value:
        return None
    if type(value["seed"]) is not int:
        raise UserError(f"{where}: seed is {value['seed']!r}, not a whole number")
    return int(value["seed"])
