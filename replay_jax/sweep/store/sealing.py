"""Checksums inside facts, so that a number that was changed afterwards is noticed."""

from collections.abc import Mapping
from typing import Any

from replay_jax.sweep.plan.digest import canonical_digest

_CHECKSUM = "checksum"
# What `verify` looks for a checksum in; in others it is looked at where there is one.
SEALED_FOLDERS = ("segments", "evaluations")


def sealed(fact: Mapping[str, Any]) -> dict[str, Any]:
    """A fact with the checksum of all that it says."""
    return {**fact, _CHECKSUM: checksum(fact)}


def unsealed(fact: Mapping[str, Any]) -> dict[str, Any]:
    """A fact without its checksum."""
    return {name: value for name, value in fact.items() if name != _CHECKSUM}


def is_sealed(fact: object) -> bool:
    """Whether a fact has a checksum, right or wrong."""
    return isinstance(fact, Mapping) and _CHECKSUM in fact


def is_as_sealed(fact: object) -> bool:
    """Whether a fact has the checksum of what it says."""
    try:
        return isinstance(fact, Mapping) and fact.get(_CHECKSUM) == checksum(fact)
    except ValueError:  # numbers that are none: nobody wrote them
        return False


def checksum(fact: Mapping[str, Any]) -> str:
    """32 hex digits of all that a fact says."""
    return canonical_digest(unsealed(fact)).hex()
