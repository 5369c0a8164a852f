"""The rotary embeddings of a `config.json`, in the spellings of transformers 4 and 5."""

from collections.abc import Mapping
from typing import Any

from replay_jax.errors import UserError
from replay_jax.hub.families import FULL, SLIDING, Family
from replay_jax.hub.numbers import positive
from replay_jax.model.architecture import RopeConfig

# Ours and theirs, by the way of stretching.
_LENGTH = {"original_length": "original_max_position_embeddings"}
_NUMBERS = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor", "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor", **_LENGTH,
    },
    "yarn": {
        "factor": "factor", "low_freq_factor": "beta_slow", "high_freq_factor": "beta_fast",
        **_LENGTH,
    },
}  # fmt: skip
_LEFT_OUT = {"yarn": {"beta_slow": 1.0, "beta_fast": 32.0}}
# What else may be said, where it says what is done anyway.
_SAID = {"partial_rotary_factor": 1.0, "mscale": None, "mscale_all_dim": None, "truncate": True}


def ropes_of_hub(
    config: Mapping[str, Any], family: Family, name: str
) -> tuple[RopeConfig, RopeConfig]:
    """The rotary embedding of layers that see everything, and that of layers with a window.

    Raises:
        UserError: it is described in a way that is not understood; names the setting.
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    _check_object(given, name)
    theta = config["rope_theta"]
    local = config["rope_local_base_freq"] if "rope_local_base_freq" in config else theta
    if FULL in given or SLIDING in given:
        whole, part = given.get(FULL) or {}, given.get(SLIDING) or {}
        _check_object(whole, name)
        _check_object(part, name)
        return _rope(whole, theta, name), _rope(part, local, name)
    whole = _rope(given, theta, name)
    return whole, _rope({}, local, name) if family.two_ropes else whole


def hub_of_ropes(rope: RopeConfig, local: RopeConfig, family: Family) -> dict[str, Any]:
    """The same as settings: in the old spelling, and in the new too where layers differ."""
    old = _spelled(rope)
    theta = old.pop("rope_theta")
    found = {"rope_theta": theta, "rope_scaling": None if rope.scaling == "none" else old}
    if family.two_ropes or local != rope:
        found["rope_parameters"] = {FULL: _spelled(rope), SLIDING: _spelled(local)}
    if "rope_local_base_freq" in family.left_out:
        found["rope_local_base_freq"] = local.theta
    return found


def _check_object(given: Any, name: str) -> None:
    if not isinstance(given, Mapping):
        raise UserError(
            f"{name} describes its rotary embedding as {given!r}: a JSON object with its rope_type "
            "and numbers can be loaded"
        )


def _spelled(rope: RopeConfig) -> dict[str, Any]:
    if rope.scaling == "none":
        return {"rope_type": "default", "rope_theta": rope.theta}
    numbers = {theirs: getattr(rope, ours) for ours, theirs in _NUMBERS[rope.scaling].items()}
    return {"rope_type": rope.scaling, "rope_theta": rope.theta, **numbers}


def _rope(given: Mapping[str, Any], theta: Any, name: str) -> RopeConfig:
    theta = positive(given.get("rope_theta", theta), f"{name} has rope_theta")
    for key, value in _SAID.items():
        if given.get(key, value) != value:
            raise UserError(
                f"{name} has a rotary embedding with {key} {given[key]!r}, and only {value!r} can "
                "be loaded"
            )
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return RopeConfig(theta=theta)
    if not isinstance(kind, str) or kind not in _NUMBERS:
        raise UserError(
            f"{name} stretches its rotary embedding by {kind!r}, and only 'default', "
            f"{', '.join(map(repr, _NUMBERS))} can be loaded"
        )
    given = {**_LEFT_OUT.get(kind, {}), **given}
    lacking = [key for key in _NUMBERS[kind].values() if key not in given]
    if lacking:
        raise UserError(f"{name} has a {kind} rotary embedding without {lacking[0]}")
    numbers: dict[str, Any] = {
        ours: positive(given[theirs], f"{name} has {theirs}")
        for ours, theirs in _NUMBERS[kind].items()
    }
    if "original_length" in numbers:
        numbers["original_length"] = int(numbers["original_length"])
    rope = RopeConfig(theta=theta, scaling=kind, **numbers)
    if given.get("attention_factor") is not None:
        size = positive(given["attention_factor"], f"{name} has attention_factor")
        if abs(size - rope.size) > 1e-6:
            raise UserError(
                f"{name} has a rotary embedding with attention_factor {size}, and only the "
                f"{rope.size} that follows from its factor can be loaded"
            )
    return rope
