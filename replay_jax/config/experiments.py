"""A recipe's sweep as complete configurations, one for every run."""

from collections.abc import Mapping
from typing import Any

from replay_jax.config.experiment import ExperimentConfig, resolve
from replay_jax.config.recipe import Recipe, override
from replay_jax.errors import UserError

Experiments = list[tuple[ExperimentConfig, Mapping[str, Any]]]


def experiments_of(recipe: Recipe) -> Experiments:
    """The resolved configuration and the overrides of every run of a recipe.

    Raises:
        UserError: a run's configuration is wrong, or runs differ in sources or tokenizer.
    """
    found: Experiments = []
    for item in recipe.sweep:
        plain: Mapping[str, Any] = {**recipe.base, "name": recipe.name}
        for key, value in item.items():
            plain = override(plain, key, value)
        found.append((resolve(plain), item))
    for config, item in found:
        data, first = config.data, found[0][0].data
        if config.tasks != found[0][0].tasks:
            raise UserError(f"run {dict(item)} has other tasks than the first run: score all alike")
        if (data.sources, data.tokenizer, data.store_dir) != (
            first.sources,
            first.tokenizer,
            first.store_dir,
        ):
            raise UserError(
                f"run {dict(item)} has other sources or another tokenizer than the first run: "
                "declare all sources in get_config() and vary data.generic or data.target"
            )
    return found


def configs_of(experiments: Experiments) -> list[ExperimentConfig]:
    """The configurations alone."""
    return [config for config, _ in experiments]
