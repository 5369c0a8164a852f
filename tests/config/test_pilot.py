"""Pilots keep what decides how often and when target rows are seen, and shrink all else."""

import dataclasses
from fractions import Fraction

import pytest

from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.pilot import pilot_of, shrunk
from replay_jax.config.recipe import load_recipe
from replay_jax.errors import UserError
from replay_jax.model.architecture import Variant, parameter_counts
from replay_jax.model.presets import preset
from replay_jax.schedule.protocols import build_schedule
from replay_jax.strict import to_plain

ONE_RUN = """
from replay_jax.config.defaults import paper_config

def get_config():
    config = paper_config()
    config.schedule.target_sequences = 4096
    return config

def sweep():
    return [{}]
"""


def built(config):
    return build_schedule(
        config.schedule, batch_size=config.training.batch_size, generic="generic", target="target"
    )


def facts(config):
    """What a pilot keeps exactly: steps, and target rows in batches."""
    schedule = config.schedule
    return (
        built(config).total_steps,
        Fraction(schedule.target_sequences, config.training.batch_size),
        schedule.target_epochs,
        schedule.replay_fraction,
        schedule.stage2_allocation,
        schedule.protocol,
    )


def starts(config):
    """Where stages begin, in steps: a stage may begin inside a batch."""
    return [Fraction(start, config.training.batch_size) for start in built(config).stage_starts]


@pytest.mark.parametrize(("name", "share"), [("paper/headline", 64), ("paper/basque_8b", 32)])
def test_pilots_of_a_sweep_are_its_runs_in_batches(name, share):
    recipe = load_recipe(name)
    pilot = pilot_of(recipe, Fraction(1, share), seeds=2)
    large = configs_of(experiments_of(recipe))
    small = configs_of(experiments_of(pilot.recipe))
    assert list(map(facts, small)) == list(map(facts, large)) * 2
    for one, other in zip(small, large * 2, strict=True):
        row = Fraction(1, one.training.batch_size)
        assert all(abs(a - b) <= row for a, b in zip(starts(one), starts(other), strict=True))
    assert {(c.seed, c.data_seed) for c in small} == {(0, 0), (1, 1)}
    assert {c.training.batch_size * share for c in small} == {recipe.base["training"]["batch_size"]}
    assert {c.training.seq_len for c in small} == {recipe.base["training"]["seq_len"]}
    started = bool(recipe.base["initial_weights"])
    assert (pilot.model == pilot.large_model) == started


def test_batch_sizes_of_stages_shrink_with_the_batch():
    recipe = load_recipe("paper/fine_tuning_replay")
    schedule = {**recipe.base["schedule"], "batch_sizes": [1024, 256]}
    sweep = ({"schedule.replay_fraction": 0.0}, {"schedule.batch_sizes": [1024, 2048]})
    sized = dataclasses.replace(recipe, base={**recipe.base, "schedule": schedule}, sweep=sweep)
    small = configs_of(experiments_of(pilot_of(sized, Fraction(1, 64), seeds=2).recipe))
    assert [c.schedule.batch_sizes for c in small] == [(16, 4), (16, 32)] * 2
    assert {c.training.batch_size for c in small} == {16}
    with pytest.raises(UserError, match="of schedule.batch_sizes 256 is .* no whole number"):
        pilot_of(sized, Fraction(1, 512), seeds=2)


def test_a_config_of_one_run_is_piloted_over_replay_and_epochs(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(ONE_RUN)
    pilot = pilot_of(load_recipe(path), Fraction(1, 64), seeds=3)
    tried = {
        (c.schedule.target_epochs, c.schedule.replay_fraction)
        for c in configs_of(experiments_of(pilot.recipe))
    }
    # f = 4096 / (1024 * 1024): at 64 epochs the target fills a quarter, so all fit.
    assert tried == {(e, rho) for e in (16.0, 32.0, 64.0) for rho in (0.0, 0.25, 0.5)} | {
        (16.0, 0.75), (32.0, 0.75)
    }  # fmt: skip
    assert len(pilot.recipe.sweep) == 3 * len(tried)


@pytest.mark.parametrize("name", ["150m", "600m", "8b", "10m"])
def test_a_model_shrinks_to_about_the_share_with_heads_of_its_width(name):
    large = preset(name)
    share = Fraction(1, 4)
    small = shrunk(large, share)
    ratio = parameter_counts(small).total / parameter_counts(large).total
    assert 0.15 < ratio < 0.4
    assert small.head_dim == large.head_dim and small.vocab_size == large.vocab_size
    assert small.num_heads % small.num_kv_heads == 0


def test_what_cannot_be_a_pilot_is_refused_with_what_would():
    recipe = load_recipe("paper/headline")
    with pytest.raises(UserError, match="no whole number: 21/64 would give one"):
        pilot_of(recipe, Fraction(1, 3), seeds=2)
    with pytest.raises(UserError, match="between 0 and 1"):
        pilot_of(recipe, Fraction(2), seeds=2)
    with pytest.raises(UserError, match="take at least 2"):
        pilot_of(recipe, Fraction(1, 4), seeds=1)
    model = {**recipe.base["model"], "variant": {**to_plain(Variant(head_dim=32))}}
    with pytest.raises(UserError, match="with model.variant, which is not shrunk"):
        varied = dataclasses.replace(recipe, base={**recipe.base, "model": model})
        pilot_of(varied, Fraction(1, 4), seeds=2)
    with pytest.raises(UserError, match="one of its sizes at a time"):
        pilot_of(load_recipe("paper/model_scaling"), Fraction(1, 4), seeds=2)
