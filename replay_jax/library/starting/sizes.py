"""The study that suits somebody's text and time: sizes, budgets, and why."""

import math
from dataclasses import dataclass

from replay_jax.errors import UserError
from replay_jax.library.starting.looking import (
    Measured,
    Seen,
    measure,
    shared_documents,
    tokenizer_of,
)

STEPS, SEQ_LEN = 320, 128
# Budgets of the reference law in units, the least unit in sequences; the largest is four units.
BUDGETS, _LEAST_UNIT, _LARGEST = (0.5, 0.75, 1.0, 1.5, 2.0, 4.0), 8, 4
# Held-out sequences that a study is judged on where there are so many, and the least.
_JUDGED, _LEAST_JUDGED = 96, 16
# Share of the documents held out, at most.
_MOST_HELD_OUT = 0.3
# Whole documents are held out, chosen by a hash: of fewer it may be none.
_LEAST_DOCUMENTS = 20
# Generic rows to choose from for every one that a run draws: seeds draw others.
_CHOICE = 2.0


@dataclass(frozen=True)
class Size:
    """A model (embed_dim, mlp_dim, layers, heads, key/value heads), its vocabulary and batch."""

    shape: str
    vocabulary: int
    batch: int


# Smallest first. The second is the quickstart's, for which all else was tuned.
SIZES = (
    Size("64,176,2,4,4", 512, 16),
    Size("128,352,2,4,4", 1024, 32),
    Size("192,512,3,6,6", 2048, 64),
    Size("256,688,4,8,8", 4096, 128),
)


@dataclass(frozen=True)
class Start:
    """A study for two sides.

    Attributes:
        generic, target: what was seen of each side.
        generic_tokens, target_tokens: how much of it there is.
        size: the model and its batch.
        unit: the budget, in sequences, of which the others are multiples.
        held_out: share of the documents of each side that is held out.
        train_fraction: share of the generic documents to tokenize.
        judged: sequences of each held-out set.
        minutes: what the study is expected to take here.
        limit: why it is no larger.
    """

    generic: Seen
    target: Seen
    generic_tokens: Measured
    target_tokens: Measured
    size: Size
    unit: int
    held_out: tuple[float, float]
    train_fraction: float
    judged: int
    minutes: float = 0.0
    limit: str = ""

    @property
    def facts(self) -> tuple[str, ...]:
        """What was seen, one sentence for each thing."""
        both = shared_documents(self.target, self.generic)
        sides = ((self.generic, self.generic_tokens), (self.target, self.target_tokens))
        lines = [_seen(seen, tokens) for seen, tokens in sides]
        if both:
            lines.append(
                f"{both:,} documents of the target stand in the generic text too: what target data "
                "is worth is confounded by them; take them out, or set data.drop_copies"
            )
        return tuple(lines)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each value is what it is."""
        rows = STEPS * self.size.batch
        smallest, largest = (round(self.unit * times) for times in (BUDGETS[0], BUDGETS[-1]))
        there = self.target_tokens.tokens // (SEQ_LEN + 1)
        return (
            f"model {self.size.shape}, vocabulary {self.size.vocabulary:,}, batch "
            f"{self.size.batch}: about {self.minutes:.0f} minutes for the whole study here; "
            f"{self.limit}",
            f"{STEPS} steps of {self.size.batch} sequences of {SEQ_LEN} tokens draw {rows:,} "
            f"generic sequences at most, so none is repeated, and {self.train_fraction:.1%} of the "
            "generic documents are tokenized to choose from",
            f"budgets of {smallest} to {largest} target sequences, of about {there:,} that there "
            "are: the study asks at a small size how to schedule scarce data; the schedule, not "
            "the loss, is what carries over (replay-jax pilot says how)",
            "six reference budgets, so that the law that multipliers rest on can bend; the two "
            "smallest whole ones with replay, where it is scarcest",
            "at these two a constant mixture of the same rows, which often makes most of what "
            "replay does: a verdict is against the better of it and the usual recipe",
            "epochs in threes about those that were best in the quickstart, fewer for larger "
            "budgets: the report says where a best one lies at the edge",
            "three seeds, which also draw other target rows: the least for an interval",
        )


def study_of_size(size: Size, generic: Seen, target: Seen) -> Start:
    """A study with that model; raises UserError, with both numbers, where there is too little."""
    for seen in (generic, target):
        if seen.documents < _LEAST_DOCUMENTS:
            raise UserError(
                f"{seen.path} has {seen.documents} documents, and {_LEAST_DOCUMENTS} are needed so "
                "that some can be held out: cut it into smaller ones"
            )
    tokenizer = tokenizer_of(generic, size.vocabulary)
    sides = measure(generic, tokenizer), measure(target, tokenizer)
    held_out, judged = [], _JUDGED
    rows = []
    for seen, side in zip((generic, target), sides, strict=True):
        there = side.tokens / (SEQ_LEN + 1)
        share = min(_MOST_HELD_OUT, max(0.05, 1.3 * _JUDGED / there))
        held_out.append(round(share, 3))
        # Two thirds of the expectation: documents differ in length.
        judged = min(judged, int(there * share / 1.5))
        rows.append(int(there * (1 - share) / 1.2))
        if judged < _LEAST_JUDGED:
            needed = round(_LEAST_JUDGED / _MOST_HELD_OUT * 1.5)
            raise UserError(
                f"{seen.path} has about {there:,.0f} sequences of {SEQ_LEN} tokens, and {needed} "
                f"are needed to judge by some of them: give {_more(there, needed)}"
            )
    if rows[0] < STEPS * size.batch:
        raise UserError(
            f"{generic.path} has about {rows[0]:,} sequences of {SEQ_LEN} tokens to train on, and "
            f"{STEPS} steps of {size.batch} take {STEPS * size.batch:,}: give "
            f"{_more(rows[0], STEPS * size.batch)}"
        )
    unit = min(size.batch, rows[1] // _LARGEST) // 4 * 4
    if unit < _LEAST_UNIT:
        raise UserError(
            f"{target.path} has about {rows[1]:,} sequences of {SEQ_LEN} tokens to train on, and "
            f"{_LARGEST * _LEAST_UNIT} are needed: give {_more(rows[1], _LARGEST * _LEAST_UNIT)}"
        )
    share = round(_CHOICE * STEPS * size.batch / rows[0], 3)
    train_fraction = share if share < 1 - held_out[0] else 1.0
    return Start(
        generic, target, *sides, size, unit, (held_out[0], held_out[1]), train_fraction, judged
    )


def _more(there: float, needed: float) -> str:
    """How much more text, in words, rounded up to a tenth."""
    if there < 1:
        return "more of it"
    return f"{math.ceil(10 * needed / there) / 10:g} times as much of it"


def _seen(seen: Seen, side: Measured) -> str:
    part = "" if seen.is_whole else "at least "
    repeated = f", {seen.repeated:,} of them repeated" if seen.repeated else ""
    bad = f", {seen.bad:,} more that are no text and are passed over" if seen.bad else ""
    cut = {"": "", "\n\n": ", cut at blank lines", "\n": ", cut at lines"}[seen.source.separator]
    return (
        f"{seen.path}: {part}{seen.documents:,} documents of {side.tokens_per_document:,} tokens "
        f"(median){cut}{repeated}{bad}; about {part}{side.tokens:,} tokens"
    )
