"""The study that suits a model, somebody's conversations, and their time: sizes, and why."""

from dataclasses import dataclass, replace

from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.errors import UserError
from replay_jax.library.starting.lengths import Side

# Epochs tried, the replay fractions beside none, and the reference budgets in shares of the budget.
EPOCHS, FRACTIONS, REFERENCES = (1.0, 2.0, 4.0), (0.25, 0.5), (0.25, 0.5, 1.0)
RANK = 16  # of adapters, where the narrowest matrix allows it
# Rows of target data in a run, rows that a side is judged by, tokens of a row, rows of an update.
_BUDGET, _JUDGED, _MOST_TOKENS, _BATCH = 256, 64, 4096, 16
_LEAST_BUDGET, _LEAST_JUDGED, _LEAST_UPDATES = 16, 4, 8
_MOST_HELD_OUT = 0.3
# Share of the device's memory that parameters, gradients and moments may take beside activations.
_ROOM = 0.6
# Generic rows to choose from for every one that a run draws.
_CHOICE = 2.0


@dataclass(frozen=True)
class Tuning:
    """A study of fine-tuning.

    Attributes:
        model: its folder or hub id.
        tokenizer: its own, with the tokens that begin and end its texts.
        generic, target: what was seen of each side.
        paths: what was named for each side.
        seq_len: labels of a row; batch: rows of an update; budget, judged: rows of target data of a
            run, and held-out rows of each side.
        held_out: share of the documents of each side that is held out.
        train_fraction: share of the generic documents to tokenize.
        rank: of adapters (LoRA), which are trained in place of the model; None: the model itself.
        whole_bytes: parameters, gradients and moments of training all parameters; own_bytes: of
            what is trained; memory_bytes: of the device, None where nobody says.
        minutes: what the study is expected to take here; limit: why it is no larger.
    """

    model: str
    tokenizer: TokenizerConfig
    generic: Side
    target: Side
    paths: tuple[str, str]
    seq_len: int
    batch: int
    budget: int
    judged: int
    held_out: tuple[float, float]
    train_fraction: float
    rank: int | None = None
    whole_bytes: int = 0
    own_bytes: int = 0
    memory_bytes: int | None = None
    minutes: float = 0.0
    limit: str = ""

    @property
    def facts(self) -> tuple[str, ...]:
        """What was seen, and what it takes, one sentence for each thing."""
        sides = zip(self.paths, (self.generic, self.target), strict=True)
        return (*(_seen(path, side, self.seq_len) for path, side in sides), self._memory_words)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each value is what it is."""
        cut = self.target.longer(self.seq_len)
        long = f"; {cut:,} of those seen are longer and cut there" if cut else ""
        return (
            f"rows of {self.seq_len} tokens hold 95 % of the target's documents whole{long}",
            f"{self.budget} rows of target data a run, in updates of {self.batch}: about "
            f"{self.minutes:.0f} minutes for the whole study here; {self.limit}",
            f"{self.judged} held-out rows of each side to judge by, of documents that no run sees",
            "the reference is the recipe without replay at three budgets, so that what replay is "
            "worth can be told in target data",
            "1, 2 and 4 epochs, with and without replay: replay makes runs longer, so more epochs "
            "without it are the rival",
            "three seeds, which draw other target rows: the least for an interval"
            + ("" if self.rank else "; the weights that training begins from are one"),
        )

    @property
    def _memory_words(self) -> str:
        whole = f"training all parameters takes {_gb(self.whole_bytes)} before activations"
        room = "" if self.memory_bytes is None else f", of {_gb(self.memory_bytes)} here"
        if self.rank is None:
            return f"{whole} (parameters, gradients and moments){room}"
        return (
            f"{whole}{room}: adapters (LoRA of rank {self.rank}) are trained, which takes "
            f"{_gb(self.own_bytes)}"
        )


def tuning_of(
    model: str,
    tokenizer: TokenizerConfig,
    sides: tuple[Side, Side],
    paths: tuple[str, str],
    *,
    max_seq_len: int,
) -> Tuning:
    """The largest study that both sides give.

    Raises:
        UserError: there is too little of a side; the message has both numbers.
    """
    generic, target = sides
    seq_len = target.row_length(min(_MOST_TOKENS, max_seq_len))
    rows = [side.rows(seq_len) for side in sides]
    judged, held_out = _JUDGED, []
    for path, there in zip(paths, rows, strict=True):
        judged = min(judged, int(there * _MOST_HELD_OUT / 1.5))
        if judged < _LEAST_JUDGED:
            least = round(_LEAST_JUDGED * 1.5 / _MOST_HELD_OUT)
            raise UserError(
                f"{path} fills {there:,} rows of {seq_len} tokens, and {least} are needed to "
                "judge by some of them: give more of it"
            )
    for there in rows:
        held_out.append(round(min(_MOST_HELD_OUT, max(0.05, 1.5 * judged / there)), 3))
    train = [there * (1 - share) / 1.1 for there, share in zip(rows, held_out, strict=True)]
    # With half of the rows replayed, a run draws as many generic rows as target rows at all epochs.
    budget = min(_BUDGET, int(train[1]), int(train[0] / max(EPOCHS)))
    found = Tuning(
        model, tokenizer, generic, target, paths, seq_len, _BATCH, _BUDGET, judged,
        (held_out[0], held_out[1]), 1.0,
    )  # fmt: skip
    limit = "as much as is suggested" if budget == _BUDGET else "no more, for want of rows"
    return replace(smaller(found, budget, train[0]), limit=limit)


def smaller(found: Tuning, budget: int, generic_rows: float | None = None) -> Tuning:
    """The study with another budget, and the batch that suits it.

    Raises:
        UserError: the budget is too small to be divided into reference budgets.
    """
    budget = 2 ** (budget.bit_length() - 1) if budget else 0
    if budget < _LEAST_BUDGET:
        raise UserError(
            f"{found.paths[1]} and {found.paths[0]} give {budget} rows of {found.seq_len} tokens "
            f"to train on, and {_LEAST_BUDGET} are needed: give more of both"
        )
    batch = max(1, min(_BATCH, budget // _LEAST_UPDATES))
    there = found.generic.rows(found.seq_len) if generic_rows is None else generic_rows
    share = round(_CHOICE * max(EPOCHS) * budget / there, 3)
    fraction = share if share < 1 - found.held_out[0] else 1.0
    return replace(found, budget=budget, batch=batch, train_fraction=fraction)


def fits(found: Tuning) -> bool:
    """Whether all parameters can be trained in this memory."""
    return found.memory_bytes is None or found.whole_bytes <= _ROOM * found.memory_bytes


def _seen(path: str, side: Side, seq_len: int) -> str:
    part = "" if side.is_whole else "at least "
    tokens, counted = int(side.tokens.sum()), int(side.counted.sum())
    what = "conversations" if side.source.kind == "conversations" else "documents"
    count = f", of which {counted:,} count in the loss ({counted / tokens:.0%})"
    bad = f"; {side.bad:,} are none and passed over, first {side.first_bad}" if side.bad else ""
    lengths = f"{int(side.tokens.mean()):,} tokens (mean; at most {int(side.tokens.max()):,})"
    return (
        f"{path}: {part}{len(side.tokens):,} {what} of {lengths}, {part}{tokens:,} tokens"
        f"{count if side.source.masked else ''}; {part}{side.rows(seq_len):,} rows of {seq_len}"
        f"{bad}"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
