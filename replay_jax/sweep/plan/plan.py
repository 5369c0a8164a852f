"""A sweep before it is trained: its runs, the tree of what they share, and what is left to do.

The public way in (with `drive.engine`, which carries a plan out):

    plan = plan_sweep([(config, overrides), …], found=…, done=known.done(store))
    plan.to_json(); plan.steps_planned; drawing.plan_tree(plan)
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.errors import UserError
from replay_jax.model.trained import saved_bytes
from replay_jax.progress import step_by_step
from replay_jax.sweep.plan.chain import Shared
from replay_jax.sweep.plan.found import Found
from replay_jax.sweep.plan.measuring_cost import MeasuringCost
from replay_jax.sweep.plan.naming import run_names
from replay_jax.sweep.plan.objective import target_shares
from replay_jax.sweep.plan.run import Run, describe_run
from replay_jax.sweep.plan.tree import Edge, build_edges
from replay_jax.sweep.plan.work import Done, Task, peak_saved_states, remaining_tasks


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Runs, the edges of their trie (depth first), and the tasks that remain.

    Attributes:
        runs: in the order of the sweep.
        edges: `tree.build_edges` of the runs' chains.
        tasks: what is left to do, given what the working directory holds.
        finished: positions of the runs that have a result already.
        warnings: what is likely to be a mistake, in sentences.
        spared: states that are saved and kept for runs that may be added (`part.part_of`).
    """

    runs: tuple[Run, ...]
    edges: tuple[Edge, ...]
    tasks: tuple[Task, ...]
    finished: frozenset[int]
    warnings: tuple[str, ...] = ()
    spared: frozenset[str] = frozenset()

    @property
    def steps_naive(self) -> int:
        """Updates if every run were trained alone."""
        return sum(run.steps for run in self.runs)

    @property
    def steps_planned(self) -> int:
        """Updates with every shared prefix trained once, from an empty working directory."""
        return sum(edge.steps for edge in self.edges)

    @property
    def steps_remaining(self) -> int:
        """Updates that are left, given what the working directory holds."""
        return sum(task.steps for task in self.tasks)

    @property
    def state_bytes(self) -> int:
        """Size of the largest run's saved state: parameters, their average, the optimizer's own."""
        configs = {
            (run.config.model, run.config.optimizer.kind, run.config.training) for run in self.runs
        }
        return max(
            saved_bytes(model) + optimizer.state_bytes(model) + training.average_bytes(model)
            for model, optimizer, training in configs
        )

    @property
    def training_bytes(self) -> int:
        """The most of a run: parameters, their average, gradients, moments, and a base beside."""
        configs = [run.config for run in self.runs]
        return max(config.execution.population * config.training_bytes for config in configs)

    @functools.cached_property
    def kept_ends(self) -> dict[str, int]:
        """States whose parameters are kept for measurements to come, and the bytes of each."""
        execution = self.runs[0].config.execution
        if not execution.keep_ends or execution.keep_states:
            return {}
        return {
            edge.stop.digest: saved_bytes(self.runs[edge.ending[0]].config.model)
            for edge in self.edges
            if edge.ending
        }

    @property
    def only_measured(self) -> int:
        """How many states are left to be measured alone, without any training."""
        return sum(not task.steps for task in self.tasks)

    @functools.cached_property
    def paths(self) -> tuple[tuple[Edge, ...], ...]:
        """The edges of every run, from its beginning to its end."""
        paths: list[list[Edge]] = [[] for _ in self.runs]
        for edge in self.edges:
            for run in edge.runs:
                paths[run].append(edge)
        return tuple(tuple(path) for path in paths)

    def passes(self, digest: str, step: int) -> bool:
        """Whether some run passes through a state."""
        if step not in self._states_at:
            here = [edge for edge in self.edges if edge.start.step <= step <= edge.stop.step]
            self._states_at[step] = {self.runs[edge.runs[0]].node(step).digest for edge in here}
        return digest in self._states_at[step]

    @functools.cached_property
    def _states_at(self) -> dict[int, set[str]]:
        """The states of all runs after the numbers of updates that were asked for."""
        return {}

    def edge_name(self, number: int) -> str:
        """An edge in words: its steps, and the run or the number of runs that pass through it."""
        edge = self.edges[number]
        first = self.runs[edge.runs[0]].name
        who = first if len(edge.runs) == 1 else f"{len(edge.runs)} runs"
        return f"{edge.start.step}–{edge.stop.step} {who}"

    def to_json(self) -> dict[str, Any]:
        """What `plan --json` prints; `docs/sweeps.md` says what each field means."""
        peak = peak_saved_states(self.tasks)
        return {
            "runs": [_run_json(run) for run in self.runs],
            "totals": {
                "runs": len(self.runs),
                "finished": len(self.finished),
                "steps": self.steps_naive,
                "tokens": sum(run.tokens for run in self.runs),
                "flops": sum(run.flops for run in self.runs),
                "flops_planned": self._flops(self.edges),
                "flops_remaining": self._flops(self.tasks, edges=self.edges),
                **self._evaluation_flops(),
            },
            "steps_naive": self.steps_naive,
            "steps_planned": self.steps_planned,
            "steps_remaining": self.steps_remaining,
            "saving": self.steps_naive / self.steps_planned,
            "edges": [self._edge_json(edge) for edge in self.edges],
            "states": {
                "bytes_each": self.state_bytes,
                "saved_at_once": peak,
                "disk_bytes": peak * self.state_bytes,
            },
            "ends": {"kept": len(self.kept_ends), "disk_bytes": sum(self.kept_ends.values())},
            "only_measured": self.only_measured,
            "warnings": list(self.warnings),
        }

    def _flops(
        self, spans: Sequence[Edge] | Sequence[Task], *, edges: Sequence[Edge] | None = None
    ) -> float:
        """Model FLOPs of edges, or of tasks on edges."""
        total = 0.0
        for span in spans:
            runs = edges[span.edge].runs if edges and isinstance(span, Task) else span.runs
            total += self.runs[runs[0]].flops_between(span.start.step, span.stop.step)
        return total

    def _evaluation_flops(self) -> dict[str, float]:
        """Model FLOPs of held-out sets: every run alone, shared states once, and what is left.

        A task that goes on from a saved state may find some of its measurements made already.
        """

        cost = MeasuringCost(self.runs)
        tasks = (task for task in self.tasks if task.runs)
        return {
            "evaluation_flops": cost.alone(),
            "evaluation_flops_planned": cost.once(
                (edge.runs, edge.start.step, edge.stop.step) for edge in self.edges
            ),
            "evaluation_flops_remaining": cost.once(
                (task.runs, task.start.step, task.stop.step) for task in tasks
            ),
        }

    def _edge_json(self, edge: Edge) -> dict[str, Any]:
        return {
            "start": edge.start.digest,
            "stop": edge.stop.digest,
            "start_step": edge.start.step,
            "stop_step": edge.stop.step,
            "steps": edge.steps,
            "parent": edge.parent,
            "runs": [self.runs[run].id for run in edge.runs],
            "ending": [self.runs[run].id for run in edge.ending],
        }


