"""Which held-out text was read is chance too, and common to all seeds.

Documents cross with seeds: every run reads every document, so their luck does not shrink with
seeds. Resampled means get a normal multiplier bootstrap over documents (weights of mean and
variance 1), which moves all settings by the same documents: what they share cancels in contrasts.
Both a document and its interaction with seeds are in the mean over seeds of a document's losses,
and the interaction is in the noise between seeds as well; its share is taken out, as in the
two-way layout of task_scores.two_way_interval.

Shape legend: K settings, S seeds, D documents, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DocumentLuck:
    """`influence` [D, K]: what a document more adds to each mean loss, nats per token."""

    influence: np.ndarray

    @property
    def documents(self) -> int:
        """How many documents the held-out text has."""
        return len(self.influence)

    def drawn(self, rng: np.random.Generator, *, resamples: int) -> np.ndarray:
        """Deviations [R, K] of mean losses over other documents of the same kind."""
        result: np.ndarray = rng.standard_normal((resamples, self.documents)) @ self.influence
        return result


def document_luck(nats: Sequence[Sequence[np.ndarray]], tokens: np.ndarray) -> DocumentLuck | None:
    """From sums of nats [D] by setting and seed and the documents' tokens [D]; None for one.

    A loss is a ratio, sum of nats over sum of tokens, so a document's influence is its nats less
    the mean loss times its tokens, over all tokens (linearised; Cochran, Sampling Techniques 1977,
    section 6.3), with D / (D - 1) for the mean that was taken out.
    """
    count, total = len(tokens), float(tokens.sum())
    if count < 2:
        return None
    by_seed = [
        np.stack([(run - run.sum() / total * tokens) / total for run in runs]) for runs in nats
    ]
    influence = np.stack([runs.mean(axis=0) for runs in by_seed], axis=1)
    influence = influence * np.sqrt(count / (count - 1))
    return DocumentLuck(influence * np.sqrt(_share_of_documents(by_seed, influence)))


def _share_of_documents(by_seed: Sequence[np.ndarray], influence: np.ndarray) -> float:
    """Share of the contrasts' variance over documents that is not interaction with seeds."""
    contrasts = influence - influence.mean(axis=1, keepdims=True)
    whole = float((contrasts**2).sum())
    seeds = [len(runs) for runs in by_seed]
    if whole == 0 or min(seeds) < 2:
        return 1.0
    rest = sum(float(runs.var(axis=0, ddof=1).sum()) / len(runs) for runs in by_seed)
    return min(1.0, max(0.0, 1 - rest * (1 - 1 / len(by_seed)) / whole))
