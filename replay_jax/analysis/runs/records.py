"""Result records: one line of results.jsonl for each finished run, and what is asked of them.

Losses are nats per token.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etils import epath

from replay_jax.errors import UserError
from replay_jax.shape import NUMBER, Each, misshapen
from replay_jax.strict import from_plain

MISSING = object()
# Experiments of the paper with values in report/published/values.json; "" is none.
PUBLISHED = (
    "", "basque_8b", "constant_mixture", "cooldown", "fine_tuning", "fine_tuning_epochs",
    "fine_tuning_target_scaling", "headline", "longer_run", "mid_training", "model_scaling",
    "more_target", "reference_law", "repetitions", "weblinx_8b", "weight_decay",
)  # fmt: skip
_MAYBE = (*NUMBER, type(None))
_ROLES = {"target": _MAYBE, "generic": _MAYBE}
_FRACTION = {"requested": _MAYBE, "realised": NUMBER}
_BOUNDARY: dict[str, Any] = {
    "step": NUMBER,
    "gradient_cosine": _MAYBE,
    **dict.fromkeys(("before", "after"), {"target": NUMBER, "generic": NUMBER}),
}
# Read where every record has it.
_OPTIONAL = {
    "total_steps": NUMBER,
    "flops": NUMBER,
    "bits_per_byte": {"target": _MAYBE},
    "early_stopping": {
        "steps": [int],
        "losses": {"target": NUMBER, "generic": NUMBER},
        "nats": {"target": [NUMBER], "generic": [NUMBER]},
    },
}
# What a study reads of every record (docs/sweeps.md lists all that a record holds).
RECORD: dict[str, Any] = {
    "id": str,
    "name": str,
    "overrides": Each(object),
    "seed": int,
    "protocol": str,
    "replay_fraction": _FRACTION,
    "allocation": _FRACTION,
    "target_tokens": int,
    "target_epochs": NUMBER,
    "losses": _ROLES,
    "evaluation": str,
    "target": str,
    "generic": str,
    "curve": [{"step": int, **dict.fromkeys(("target", "generic", "train_target"), _MAYBE)}],
    "boundary": (dict, type(None)),
    "config": Each(object),
}


@dataclass(frozen=True)
class AnalysisConfig:
    """What to compare with what.

    reference: dotted key -> value that a record's overrides, fields or configuration must match to
      be a point of the reference curve, e.g. {"protocol": "uniform"} or {"replay_fraction": 0.0}.
    tuned: dotted keys over which the best is chosen (by mean over seeds) in every cell, e.g.
      ("schedule.target_epochs", "schedule.learning_rate.peak").
    level: of all intervals, between 0 and 1.
    margin: changes of target loss below it are none, nats per token; 0: none is small enough.
    published: which of the paper's own values the report shows beside these; "" for none.
    early_stopping: judge every run by the best state that was measured on its way, chosen on other
      held-out documents than it is judged by, in place of its last.
    axes: dotted keys whose values are never compared with each other, even where they differ only
      between runs with and without replay, nor read off the reference curve of another value.
    """

    reference: Mapping[str, Any]
    tuned: tuple[str, ...]
    level: float
    margin: float = 0.0
    published: str = ""
    early_stopping: bool = False
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.published not in PUBLISHED:
            raise UserError(
                f"analysis.published '{self.published}' is none of {', '.join(PUBLISHED[1:])}"
            )
        if not self.reference:
            raise UserError(
                'analysis.reference is empty; name the reference runs, e.g. {"protocol": "uniform"}'
            )
        if not 0 < self.level < 1:
            raise UserError(
                f"analysis.level must lie between 0 and 1, got {self.level}; 0.9 is usual"
            )
        if not 0 <= self.margin < math.inf:
            raise UserError(
                f"analysis.margin must be nats per token from 0 up, got {self.margin}; try 0.01"
            )


# What records of before a field of AnalysisConfig stand for.
ADDED: Mapping[str, Any] = {"margin": 0.0, "published": "", "early_stopping": False, "axes": ()}


def stored_analysis(plain: Mapping[str, Any]) -> AnalysisConfig:
    """The analysis settings of a record's configuration, of whatever version.

    Raises:
        UserError: they are no such settings.
    """
    return from_plain(AnalysisConfig, {**ADDED, **plain}, path="analysis")


def load_records(path: epath.PathLike) -> list[dict[str, Any]]:
    """Read results.jsonl: one JSON object per line, blank lines ignored.

    Raises:
      UserError: no such file, no record in it, or a line that is no record.
    """
    path = epath.Path(path)
    if not path.is_file():
        raise UserError(f"no results at {path}; run the sweep first")
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is not JSON: {error}") from error
        check_record(record, f"{path}, line {number}")
        records.append(record)
    if not records:
        raise UserError(f"{path} holds no finished run yet")
    return records


def check_record(record: Any, where: str) -> None:
    """Raise UserError unless a JSON value has what a study reads of a record."""
    wrong = misshapen(record, RECORD)
    if not wrong:
        wrong = misshapen(record, {name: _OPTIONAL[name] for name in _OPTIONAL if name in record})
    if not wrong and record["boundary"] is not None:
        wrong = misshapen(record["boundary"], _BOUNDARY, "boundary")
    if wrong:
        raise UserError(f"{where} is no record of a run: {wrong}")


def look_up(record: Mapping[str, Any], key: str) -> Any:
    """Value of a dotted key in a record: its overrides, then its own fields, then its config.

    Raises:
      UserError: the key is in none of them.
    """
    value = find(record, key)
    if value is MISSING:
        raise UserError(
            f"run {label(record)} has no {key!r}, neither swept nor configured nor recorded"
        )
    return value


def replay_fraction(record: Mapping[str, Any]) -> float:
    """Requested replay fraction, or the realised one where none was requested."""
    return _requested(record, "replay_fraction")


def allocation(record: Mapping[str, Any]) -> float:
    """Requested stage-2 allocation, or the realised one where none was requested."""
    return _requested(record, "allocation")


def matches(record: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a record has all the wanted values (numbers within 1e-9)."""
    return all(_same(look_up(record, key), value) for key, value in wanted.items())


