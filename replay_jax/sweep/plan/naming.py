"""Runs in words: each by what its sweep set, models by their presets, tables of values by names."""

from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.model.presets import PRESETS
from replay_jax.report.naming import Names, named
from replay_jax.strict import to_plain

Overrides = Mapping[str, Any]
PRESET_NAMES: Names = {"model": {name: to_plain(model) for name, model in PRESETS.items()}}
_LONGEST = 24  # characters of a value that is a text, such as a path


def said_overrides(overrides: Sequence[Overrides]) -> list[dict[str, Any]]:
    """What every run of a sweep sets, with names for whole tables of values that differ where the
    values do; see `report.naming`."""
    return [run["overrides"] for run in named([{"overrides": o} for o in overrides], PRESET_NAMES)]


def run_names(overrides: Sequence[Overrides], otherwise: str) -> list[str]:
    """A short name of every run of a sweep: the last part of every key that it sets, and the value.

    `otherwise` is the name of a run that sets nothing.
    """
    return [
        " ".join(
            f"{key.rsplit('.', 1)[-1]}={_cut(text(value)) if own[key] is value else value}"
            for key, value in said.items()
        )
        or otherwise
        for own, said in zip(overrides, said_overrides(overrides), strict=True)
    ]


def text(value: Any) -> str:
    """A plain value for people."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cut(words: str) -> str:
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
