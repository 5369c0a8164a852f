"""The exact mixture of one run as a Grain data set, for this trainer or any other."""

import grain

from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import Recipe
from replay_jax.data.reading.pipeline import Batch, run_dataset
from replay_jax.library.naming import find_run
from replay_jax.library.preparing import prepare_all
from replay_jax.sweep.plan.plan import plan_sweep
from replay_jax.sweep.plan.work import Done


def dataset(recipe: Recipe, run: str) -> grain.MapDataset[Batch]:
    """The batches of a run: item t is what update t trains on, a pure function of recipe and t.

    A batch holds `inputs` and `labels` int32 [B, L], `loss_weights` float32 [B, L], `source` int32
    [B] (an index into the schedule's `source_names`), `row` int64 [B] (a row of that source) and,
    with `training.document_mask`, `segments` int32 [B, L]: the number of the document that an input
    token belongs to. B is the batch size of the update's stage. They are the rows that the run's
    ledger counts. What is not tokenized yet is.

    Examples:
        >>> batches = replay_jax.dataset(recipe, plan.runs[0].id)  # doctest: +SKIP
        >>> batches[0]["inputs"].shape  # doctest: +SKIP
        (32, 128)

    Args:
        recipe: the sweep.
        run: id, the beginning of the id, or name of one of its runs, as `plan` gives them.

    Raises:
        UserError: no such run, or its data cannot be prepared.
    """
    experiments = experiments_of(recipe)
    prepared = prepare_all(configs_of(experiments), None)
    runs = plan_sweep(experiments, found=prepared, done=Done()).runs
    names = [(each.id, each.name) for each in runs]
    chosen = runs[find_run(names, run, where=str(recipe.path))]
    return run_dataset(
        stores=prepared.stores,
        views=chosen.views,
        schedule=chosen.schedule,
        document_mask=chosen.config.training.document_mask,
        loss_weight_by_source=chosen.loss_weights,
    )
