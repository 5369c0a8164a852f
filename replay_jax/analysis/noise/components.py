"""What varies between runs: variance components of seeds, estimated by REML, with their tests.

loss[k, s] = mean[k] + sum over effects e of u_e[s, group_e(k)] + noise[k, s]

Everything that varies is nested in the seed: what all its runs share, what its runs at one budget
share (a seed draws other target rows at each budget), what its runs of one protocol share, and each
run's own noise, whose variance may differ between strata of settings. Means are fixed effects, so
a missing run costs its setting information and gives it no advantage.

Own code because the usual libraries fit one such model in seconds, know no groups that cross within
a seed, and give no likelihood to draw the components from; this is exact and takes milliseconds.
Projecting out the means leaves a quadratic form in the effects u of all seeds,
    -2 ln REML = ln |I + L A L| + nu ln(c - b' L (I + L A L)^-1 L b) + const,
where L holds the ratios of the effects' deviations to that of the noise and nu = runs - settings
(Searle, Casella and McCulloch, Variance Components, 1992, section 6.6).

Shape legend: K settings, S seeds, q groups of all effects together, U = S q, G grid points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import helmert
from scipy.optimize import minimize
from scipy.special import fdtrc

from replay_jax.errors import UserError

SEED = "seed"
ROUNDING = 1e-10  # nats: less is rounding, not noise
_AT_ONCE = 10_000_000  # numbers, to bound memory


@dataclass(frozen=True)
class Layout:
    """What settings share within a seed.

    `effects`: (name, label of every setting [K]) of each effect; the one named "seed" is always
    there. `strata` [K]: settings of one label have noise of one variance.
    """

    effects: tuple[tuple[str, np.ndarray], ...]
    strata: np.ndarray

    def useful(self) -> tuple[tuple[str, np.ndarray], ...]:
        """Effects told apart from the seed itself and from the noise of single settings."""
        everything = (SEED, np.zeros(len(self.strata), dtype=int))
        return (
            everything,
            *(
                (name, np.unique(labels, return_inverse=True)[1])
                for name, labels in self.effects
                if 1 < len(np.unique(labels)) < len(labels)
            ),
        )


def alone(settings: int) -> Layout:
    """Settings of which nothing is known: a seed effect, and noise of their own."""
    return Layout(effects=(), strata=np.arange(settings))


@dataclass(frozen=True)
class Component:
    """Standard deviation (nats) of one effect by REML, and the F test of its being there.

    `f`, `freedom` (of the effect and of the noise) and `p` are None where nothing tests it.
    """

    name: str
    deviation: float
    f: float | None
    freedom: tuple[int, int] | None
    p: float | None

    def to_json(self) -> dict[str, object]:
        """Plain JSON object."""
        return {
            "name": self.name,
            "deviation": self.deviation,
            "f": self.f,
            "freedom": None if self.freedom is None else list(self.freedom),
            "p": self.p,
        }


@dataclass(frozen=True)
class SeedModel:
    """Losses [K, S] less their means, as a quadratic form in the effects of all seeds.

    `block` [n, n], `pulls` [m, n] and `block_owner` [n] say the same in m independent parts of one
    form: contrasts of seeds where no run is missing, else everything at once.

    `form` [U, U], `pull` [U] and `square` are A, b and c above with every run weighed by
    1 / `relative` [K], the noise variance of its setting over the common one; `mean_design` [K, U]
    is the mean over a setting's runs of their effects; `owner` [U] indexes the effect and `seed`
    [U] the seed of each.
    """

    losses: np.ndarray
    names: tuple[str, ...]
    owner: np.ndarray
    seed: np.ndarray
    relative: np.ndarray
    form: np.ndarray
    pull: np.ndarray
    square: float
    mean_design: np.ndarray
    freedom: int
    block: np.ndarray
    pulls: np.ndarray
    block_owner: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Plain means over the seeds present [K]."""
        return np.nanmean(self.losses, axis=1)


def build(losses: np.ndarray, layout: Layout, relative: np.ndarray) -> SeedModel:
    """The model of losses [K, S] (nan = no run) with noise variances in the given proportions.

    Raises:
      UserError: a setting without any run.
    """
    present = np.isfinite(losses).astype(float)
    counts = present.sum(axis=1)
    if (counts == 0).any():
        raise UserError(f"cell {int(np.flatnonzero(counts == 0)[0])} has no finite loss")
    effects = layout.useful()
    groups = np.concatenate([np.eye(labels.max() + 1)[labels] for _, labels in effects], axis=1)
    sizes = [int(labels.max()) + 1 for _, labels in effects]
    settings, seeds = losses.shape
    weight = 1 / relative
    whole = bool(present.all()) and seeds > 1
    centred = np.where(present > 0, losses - np.nanmean(losses, axis=1, keepdims=True), 0.0)
    centred = np.where(np.abs(centred) > ROUNDING, centred, 0.0)
    pull = centred.T @ (weight[:, None] * groups)
    # What no run has is no effect, and what the only run of a seed has is noise of its own.
    told = (present.T @ groups > 0) & (present.sum(axis=0)[:, None] > 1)
    seed, group = np.nonzero(np.ones_like(told) if whole else told)
    has = present[:, seed] * groups[:, group]
    form = has.T @ ((weight / counts)[:, None] * -has)
    form += np.where(seed[:, None] == seed, has.T @ (weight[:, None] * has), 0.0)
    own = np.repeat(np.arange(len(sizes)), sizes)
    owner = own[group]
    block, pulls, block_owner = form, pull[seed, group][None], owner
    if whole:
        contrasts = helmert(seeds)  # orthonormal, so that the parts are independent
        block, pulls, block_owner = (groups.T * weight) @ groups, contrasts @ pull, own
    return SeedModel(
        losses=losses,
        names=tuple(name for name, _ in effects),
        owner=owner,
        seed=seed,
        relative=relative,
        form=form,
        pull=pull[seed, group],
        square=float((weight[:, None] * centred**2).sum()),
        mean_design=has / counts[:, None],
        freedom=int(counts.sum()) - settings,
        block=block,
        pulls=pulls,
        block_owner=block_owner,
    )