def plan_sweep(
    experiments: Sequence[tuple[ExperimentConfig, Mapping[str, Any]]],
    *,
    found: Found,
    done: Done,
) -> Plan:
    """Plan a sweep; nothing is trained and nothing is written.

    Args:
        experiments: configuration and overrides of every run.
        found: what there is on this machine of all that the runs read; what is not there can be
            planned with, but not trained.
        done: what is done is not planned again; `Done()` to plan from nothing.

    Raises:
        UserError: no run, a duplicate run, or a run that cannot be; names it and its values.
    """
    if not experiments:
        raise UserError("the sweep has no runs")
    shared = Shared()
    names = run_names([overrides for _, overrides in experiments], experiments[0][0].name)
    named = list(zip(experiments, names, strict=True))
    runs = tuple(
        describe_run(config, overrides, name=name, found=found, shared=shared)
        for (config, overrides), name in step_by_step(named, "planning runs")
    )
    _refuse_mixed_execution(runs)
    _refuse_duplicates(runs)
    edges = build_edges([run.chain for run in runs], [run.schedule.steps.changes for run in runs])
    plan = Plan(runs, edges, (), frozenset(), found.warnings)
    return refresh(plan, done)


def refresh(plan: Plan, done: Done) -> Plan:
    """The same plan with the tasks that remain, given what is done."""
    finished = frozenset(n for n, run in enumerate(plan.runs) if run.id in done.results)
    tasks = remaining_tasks(
        plan.edges,
        chains=[run.chain for run in plan.runs],
        done=finished,
        saved=done.saved,
        ends=done.ends,
        keep_states=plan.runs[0].config.execution.keep_states,
        spared=plan.spared,
    )
    return dataclasses.replace(plan, tasks=tasks, finished=finished)


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "steps": run.steps,
        "tokens": run.tokens,
        "flops": run.flops,
        "overrides": dict(run.overrides),
        "ledger": run.ledger.to_json(),
        **_shares_json(run),
    }


def _shares_json(run: Run) -> dict[str, Any]:
    """The target's shares of rows and of the loss by stage; nothing where all labels count."""
    found = {
        stage.name: target_shares(stage.entries, run.schedule.target, run.loss_weights)
        for stage in run.ledger.stages
    }
    known = {name: {"rows": s[0], "loss": s[1]} for name, s in found.items() if s is not None}
    return {"target_shares": known} if known else {}


def _refuse_duplicates(runs: Sequence[Run]) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        if run.id in seen:
            why = ""
            if run.config.seed != seen[run.id].config.seed:
                why = ", as seed does nothing from initial_weights: vary data_seed with it, or"
            raise UserError(
                f"runs '{seen[run.id].name}' and '{run.name}' are the same run (id {run.id})"
                f"{why or ':'} remove one from the sweep"
            )
        seen[run.id] = run


def _refuse_mixed_execution(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs:
        for part in ("execution", "mesh"):
            if getattr(run.config, part) != getattr(first.config, part):
                raise UserError(
                    f"run '{run.name}' has another {part} than run '{first.name}': "
                    f"a sweep is carried out in one way, so do not vary it"
                )
