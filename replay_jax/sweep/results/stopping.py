"""What a run gives if it is stopped early: at its best measured state, chosen on other documents.

The least of several measured losses is too low by luck, so no state is judged by the documents that
it was chosen by. The target's held-out documents are two halves, every other one; each half chooses
the state that is best on it, and that state is judged by the other half. The two together are
judged by every document once, as the end of the run is (two-fold cross-fitting).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.results.losses import Facts, documents_of, loss_documents
from replay_jax.sweep.store.workdir import WorkStore


def early_stopping(run: Run, measured: Mapping[int, Facts], store: WorkStore) -> dict[str, Any]:
    """What a record says of a run that is stopped early; nothing where there was no choice.

    Args:
        run: the run.
        measured: by step, in order, what its held-out sets gave at every state to choose among.
        store: says which documents they are.

    `steps` [2] are those of the states that the two halves chose. `losses` in nats per token: of
    the target as above; of generic data the mean over both states. `nats` by document, in the order
    of the record's `loss_documents`.
    """
    documents = documents_of(run, list(measured.values())[-1], store)
    found = {
        step: said
        for step, facts in measured.items()
        if (said := loss_documents(run, facts, documents))
    }
    states = list(found.values())
    if len(found) < 2 or len(states[0]["target"]["nats"]) < 2:
        return {}
    own, chosen = chosen_states([state["target"]["nats"] for state in states])
    target = np.array([state["target"]["nats"] for state in states])[own, np.arange(len(own))]
    generic = np.mean([states[number]["generic"]["nats"] for number in chosen], axis=0)
    nats = {"target": target, "generic": generic}
    return {
        "early_stopping": {
            "steps": [list(found)[number] for number in chosen],
            "losses": {
                role: float(sums.sum() / sum(states[-1][role]["tokens"]))
                for role, sums in nats.items()
            },
            "nats": {role: sums.round(3).tolist() for role, sums in nats.items()},
        }
    }


def chosen_states(nats: Sequence[Sequence[float]]) -> tuple[np.ndarray, tuple[int, int]]:
    """The state that judges each document [D], and the two that were chosen, given nats [T, D].

    Of the states by which a half is best the first is chosen.
    """
    sums = np.array(nats)
    half = np.arange(sums.shape[1]) % 2
    best = [int(sums[:, half == other].sum(axis=1).argmin()) for other in (1, 0)]
    return np.array(best)[half], (best[0], best[1])
