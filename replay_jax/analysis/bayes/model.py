"""The hierarchical model of losses, and its posterior.

    loss = curve(ln tokens) + budget + replay + schedule + tuning + setting  (of the setting)
           + seed + seed x budget + seed x replay + noise                    (of the run)
    curve(u) = level + slope (exp(-b u) - 1) / b                             (the power law)

All but `slope`, `b` and the standard deviations of the parts is Gaussian given these, so it is
integrated out: the sampler (NUTS; Hoffman and Gelman 2014) walks over some ten numbers, and the
means of the settings are drawn exactly from their conditional. Losses of runs that are missing are
sampled as well. With them every seed has all settings, so that means over seeds and differences
between seeds are independent, and no matrix is larger than the settings are many. Standard
deviations have log-normal priors about .02 nat (.1 for replay and schedules) that reach from a
twentieth to twenty times that.

Shape legend: K settings, S seeds, D draws.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import split_gelman_rubin
from numpyro.infer import MCMC, NUTS, init_to_median

from replay_jax.analysis.advice.opinion import Sampling
from replay_jax.analysis.bayes.design import Design

CHAINS = 2
_LEVEL_SCALE = 1.0  # nats about the mean loss
_SLOPE_SCALE = 1.0  # nats per e-fold at the mean budget
_MEDIANS = {"replay": 0.1, "schedule": 0.1}
_MEDIAN, _SPREAD = 0.02, 1.5
_MISSING_SCALE = 1.0  # nats about the mean of its setting: wide beside any noise

Arrays = Mapping[str, jax.Array]


@dataclass(frozen=True)
class Posterior:
    """D draws: means [D, K] of settings in nats, and the curve's level, slope and b [D]."""

    means: np.ndarray
    level: np.ndarray
    slope: np.ndarray
    b: np.ndarray
    sampling: Sampling


