"""A sweep again at a small size: what decides how often and when target rows are seen is kept.

A pilot keeps the steps, the target share f, the epochs E and so gamma = f E, rho, alpha, and f
times the steps, the unique target data in batches. It has a share of every batch and a model of
about the same tokens a parameter, but one that is started from weights stays as it is. Proxies that
repeat the target data another number of times than the large run pick the wrong mixture (arXiv
2606.07597).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from replay_jax.config.experiment import resolve
from replay_jax.config.recipe import Overrides, Recipe, override
from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig, parameter_counts

# Counted in sequences: a pilot has so many times fewer.
_ROWS = ("training.batch_size", "schedule.target_sequences", "schedule.batch_sizes")
_SEEDS = ("seed", "data_seed")
# What a config that sweeps no replay is piloted with; epochs in multiples of its own.
_REPLAY, _EPOCHS = (0.0, 0.25, 0.5, 0.75), (Fraction(1, 2), Fraction(1), Fraction(2))
# The model's width goes down in steps of a head, and every model between 1 head and all is tried.
_MLP_MULTIPLE = 8


@dataclass(frozen=True)
class Pilot:
    """A small study for a large run.

    Attributes:
        recipe: the pilots' own.
        share: of the large run's batch, and so of its tokens.
        model, large_model: the decoders.
        tokens: of one large run, in training; with protocol "continual" of one without replay.
    """

    recipe: Recipe
    share: Fraction
    model: ModelConfig
    large_model: ModelConfig
    tokens: int

    @property
    def tokens_per_parameter(self) -> tuple[float, float]:
        """Of the large run and of a pilot."""
        small = parameter_counts(self.model).total
        large = parameter_counts(self.large_model).total
        return self.tokens / large, float(self.tokens * self.share) / small


def pilot_of(recipe: Recipe, share: Fraction, *, seeds: int) -> Pilot:
    """The pilots of a recipe: its own sweep, or rho and epochs where it sweeps no replay.

    Args:
        recipe: of the large run or runs.
        share: of the large run's tokens, between 0 and 1.
        seeds: paired seeds of every pilot, from 0 on.

    Raises:
        UserError: a share of a batch or budget that is no whole number of sequences, with the
            nearest share that gives one; a sweep over models; a schedule without a budget.
    """
    if not 0 < share < 1:
        raise UserError(f"--fraction is {share}: a pilot has a share of the run between 0 and 1")
    if seeds < 2:
        raise UserError(f"--seeds is {seeds}: one seed says nothing about chance; take at least 2")
    large = resolve({**recipe.base, "name": recipe.name})
    budget = large.schedule.target_sequences
    if budget is None or large.schedule.target_epochs is None:
        raise UserError(
            f"{recipe.name} has protocol '{large.schedule.protocol}' without a budget: set "
            "schedule.target_sequences and schedule.target_epochs, which a pilot shrinks"
        )
    swept = {key for item in recipe.sweep for key in item}
    if large.model.variant is not None and not large.initial_weights:
        raise UserError(
            f"{recipe.name} draws a model with model.variant, which is not shrunk: pilot a Llama "
            "of its size, or start from a small model by initial_weights"
        )
    if any(key.split(".")[0] == "model" for key in swept):
        raise UserError(f"{recipe.name} sweeps the model: pilot one of its sizes at a time")
    _check_rows(recipe, share)
    model = large.model if large.initial_weights else shrunk(large.model, share)
    base: Mapping[str, Any] = recipe.base
    for key in _ROWS:
        base = override(base, key, _smaller(_at(base, key), share))
    base = override(base, "model", dataclasses.asdict(model))
    if large.evaluation.batch_size > large.training.batch_size * share:
        base = override(base, "evaluation.batch_size", max(1, int(_at(base, _ROWS[0]))))
    runs = _own_runs(recipe, share) if "schedule.replay_fraction" in swept else _grid(recipe)
    sweep = tuple({**run, "seed": n, "data_seed": n} for n in range(seeds) for run in runs)
    name = f"{recipe.name}_pilot"
    small = dataclasses.replace(recipe, name=name, base=base, sweep=sweep)
    steps = large.schedule.total_steps
    # The continual protocol is as long as its target data, and longer with replay.
    rows = (
        budget * large.schedule.target_epochs
        if steps is None
        else steps * large.training.batch_size
    )
    return Pilot(small, share, model, large.model, round(rows * large.training.seq_len))


def shrunk(model: ModelConfig, share: Fraction) -> ModelConfig:
    """The model of about that share of the parameters: fewer heads of the same width, fewer layers.

    Width, hidden width and layers shrink alike. The vocabulary stays, so a small share may be out
    of reach; the nearest in ratio is taken.
    """
    wanted = math.log(parameter_counts(model).total * share)

    def distance(small: ModelConfig) -> float:
        return abs(math.log(parameter_counts(small).total) - wanted)

    return min((_narrower(model, heads) for heads in range(1, model.num_heads + 1)), key=distance)


def _narrower(model: ModelConfig, heads: int) -> ModelConfig:
    ratio = heads / model.num_heads
    group = model.num_heads // model.num_kv_heads
    return dataclasses.replace(
        model,
        num_heads=heads,
        num_kv_heads=heads // group if heads % group == 0 else heads,
        embed_dim=model.embed_dim // model.num_heads * heads,
        mlp_dim=max(1, round(model.mlp_dim * ratio / _MLP_MULTIPLE)) * _MLP_MULTIPLE,
        num_layers=max(1, round(model.num_layers * ratio)),
    )


def _check_rows(recipe: Recipe, share: Fraction) -> None:
    """Raise UserError unless every count of sequences has a whole share."""
    counts = {key: set(_numbers(_at(recipe.base, key))) for key in _ROWS}
    for item in recipe.sweep:
        for key in _ROWS:
            if key in item:
                counts[key].update(_numbers(item[key]))
    every = math.gcd(*(count for found in counts.values() for count in found))
    for key, found in counts.items():
        for count in sorted(found):
            if (count * share).denominator > 1:
                near = Fraction(min(every - 1, max(1, round(every * share))), every)
                raise UserError(
                    f"--fraction={share} of {key} {count} is {float(count * share):g} sequences, "
                    f"no whole number: {near} would give one"
                    if every > 1
                    else f"--fraction={share} of {key} {count} is no whole number of sequences, "
                    "and neither is any other share of all: choose a rounder batch and budget"
                )


def _own_runs(recipe: Recipe, share: Fraction) -> Sequence[Overrides]:
    """The recipe's own runs at the share, once where they differ in their seeds alone."""
    found: list[Overrides] = []
    for item in recipe.sweep:
        run = {
            key: _smaller(value, share) if key in _ROWS else value
            for key, value in item.items()
            if key not in _SEEDS
        }
        if run not in found:
            found.append(run)
    return found


def _grid(recipe: Recipe) -> Sequence[Overrides]:
    """rho x epochs about those of the config; what would not fit into the run is left out."""
    schedule = recipe.base["schedule"]
    share = 0.0
    if (steps := schedule["total_steps"]) is not None:
        share = schedule["target_sequences"] / (steps * recipe.base["training"]["batch_size"])
    return [
        {"schedule.replay_fraction": rho, "schedule.target_epochs": epochs}
        for epochs in (float(schedule["target_epochs"] * times) for times in _EPOCHS)
        for rho in _REPLAY
        if share * epochs < 1 - rho
    ]


def _numbers(value: Any) -> Sequence[int]:
    """The counts of a setting that has one or, as `schedule.batch_sizes`, several."""
    return value if isinstance(value, list | tuple) else (value,)


def _smaller(value: Any, share: Fraction) -> Any:
    """That share of each count."""
    smaller = tuple(int(number * share) for number in _numbers(value))
    return smaller if isinstance(value, list | tuple) else smaller[0]


def _at(plain: Mapping[str, Any], key: str) -> Any:
    room, name = key.split(".")
    return plain[room][name]
