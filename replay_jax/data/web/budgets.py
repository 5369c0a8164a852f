"""How many tokens each part of a prompt may have."""

from dataclasses import dataclass

from replay_jax.errors import UserError


@dataclass(frozen=True)
class Budgets:
    """Most tokens of each part; the defaults are those of WebLINX's own models.

    What the others leave of theirs, candidates may have (modeling/llama/processing.py there).
    """

    html: int = 700
    utterances: int = 200
    history: int = 250
    candidates: int = 650

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise UserError(f"a budget of {value} tokens for {name} must be 0 or more")
