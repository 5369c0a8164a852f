"""One run's configuration: what fits together, and what its identity holds."""

import dataclasses

import pytest

from replay_jax.config.defaults import paper_config
from replay_jax.config.experiment import resolve
from replay_jax.config.identity import NEUTRAL, result_identity, without_neutral
from replay_jax.errors import UserError
from replay_jax.strict import to_plain

FINGERPRINTS = {"c4": "a", "finemath": "b"}


def identity(config, weights=None, tasks=()):
    return result_identity(config, FINGERPRINTS, weights=weights, tasks=dict(tasks))


def test_loss_weights_name_sources():
    plain = paper_config().to_dict()
    plain["training"]["loss_weights"] = (("finemaths", 0.5),)
    with pytest.raises(UserError, match="names 'finemaths', which is no source.*'finemath'"):
        resolve(plain)


def test_the_identity_of_the_paper_s_run_is_pinned():
    """A new field must not orphan stored runs: name its neutral value in NEUTRAL.

    Changed on purpose with NUMERICS, with ORDER, or with a default of the paper's configuration.
    """
    assert identity(resolve(paper_config().to_dict())) == "eaabdc9bfad061ff"


def test_neutral_values_are_not_part_of_it():
    """A field of the table counts where it differs from its neutral value, and only there."""
    config = resolve(paper_config().to_dict())
    plain = to_plain(config)
    for key, value in NEUTRAL.items():
        *parents, last = key.split(".")
        node = plain
        for part in parents:
            node = node[part]
        assert last in node, f"{key} is no field"
        node[last] = value
    without = without_neutral(plain)
    for key in NEUTRAL:
        part, *_, last = key.split(".")
        assert last not in without[part]
    assert without_neutral(plain["model"], "model.") == without["model"]
    changed = dataclasses.replace(config.training, loss_weights=(("finemath", 0.5),))
    assert identity(dataclasses.replace(config, training=changed)) != identity(config)


def test_what_runs_start_from_is_part_of_it_by_content():
    config = resolve(paper_config().to_dict())
    assert identity(config, tasks={"xcopa": "c"}) != identity(config)
    assert identity(config, weights="w") != identity(config)
    other = dataclasses.replace(config, seed=1)
    assert identity(other) != identity(config)
    # Where training starts from a model, the seed draws nothing.
    assert identity(other, weights="w") == identity(config, weights="w")


@pytest.mark.parametrize(
    ("generic", "words"),
    [
        ({"c4": 0.5, "flan": 0.4}, "config.data.*sum to 0.9, not to 1"),
        ({"c4": 0.5, "flam": 0.5}, "generic source 'flam' is not among the sources"),
        ({"c4": 0.5, "finemath": 0.5}, "generic and target are both 'finemath'"),
        ({"c4": 1.0, "flan": 0.0}, "'flan' has weight 0"),
        ({"c4": "most", "flan": 0.5}, "config.data.generic.c4 must be float, not 'most'"),
        ({}, "at least one source"),
        (7, "config.data.generic must be str, not 7"),
    ],
)
def test_a_mixture_of_generic_data_that_cannot_be_is_one_sentence(generic, words):
    plain = paper_config().to_dict()
    plain["data"]["generic"] = generic
    with pytest.raises(UserError, match=words):
        resolve(plain)


def test_a_config_file_may_give_a_mixture_and_the_stored_form_is_read_again():
    config = paper_config()
    config.data.generic = {"flan": 0.25, "c4": 0.75}
    resolved = resolve(config.to_dict())
    assert resolved.data.generic == (("c4", 0.75), ("flan", 0.25))
    assert resolve(to_plain(resolved)) == resolved