def sample_posterior(design: Design, *, samples: int, warmup: int, seed: int) -> Posterior:
    """Sample the posterior of a design; `samples` and `warmup` are of each of the two chains."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        settings = {name: _same(labels) for name, labels in design.of_settings.items()}
        seeds = {name: _same(labels) for name, labels in design.of_seeds.items()}
        centre = float(np.nanmean(design.losses))
        data = jnp.asarray(design.losses - centre), jnp.asarray(design.log_tokens), settings, seeds
        holes = jnp.asarray(np.argwhere(np.isnan(design.losses)))
        sampler = _sampler(samples, warmup)
        key, later = jax.random.split(jax.random.key(seed))
        sampler.run(key, *data, holes, extra_fields=("diverging",))
        chains = {k: np.asarray(v) for k, v in sampler.get_samples(group_by_chain=True).items()}
        diverging = int(np.asarray(sampler.get_extra_fields()["diverging"]).sum())
        drawn = {k: jnp.asarray(v.reshape(-1, *v.shape[2:])) for k, v in chains.items()}
        keys = jax.random.split(later, CHAINS * samples)
        means, level = _all_means(keys, drawn, (*data, holes))
        return Posterior(
            means=np.asarray(means) + centre,
            level=np.asarray(level) + centre,
            slope=np.asarray(drawn["slope"]),
            b=np.asarray(drawn["b"]),
            sampling=Sampling(
                draws=CHAINS * samples,
                divergences=diverging,
                r_hat=max(float(np.max(split_gelman_rubin(v))) for v in chains.values()),
            ),
        )


@functools.lru_cache(maxsize=2)
def _sampler(samples: int, warmup: int) -> MCMC:
    """One for all studies: those of the same shapes are compiled once."""
    return MCMC(
        NUTS(_model, target_accept_prob=0.9, max_tree_depth=7, init_strategy=init_to_median),
        num_warmup=warmup,
        num_samples=samples,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
        jit_model_args=True,
    )


def _model(
    losses: jax.Array, log_tokens: jax.Array, settings: Arrays, seeds: Arrays, holes: jax.Array
) -> None:
    """Everything that is sampled, and the likelihood of the losses [K, S] with the rest left out.

    `holes` [runs, 2]: setting and seed of the runs that are missing.
    """
    values = {
        "slope": numpyro.sample("slope", dist.HalfNormal(_SLOPE_SCALE)),
        "b": numpyro.sample("b", dist.HalfNormal(1.0)),
    }
    for name in (*settings, *seeds):
        prior = dist.LogNormal(np.log(_MEDIANS.get(name, _MEDIAN)), _SPREAD)
        values[name] = numpyro.sample(name, prior)
    if len(holes):
        guess = jnp.nanmean(losses, axis=1)[holes[:, 0]]
        missing = dist.Normal(guess, _MISSING_SCALE).to_event(1)
        values["missing"] = numpyro.sample("missing", missing)
    mean, shared, own = _moments(values, log_tokens, settings, seeds)
    full, count = _filled(losses, values, holes), losses.shape[1]
    of_means = dist.MultivariateNormal(mean, covariance_matrix=shared + own / count)
    numpyro.factor("means", of_means.log_prob(full.mean(axis=1)))
    if count > 1:
        between = dist.MultivariateNormal(jnp.zeros_like(mean), covariance_matrix=own)
        numpyro.factor("differences", between.log_prob((full @ _contrasts(count)).T).sum())


@jax.jit
def _all_means(keys: jax.Array, drawn: Arrays, data: tuple) -> tuple[jax.Array, jax.Array]:
    return jax.lax.map(lambda at: _conditional(*at, *data), (keys, drawn))


def _conditional(
    key: jax.Array,
    values: Arrays,
    losses: jax.Array,
    log_tokens: jax.Array,
    settings: Arrays,
    seeds: Arrays,
    holes: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One draw of the settings' means [K] and of the level, given everything sampled."""
    mean, shared, own = _moments(values, log_tokens, settings, seeds)
    # The level is one number that all settings share, so it is drawn beside them.
    level = jnp.full((len(mean), 1), _LEVEL_SCALE**2)
    prior = jnp.block([[shared, level], [level.T, level[:1]]])
    root = jnp.linalg.cholesky(shared + own / losses.shape[1])
    away = _filled(losses, values, holes).mean(axis=1) - mean
    solved = jax.scipy.linalg.solve_triangular(root, prior[:-1], lower=True)
    pull = jax.scipy.linalg.solve_triangular(root, away, lower=True)
    spread = prior - solved.T @ solved + 1e-10 * jnp.eye(len(prior))
    normal = jax.random.normal(key, (len(prior),))
    drawn = jnp.append(mean, 0.0) + solved.T @ pull + jnp.linalg.cholesky(spread) @ normal
    return drawn[:-1], drawn[-1]


def _moments(
    values: Arrays, log_tokens: jax.Array, settings: Arrays, seeds: Arrays
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean [K] and covariance [K, K] of the settings, and that of one seed's losses about them."""
    b = values["b"] + 1e-6  # its limit is the straight line
    mean = values["slope"] * jnp.expm1(-b * log_tokens) / b
    shared = jnp.full((len(mean), len(mean)), _LEVEL_SCALE**2)
    for name, same in settings.items():
        shared += values[name] ** 2 * same
    own = jnp.zeros_like(shared)
    for name, same in seeds.items():
        own += values[name] ** 2 * same
    return mean, shared, own


def _filled(losses: jax.Array, values: Arrays, holes: jax.Array) -> jax.Array:
    """Losses [K, S] with the sampled ones where runs are missing."""
    if not len(holes):
        return losses
    return losses.at[holes[:, 0], holes[:, 1]].set(values["missing"])


def _contrasts(count: int) -> np.ndarray:
    """Orthonormal differences [S, S - 1] between seeds."""
    matrix = np.column_stack([np.ones(count), np.eye(count)[:, 1:]])
    rotation: np.ndarray = np.linalg.qr(matrix)[0]
    return rotation[:, 1:]


def _same(labels: np.ndarray) -> jax.Array:
    """1 where two labels are the same, and not -1."""
    return jnp.asarray(((labels[:, None] == labels[None]) & (labels[:, None] >= 0)).astype(float))
