"""What a sweep finds and leaves, each in a line: orphans, kept ends of runs, runs not sent."""

from rich.console import Console

from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.plan.work import Done
from replay_jax.sweep.store.orphans import bytes_in_words, unneeded
from replay_jax.sweep.store.workdir import WorkStore


def say_orphans(plan: Plan, store: WorkStore, done: Done, console: Console) -> None:
    """How many saved states no run needs, their size, and how they go."""
    found = unneeded(store, states=_needed_states(plan, store, done), ends=plan.kept_ends.keys())
    if found:
        size = bytes_in_words(sum(orphan.size for orphan in found))
        what = f"{len(found)} saved states that no run needs take {size}"
        line = f"{what}: replay-jax gc {store.root}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _needed_states(plan: Plan, store: WorkStore, done: Done) -> set[str]:
    """As `orphans` finds them, without reading the runs again."""
    ends = {edge.stop.digest for edge in plan.edges}
    hopeless = {d for d, fact in store.failures().items() if fact["kind"] == "deterministic"}
    needed = ends & done.saved.keys() if plan.runs[0].config.execution.keep_states else set[str]()
    needed |= plan.spared & done.saved.keys()
    left = [
        run.chain
        for number, run in enumerate(plan.runs)
        if number not in plan.finished
        and not any(edge.stop.digest in hopeless for edge in plan.paths[number])
    ]
    for step in set(done.saved.values()):
        here = {chain[step].tobytes().hex() for chain in left if step < len(chain)}
        needed |= here & done.saved.keys()
    return needed


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


def say_unsent(store: WorkStore, fault: str, console: Console) -> None:
    """Why runs were not sent to TensorBoard or W&B, and that they can be yet."""
    line = f"not all runs were sent to TensorBoard or W&B ({fault}); the same command sends them"
    console.print(f"{line}, and to W&B: replay-jax report {store.root}", highlight=False,
                  markup=False, soft_wrap=True)  # fmt: skip
