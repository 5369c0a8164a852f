"""Whether a schedule that replays was trained longer than what it is compared with.

Longer training lowers the loss whatever the data, so a gain is replay's only where the other side
was given as much: where one of its settings was trained as long, whether or not that was its best.
FLOPs decide where records have them, steps elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.spent import SAME, Spent, amount, spent
from replay_jax.analysis.study.study import CellResult, SettingResult

EPOCHS = "schedule.target_epochs"


@dataclass(frozen=True)
class Training(Spent):
    """How much longer the best setting of one cell was trained than any setting of another.

    `other` is the longest of those.
    """

    @property
    def longer(self) -> bool:
        """Whether the other was never given as much."""
        return self.ratio > 1 + SAME

    @property
    def words(self) -> str:
        """The ratio with both numbers."""
        return f"{self.ratio:.1f} times the {self.unit} ({self.own:,.4g} against {self.other:,.4g})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON object."""
        return {
            "unit": self.unit,
            "own": self.own,
            "longest_without_replay": self.other,
            "ratio": self.ratio,
        }


def training(own: CellResult, other: CellResult) -> Training | None:
    """Compare the best setting of `own` with all settings of `other`; None: not recorded."""
    for unit, of in (("FLOPs", _flops), ("steps", _steps)):
        mine, theirs = of(own.chosen), [of(setting) for setting in other.ever]
        known = [length for length in theirs if length is not None]
        if mine is not None and len(known) == len(theirs):
            return Training(unit, mine, max(known))
    return None


@dataclass(frozen=True)
class Price:
    """What the schedule's training cost beside its rival's, each at its best, and what it gave.

    spent: the training of one run of each. gain: nats per token over the rival. tokens: how many
    more target tokens the rival would need for as much, None without a reference law.
    """

    spent: Spent
    gain: Interval
    tokens: Interval | None

    @property
    def words(self) -> str:
        """One line: at equal training, or what was gained for how much more of it."""
        unit, extra = self.spent.unit, self.spent.extra
        amounts = f"{amount(self.spent.own)} against {amount(self.spent.other)}"
        if extra == 0:
            return f"replay costs no training here: {amount(self.spent.own)} {unit} a run each"
        ratio = f"{self.spent.ratio:.2g} times the {unit} ({amounts} a run)"
        if extra < 0:
            return f"replay was given less training: {ratio}"
        if self.gain.value is None or self.gain.value <= 0:
            return f"replay was given more training and gained nothing by it: {ratio}"
        per = self.spent.per_step(self.gain)
        assert per is not None and per.value is not None
        each = f"{amount(self.spent.step)} {unit} more"
        words = f"replay was given {ratio}: {per.value:.3f} nat{_range(per, '.3f')} for each {each}"
        tokens = self.spent.per_step(self.tokens)
        if tokens is not None and tokens.value is not None:
            words += (
                f", or what {tokens.value:,.0f} more target tokens{_range(tokens, ',.0f')} give"
            )
        return words

    def to_json(self) -> dict[str, Any]:
        """Plain JSON object; what is gained is for each `per` of extra training."""
        gain, tokens = (self.spent.per_step(found) for found in (self.gain, self.tokens))
        return {
            "unit": self.spent.unit,
            "own": self.spent.own,
            "without_replay": self.spent.other,
            "extra": self.spent.extra,
            "per": self.spent.step if self.spent.extra > 0 else None,
            "gain_nats": None if gain is None else gain.to_json(),
            "target_tokens": None if tokens is None else tokens.to_json(),
        }


def price(
    own: CellResult, other: CellResult, gain: Interval, multiplier: Interval | None
) -> Price | None:
    """Of the best setting of `own` over that of `other`; None where records do not say."""
    found = spent(own.chosen, other.chosen)
    if found is None:
        return None
    budget, tokens = own.key.target_tokens, None
    if multiplier is not None:
        value, low, high = (
            None if end is None else (end - 1) * budget
            for end in (multiplier.value, multiplier.low, multiplier.high)
        )
        tokens = Interval(value, low, high, multiplier.extrapolated, multiplier.note)
    return Price(found, gain, tokens)


def _range(found: Interval, form: str) -> str:
    if found.low is None or found.high is None:
        return ""
    return f" ({found.low:{form}} to {found.high:{form}})"


def as_long(cell: CellResult, ratio: float) -> Mapping[str, Any] | None:
    """Overrides of the cell's best setting with epochs that train it `ratio` times as long.

    None where its epochs are not what decides its length.
    """
    overrides, chosen = cell.chosen.overrides, cell.chosen
    lengths = {s.target_epochs: s.steps for s in cell.ever}
    if EPOCHS not in overrides or (len(lengths) > 1 and len(set(lengths.values())) == 1):
        return None
    longest = max(lengths)
    epochs = longest * ratio if len(lengths) > 1 else chosen.target_epochs * ratio
    return {**overrides, EPOCHS: float(round(epochs)) if epochs >= 1 else epochs}


def _flops(setting: SettingResult) -> float | None:
    return setting.flops


def _steps(setting: SettingResult) -> float | None:
    return setting.steps