def check_losses(record: Mapping[str, Any]) -> None:
    """Raise UserError unless both held-out losses are finite; None is a generic one unmeasured."""
    for domain in ("target", "generic"):
        loss = record["losses"][domain]
        if loss is None and domain == "generic":
            continue
        if isinstance(loss, bool) or not isinstance(loss, int | float) or not math.isfinite(loss):
            raise UserError(
                f"run {label(record)} has {domain} loss {loss}; a run that diverged cannot be "
                "compared: remove its record, or rerun it at a lower learning rate"
            )


def _requested(record: Mapping[str, Any], field: str) -> float:
    requested = record[field]["requested"]
    value = record[field]["realised"] if requested is None else requested
    return round(float(value), 6)


def find(record: Mapping[str, Any], key: str) -> Any:
    """Like `look_up`, but MISSING where the key is nowhere."""
    if key in record["overrides"]:
        return record["overrides"][key]
    if key in ("replay_fraction", "allocation"):
        return _requested(record, key)
    for root in (record, record["config"]):
        value: Any = root
        for part in key.split("."):
            value = value[part] if isinstance(value, Mapping) and part in value else MISSING
        if value is not MISSING:
            return value
    return MISSING


def _same(value: Any, wanted: Any) -> bool:
    numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in (value, wanted)]
    if all(numbers):
        return math.isclose(value, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return bool(value == wanted)


def text(value: Any) -> str:
    """A value as it stands in a table; floats of one text are one value.

    Twelve digits leave out what arithmetic adds, as in 0.1 + 0.2.
    """
    if value is MISSING:
        return "not set"
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value)


def fraction_form(*fractions: float | None, digits: int = 4) -> str:
    """How to print replay fractions: to so many digits, or as many as tell all of them from 1."""
    below = [each for each in fractions if each is not None and each < 1]
    return next(f".{n}g" for n in range(digits, 18) if all(f"{x:.{n}g}" != "1" for x in below))


def fraction_words(fraction: float) -> str:
    """A replay fraction as a sentence has it, as 0.75 or 0.99999."""
    return f"{fraction:{fraction_form(fraction)}}"


def label(record: Mapping[str, Any]) -> str:
    """A run in words: its name and id, of which one may hold the other."""
    name, id = str(record["name"]), str(record["id"])
    return id if name in id else f"{name} ({id})"