@dataclass(frozen=True)
class Likelihood:
    """The REML likelihood at G ratios: its logarithm [G] and the noise's mean square [G]."""

    log: np.ndarray
    mean_square: np.ndarray


def likelihood(model: SeedModel, ratios: np.ndarray) -> Likelihood:
    """Evaluate at ratios [G, effects] of the effects' deviations to the noise's."""
    portion = max(1, _AT_ONCE // max(len(model.block_owner), 1) ** 2)
    parts = [_reduced(model, ratios[i : i + portion]) for i in range(0, len(ratios), portion)]
    determinant, explained = np.concatenate(parts, axis=1)
    rest = np.maximum(model.square - explained, 1e-12 * model.square)
    with np.errstate(divide="ignore"):
        log = -0.5 * (determinant + model.freedom * np.log(rest))
    return Likelihood(
        log=log if model.square > 0 else np.zeros(len(ratios)),
        mean_square=rest / model.freedom,
    )


def _reduced(model: SeedModel, ratios: np.ndarray) -> np.ndarray:
    """(ln |I + L A L|, what the effects explain of the squares) [2, G]."""
    scale = ratios[:, model.block_owner]
    systems = scale[:, :, None] * model.block * scale[:, None, :]
    diagonal = np.arange(len(model.block_owner))
    systems[:, diagonal, diagonal] += 1
    triangle = np.linalg.cholesky(systems)
    half = scale[:, :, None] * model.pulls.T
    # Forward substitution for all points of the grid at once; numpy would factor anew.
    for row in diagonal:
        half[:, row] -= np.einsum("gj,gjm->gm", triangle[:, row, :row], half[:, :row])
        half[:, row] /= triangle[:, row, row, None]
    determinant = 2 * np.log(triangle[:, diagonal, diagonal]).sum(axis=1) * len(model.pulls)
    return np.stack([determinant, (half**2).sum(axis=(1, 2))])


def system(model: SeedModel, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """L as its diagonal [U], and the lower triangle [U, U] of I + L A L, at one point's ratios."""
    scale = ratios[model.owner]
    return scale, np.linalg.cholesky(np.eye(len(scale)) + scale[:, None] * model.form * scale)


def reml(model: SeedModel, start: np.ndarray) -> np.ndarray:
    """Ratios [effects] of greatest REML likelihood, searched from `start`."""
    if model.square == 0:
        return np.zeros(len(model.names))
    found = minimize(
        lambda ratios: -float(likelihood(model, np.abs(ratios)[None]).log[0]),
        np.maximum(start, 0.05),
        method="Nelder-Mead",
        options={"xatol": 1e-3, "fatol": 1e-5, "maxfev": 200 * len(start)},
    )
    ratios = np.abs(found.x)
    return np.where(ratios < 0.01, 0.0, ratios)


def components(model: SeedModel, ratios: np.ndarray) -> tuple[Component, ...]:
    """All effects and the noise with their REML deviations and tests."""
    deviation = float(np.sqrt(likelihood(model, ratios[None]).mean_square[0]))
    everything = np.ones(len(model.owner), dtype=bool)
    rest, rank = _explained(model, everything)
    spare = model.freedom - rank
    found = []
    for index, name in enumerate(model.names):
        without, fewer = _explained(model, model.owner != index)
        f, freedom, p = None, None, None
        if spare > 0 and rank > fewer and rest > 0:
            f = (without - rest) / (rank - fewer) / (rest / spare)
            freedom = (rank - fewer, spare)
            p = float(fdtrc(*freedom, max(f, 0.0)))  # rounding may leave f below zero
        elif name == SEED and spare > 0 and rest > 0 and len(model.names) > 1:
            f, freedom, p = _seed_test(model, index)
        found.append(Component(name, deviation * float(ratios[index]), f, freedom, p))
    return (*found, Component("run", deviation, None, None, None))


def _seed_test(
    model: SeedModel, index: int
) -> tuple[float | None, tuple[int, int] | None, float | None]:
    """F test of the seeds alone against all that varies about them."""
    rest, rank = _explained(model, model.owner == index)
    spare = model.freedom - rank
    if rank < 1 or spare < 1 or rest <= 0:
        return None, None, None
    f = (model.square - rest) / rank / (rest / spare)
    return f, (rank, spare), float(fdtrc(rank, spare, max(f, 0.0)))


def _explained(model: SeedModel, used: np.ndarray) -> tuple[float, int]:
    """(sum of squares left, rank) of a least-squares fit of the effects `used` [U]."""
    if not used.any():
        return model.square, 0
    values, vectors = np.linalg.eigh(model.form[np.ix_(used, used)])
    kept = values > 1e-9 * max(float(values.max()), 1e-300)
    pulled = vectors[:, kept].T @ model.pull[used]
    return max(model.square - float((pulled**2 / values[kept]).sum()), 0.0), int(kept.sum())


def grid(effects: int, points: Sequence[float]) -> np.ndarray:
    """Every combination [G, effects] of ratios."""
    axes = np.meshgrid(*[np.asarray(points)] * effects, indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)
