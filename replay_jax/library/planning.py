"""A sweep before it is trained, with what this machine and a working directory hold already."""

from etils import epath

from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import Recipe
from replay_jax.library.preparing import find_all
from replay_jax.sweep.plan.plan import Plan, plan_sweep
from replay_jax.sweep.plan.work import Done
from replay_jax.sweep.store import known
from replay_jax.sweep.store.places import place
from replay_jax.sweep.store.workdir import WorkStore


def plan(recipe: Recipe, workdir: epath.PathLike | None = None) -> Plan:
    """What a sweep would do: runs, shared prefixes, steps, tokens, FLOPs and ledgers.

    Nothing is trained, nothing is written, and data that is not prepared is not read.

    Examples:
        >>> recipe = replay_jax.load_recipe("configs/quickstart.py")  # doctest: +SKIP
        >>> plan = replay_jax.plan(recipe)  # doctest: +SKIP
        >>> plan.steps_planned, plan.steps_naive  # doctest: +SKIP
        (4752, 24960)

    Args:
        recipe: what would be trained.
        workdir: what is done there is not planned again; None to plan from nothing.

    Raises:
        UserError: a run cannot be (its schedule, budget or sizes); names it and its values.
    """
    experiments = experiments_of(recipe)
    found = find_all(configs_of(experiments))
    done = Done() if workdir is None else known.done(WorkStore(place(workdir)))
    return plan_sweep(experiments, found=found, done=done)
