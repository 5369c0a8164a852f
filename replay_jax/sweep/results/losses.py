"""Held-out losses of a run by role: of its target, and of its generic sources by their weights."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.errors import UserError
from replay_jax.sweep.plan.digest import canonical_digest
from replay_jax.sweep.plan.measured import HeldOutSet, run_sets
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.store.workdir import WorkStore

Facts = Sequence[Mapping[str, Any]]
ByRole = dict[str, float | None]


def final_losses(run: Run, store: WorkStore) -> dict[str, Any]:
    """What a record says of the held-out losses at the end of a run that is ready.

    Losses in nats per token. The loss of generic data is the mean over its sources, which count by
    their weights; what each source gave is told beside it where there are several.
    """
    sets, facts = run_sets(run), facts_at(run, run.steps, store)
    assert facts is not None
    documents = loss_documents(run, facts, documents_of(run, facts, store))
    return {
        "losses": _by_role(run, [_loss(fact) for fact in facts]),
        "bits_per_byte": _by_role(run, [_bits_per_byte(fact) for fact in facts]),
        "loss_tokens": {
            "target": facts[0]["tokens"],
            "generic": sum(fact["tokens"] for fact in facts[1:]),
        },
        **_counted_labels(run),
        **_generic_sources(run, facts[1:]),
        **({"loss_documents": documents} if documents else {}),
        "evaluation": evaluation_identity(sets[0], sets[1:], run.judged_generics),
    }


def evaluation_identity(
    target: HeldOutSet, generic: Sequence[HeldOutSet], weights: Sequence[tuple[str, int]]
) -> str:
    """16 hex digits of the held-out rows that a run is judged by, and of how they are weighed."""
    sets: list[Any] = [target.identity, generic[0].identity]
    if len(generic) > 1:
        pairs = zip(generic, weights, strict=True)
        sets[1] = [[held_out.identity, weight] for held_out, (_, weight) in pairs]
    return canonical_digest(sets).hex()[:16]


def losses_at(run: Run, step: int, store: WorkStore) -> ByRole | None:
    """Held-out nats per token of both roles at a state, or None if one is not known."""
    facts = facts_at(run, step, store)
    return None if facts is None else losses_of(run, facts)


def losses_of(run: Run, facts: Facts) -> ByRole:
    """Held-out nats per token of both roles, of what was measured at a state."""
    return _by_role(run, [_loss(fact) for fact in facts])


def facts_at(run: Run, step: int, store: WorkStore) -> Facts | None:
    """What every held-out set of a run gave at a state, or None if one is not known."""
    state = run.node(step).digest
    found = []
    for held_out in run_sets(run):
        fact = store.evaluation(held_out.key(state))
        if fact is None:
            return None
        found.append(fact)
    return found


def _by_role(run: Run, values: Sequence[float | None]) -> ByRole:
    """A value of the target and those of all generic sources, which count by their weights."""
    target, *generic = values
    known = [value for value in generic if value is not None]
    if len(known) < len(generic):
        return {"target": target, "generic": None}
    weights = [weight for _, weight in run.judged_generics]
    mean = sum(w * value for w, value in zip(weights, known, strict=True)) / sum(weights)
    return {"target": target, "generic": mean}


def _counted_labels(run: Run) -> dict[str, Any]:
    """Whose held-out losses are means over the labels that count alone; nothing where none are."""
    sources = dict(run.config.data.sources)
    found = [name for name in run.views if sources[name].masked]
    return {"loss_of_counted_labels": found} if found else {}


def _generic_sources(run: Run, facts: Facts) -> dict[str, Any]:
    """What was measured of every source of a mixture; nothing where there is one source."""
    weights = run.judged_generics
    if len(weights) == 1:
        return {}
    total = sum(weight for _, weight in weights)
    found = {
        name: {
            "share": weight / total,
            "loss": _loss(fact),
            "bits_per_byte": _bits_per_byte(fact),
            "loss_tokens": fact["tokens"],
        }
        for (name, weight), fact in zip(weights, facts, strict=True)
    }
    return {"generic_sources": found}


def documents_of(run: Run, facts: Facts, store: WorkStore) -> Facts:
    """The documents of every set that gave these facts; none if an earlier version measured one.

    Raises UserError where it is gone which documents were measured.
    """
    found: list[Mapping[str, Any]] = []
    for held_out, fact in zip(run_sets(run), facts, strict=True):
        if "nats_by_document" not in fact:
            return []
        documents = store.evaluation(held_out.documents_key)
        if documents is None:
            place, measured = store.root / "evaluations", held_out.key(fact["state"])
            raise UserError(
                f"{place / held_out.documents_key}.json is gone, which says what documents of "
                f"'{held_out.source}' were measured: delete {place / measured}.json, and `run` "
                "measures them again"
            )
        found.append(documents)
    return found


def loss_documents(run: Run, facts: Facts, documents: Facts) -> dict[str, Any]:
    """Losses by held-out document, by role; nothing where an earlier version measured a set.

    Where there are several generic sources, what is said of each is scaled so that its tokens are
    its share of all: the ratio of the sums is their weighted mean.
    """
    if not documents or not all("nats_by_document" in fact for fact in facts):
        return {}
    target, *generic = (
        {**own, "nats": fact["nats_by_document"]}
        for own, fact in zip(documents, facts, strict=True)
    )
    if len(generic) == 1:
        return {"target": target, "generic": generic[0]}
    names = [name for name, _ in run.judged_generics]
    weights = [weight for _, weight in run.judged_generics]
    every = sum(sum(source["tokens"]) for source in generic)
    mixed: dict[str, list[Any]] = {"document": [], "nats": [], "tokens": []}
    for name, weight, source in zip(names, weights, generic, strict=True):
        scale = weight / sum(weights) * every / sum(source["tokens"])
        mixed["document"] += [f"{name} {document}" for document in source["document"]]
        mixed["nats"] += [scale * nats for nats in source["nats"]]
        mixed["tokens"] += [scale * tokens for tokens in source["tokens"]]
    return {"target": target, "generic": mixed}


def _loss(fact: Mapping[str, Any]) -> float:
    loss: float = fact["nats"] / fact["tokens"]
    return loss


def _bits_per_byte(fact: Mapping[str, Any]) -> float | None:
    return fact["nats"] / math.log(2) / fact["bytes"] if fact["bytes"] else None
