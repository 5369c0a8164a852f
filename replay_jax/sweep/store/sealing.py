"""Checksums inside facts, so that a number that was changed afterwards is noticed."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from replay_jax.sweep.plan.digest import canonical_digest
from replay_jax.sweep.store.facts import fact_names, read_fact

_CHECKSUM = "checksum"
SEALED_FOLDERS = ("segments", "evaluations")


def sealed(fact: Mapping[str, Any]) -> dict[str, Any]:
    """A fact with the checksum of all that it says."""
    return {**fact, _CHECKSUM: checksum(fact)}


def unsealed(fact: Mapping[str, Any]) -> dict[str, Any]:
    """A fact without its checksum."""
    return {name: value for name, value in fact.items() if name != _CHECKSUM}


def changed_facts(root: epath.Path) -> list[str]:
    """Spans and evaluations of a working directory that are not what was written."""
    found = []
    for folder in SEALED_FOLDERS:
        for name in fact_names(root / folder):
            fact = read_fact(root / folder / f"{name}.json")
            if not _is_as_sealed(fact):
                found.append(f"{folder}/{name}.json")
    return found


def _is_as_sealed(fact: object) -> bool:
    try:
        return isinstance(fact, Mapping) and fact.get(_CHECKSUM) == checksum(fact)
    except ValueError:  # numbers that are none: nobody wrote them
        return False


def checksum(fact: Mapping[str, Any]) -> str:
    """32 hex digits of all that a fact says."""
    return canonical_digest(unsealed(fact)).hex()
