"""What a sweep finds and leaves on disk, each in a line: orphans, and kept ends of runs."""

from rich.console import Console

from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.store.orphans import bytes_in_words, orphans
from replay_jax.sweep.store.workdir import WorkStore


def say_orphans(store: WorkStore, console: Console) -> None:
    """How many saved states no run needs, their size, and how they go."""
    found = orphans(store)
    if found:
        size = bytes_in_words(sum(orphan.size for orphan in found))
        what = f"{len(found)} saved states that no run needs take {size}"
        line = f"{what}: replay-jax gc {store.root}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def say_ends(plan: Plan, store: WorkStore, console: Console) -> None:
    """How many ends of runs are kept, their size, and what for."""
    there = plan.kept_ends.keys() & store.end_names()
    if there:
        size = bytes_in_words(sum(plan.kept_ends[digest] for digest in there))
        line = (
            f"the parameters at {len(there)} ends of runs are kept, {size}: a task or a held-out "
            "size added later costs an evaluation (execution.keep_ends=False keeps none)"
        )
        console.print(line, highlight=False, markup=False, soft_wrap=True)
