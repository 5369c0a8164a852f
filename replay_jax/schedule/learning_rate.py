"""Learning-rate schedules with exact integer boundaries: warmup, stable, decay."""

from dataclasses import dataclass

import numpy as np

from replay_jax.errors import UserError

SHAPES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class LearningRate:
    """A learning-rate schedule over one span of steps.

    A span is `warmup` steps from 0 to `peak`, then `stable` steps at `peak`, then `decay` steps
    towards `peak * final_ratio`. The boundaries are those of Levanter, which the paper's runs
    used (optim/config.py there): `int(fraction * steps)`, so 0.01 of 1024 steps is 10 and of 64
    steps is 0. With a warmup the first step of the span therefore has rate 0, and the last step
    is one decrement above `peak * final_ratio`.

    `decay_fraction` is the share of the span spent decaying: None is everything after the warmup
    and 0.0 is no decay at all. 1.0 is refused, because the authors' library read it as "no
    warmup" in one version and as "after the warmup" in another; None says the second, and
    `warmup_fraction=0.0` with None says the first.

    Attributes:
        peak: highest rate, reached at step `warmup` of the span.
        shape: how it decays: "cosine", "linear" (with a decay fraction this is
            warmup-stable-decay) or "constant" (it does not).
        warmup_fraction: share of the span spent warming up, in [0, 1).
        decay_fraction: share of the span spent decaying, in [0, 1), or None.
        final_ratio: rate at the end of the decay over `peak`, in [0, 1].

    Raises UserError if a value lies outside its range, if warmup and decay do not fit in one
    span, or if a constant rate is asked to decay.
    """

    peak: float
    shape: str
    warmup_fraction: float
    decay_fraction: float | None
    final_ratio: float

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise UserError(f"learning rate shape {self.shape!r} is not one of {', '.join(SHAPES)}")
        if not 0 <= self.peak < float("inf"):
            raise UserError(f"learning rate peak {self.peak} must be finite and not negative")
        if not 0 <= self.warmup_fraction < 1:
            raise UserError(f"warmup_fraction {self.warmup_fraction} must lie in [0, 1)")
        if not 0 <= self.final_ratio <= 1:
            raise UserError(f"final_ratio {self.final_ratio} must lie in [0, 1]")
        if self.decay_fraction is None:
            return
        if self.decay_fraction == 1:
            raise UserError(
                "decay_fraction 1.0 has no single meaning; "
                "give None to decay over everything after the warmup"
            )
        if not 0 <= self.decay_fraction < 1:
            raise UserError(f"decay_fraction {self.decay_fraction} must lie in [0, 1) or be None")
        if self.shape == "constant" and self.decay_fraction > 0:
            raise UserError(
                f"a constant learning rate cannot decay over {self.decay_fraction} of its span; "
                "give decay_fraction None"
            )
        if self.warmup_fraction + self.decay_fraction > 1 + 1e-9:
            raise UserError(
                f"warmup_fraction {self.warmup_fraction} and decay_fraction "
                f"{self.decay_fraction} do not fit in one span; lower one of them"
            )

    def warmup_steps(self, steps: float) -> int:
        """Steps of warmup in a span of `steps`."""
        return int(self.warmup_fraction * steps)

    def decay_steps(self, steps: float) -> float:
        """Steps of decay in a span of `steps`; 0 for a constant rate."""
        if self.shape == "constant":
            return 0
        after_warmup = steps - self.warmup_steps(steps)
        if self.decay_fraction is None:
            return after_warmup
        return min(int(self.decay_fraction * steps), after_warmup)


def learning_rates(rate: LearningRate, steps: int) -> np.ndarray:
    """Returns float32 [steps]: the rate that each step of a span uses, step 0 first.

    Raises UserError for a span of less than one step.
    """
    if steps < 1:
        raise UserError(f"a learning-rate span needs at least one step, got {steps}")
    return rates_at(rate, np.arange(steps), steps)


def rates_at(rate: LearningRate, places: np.ndarray, steps: float) -> np.ndarray:
    """Returns float32 [places]: the rate at places in [0, steps) of a span, in steps.

    Place t of the warmup has `peak * t / warmup`. Place d of the decay (from 0) has
    `peak * (f + (1 - f) * g(d / decay))` with `g(x) = 1 - x` for "linear" and
    `(1 + cos(pi x)) / 2` for "cosine", f the final ratio (the values of
    `optax.linear_schedule` and `optax.cosine_decay_schedule`).
    """
    warmup, decay = rate.warmup_steps(steps), rate.decay_steps(steps)
    shares = np.ones(len(places), np.float64)
    rises, falls = places < warmup, places >= steps - decay
    shares[rises] = places[rises] / max(warmup, 1)
    if decay:
        progress = (places[falls] - (steps - decay)) / decay
        falling = 1 - progress if rate.shape == "linear" else (1 + np.cos(np.pi * progress)) / 2
        shares[falls] = rate.final_ratio + (1 - rate.final_ratio) * falling
    return (rate.peak * shares).astype(np.float32)
