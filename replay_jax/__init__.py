"""Schedule scarce target data with plentiful generic data, and say how sure the answer is.

    import replay_jax as rj

    recipe = rj.load_recipe("configs/quickstart.py", {"seed": 3})
    rj.plan(recipe).steps_planned
    rj.run(recipe, "runs/quickstart")
    rj.recommend("runs/quickstart")

docs/library.md has an example of each. Names are imported when they are first used, so that
`import replay_jax` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replay_jax.analysis.advice.recommend import Recommendation
    from replay_jax.analysis.sources.frame import analyse_frame as analyse
    from replay_jax.analysis.statistics.points import FitResult
    from replay_jax.analysis.statistics.points import fit_points as fit
    from replay_jax.analysis.study.study import Study
    from replay_jax.config.recipe import Recipe, load_recipe
    from replay_jax.errors import UserError
    from replay_jax.library.budgeted.run import run_within
    from replay_jax.library.dataset import dataset
    from replay_jax.library.exporting import export
    from replay_jax.library.piloting import pilot
    from replay_jax.library.planning import plan
    from replay_jax.library.reading import recommend, results, study
    from replay_jax.library.running import run
    from replay_jax.library.shipping import ship
    from replay_jax.sweep.drive.coordinator import Outcome
    from replay_jax.sweep.plan.plan import Plan

# Public name: the module that has it, and what it is called there.
_PLACES = {
    "FitResult": ("analysis.statistics.points", "FitResult"),
    "Outcome": ("sweep.drive.coordinator", "Outcome"),
    "Plan": ("sweep.plan.plan", "Plan"),
    "Recipe": ("config.recipe", "Recipe"),
    "Recommendation": ("analysis.advice.recommend", "Recommendation"),
    "Study": ("analysis.study.study", "Study"),
    "UserError": ("errors", "UserError"),
    "analyse": ("analysis.sources.frame", "analyse_frame"),
    "dataset": ("library.dataset", "dataset"),
    "export": ("library.exporting", "export"),
    "fit": ("analysis.statistics.points", "fit_points"),
    "load_recipe": ("config.recipe", "load_recipe"),
    "pilot": ("library.piloting", "pilot"),
    "plan": ("library.planning", "plan"),
    "recommend": ("library.reading", "recommend"),
    "results": ("library.reading", "results"),
    "run": ("library.running", "run"),
    "run_within": ("library.budgeted.run", "run_within"),
    "ship": ("library.shipping", "ship"),
    "study": ("library.reading", "study"),
}
__all__ = [
    "FitResult", "Outcome", "Plan", "Recipe", "Recommendation", "Study", "UserError", "analyse",
    "dataset",
    "export", "fit", "load_recipe", "pilot", "plan", "recommend", "results", "run",
    "run_within", "ship",
    "study",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'replay_jax' has no attribute '{name}'")
    module, original = _PLACES[name]
    return getattr(importlib.import_module(f"replay_jax.{module}"), original)


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
