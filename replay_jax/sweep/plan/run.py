"""One run of a sweep as the planner sees it: its identity, what it draws, and its digest chain."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.config.identity import result_identity
from replay_jax.data.judging.tasks import Task
from replay_jax.data.ledger.planned import Ledger, plan_ledger
from replay_jax.data.reading.views import SourceView, counted_labels
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.errors import UserError
from replay_jax.hub.folder import Pretrained, check_pretrained
from replay_jax.model.flops import flops_per_token, forward_flops_per_token
from replay_jax.schedule.protocols import Schedule
from replay_jax.strict import to_plain
from replay_jax.sweep.plan.chain import Shared, run_chain, schedule_of
from replay_jax.sweep.plan.digest import canonical_digest
from replay_jax.sweep.plan.found import Found, Stores
from replay_jax.sweep.plan.objective import held_updates, labels_of, loss_weights, row_labels
from replay_jax.sweep.plan.tree import Node


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One training with one result.

    Attributes:
        id: 16 hex digits of all that changes the result (`identity.result_identity`).
        name: its overrides in words; decoration only.
        overrides: what distinguishes it in its sweep, dotted key to value.
        config: the complete configuration.
        schedule: what is drawn when.
        views: which rows each source gives.
        pretrained: the model that training starts from, None for parameters of the seed.
        tasks: what it is scored on besides its held-out losses.
        ledger: planned sequences and tokens.
        chain: `digest.state_chain`.
    """

    id: str
    name: str
    overrides: Mapping[str, Any]
    config: ExperimentConfig
    schedule: Schedule
    views: Mapping[str, SourceView]
    pretrained: Pretrained | None
    tasks: tuple[Task, ...]
    ledger: Ledger
    chain: np.ndarray

    @property
    def steps(self) -> int:
        """Optimizer updates of the whole run."""
        return self.schedule.total_steps

    @property
    def loss_weights(self) -> dict[str, float]:
        """Of the labels of every source that is drawn."""
        return loss_weights(self.config, self.schedule, self.views)

    @property
    def judged_generics(self) -> tuple[tuple[str, int], ...]:
        """Sources whose held-out text the generic loss is of, with their weights."""
        named = self.config.data.held_out_generic
        return ((named, 1),) if named else self.schedule.generic_weights

    def node(self, step: int) -> Node:
        """The state after `step` updates."""
        return Node(self.chain[step].tobytes().hex(), step)

    @property
    def tokens(self) -> int:
        """Labels of the whole run."""
        return self.schedule.total_sequences * self.config.training.seq_len

    @functools.cached_property
    def flops(self) -> float:
        """Model FLOPs of training alone, attention counted in full."""
        model, training = self.config.model, self.config.training
        each = flops_per_token(model, training.seq_len, causal_half=False)
        held = held_updates(self.config, self.schedule)
        if not held:
            return each.total * self.tokens
        beside = forward_flops_per_token(model, training.seq_len, causal_half=False)
        rows = sum(self.schedule.steps.size(step) for step in held)
        return each.total * self.tokens + beside * rows * training.seq_len

    def flops_between(self, start: int, stop: int) -> float:
        """Model FLOPs of the updates from `start` to `stop`, all sequences costing the same."""
        first, end = (self.schedule.steps.first_sequence(step) for step in (start, stop))
        return self.flops / self.schedule.total_sequences * (end - first)


def describe_run(
    config: ExperimentConfig,
    overrides: Mapping[str, Any],
    *,
    name: str,
    found: Found,
    shared: Shared,
) -> Run:
    """Build everything that is known about a run before any of it is trained.

    Args:
        config: the complete configuration.
        overrides: what the sweep set for this run; name: these in words.
        found: what there is on this machine of all that the run reads.
        shared: of all runs that are described together.

    Raises:
        UserError: the run cannot fit its steps, its data or its evaluation set; names the run.
    """
    try:
        schedule = schedule_of(config, shared)
        views = source_views(config, schedule, stores=found.stores)
        ledger = plan_ledger(schedule, views, row_labels(config, schedule, found.stores))
        if found.stores is not None:
            _check_stores(config, schedule, found.stores)
        pretrained = _initial_weights(config, found.weights)
        tasks = tuple(_task(config, name, path, found.tasks) for name, path in config.tasks)
    except UserError as error:
        raise UserError(f"run '{name}': {error}") from error
    start = None if pretrained is None else pretrained.fingerprint
    fingerprints = {source: view.fingerprint for source, view in views.items()}
    return Run(
        id=result_identity(
            config, fingerprints, weights=start, tasks={task.name: task.digest for task in tasks}
        ),
        name=name,
        overrides=dict(overrides),
        config=config,
        schedule=schedule,
        views=views,
        pretrained=pretrained,
        tasks=tasks,
        ledger=ledger,
        chain=run_chain(config, schedule, views, weights=start, shared=shared),
    )


def source_views(
    config: ExperimentConfig, schedule: Schedule, *, stores: Stores | None
) -> dict[str, SourceView]:
    """The view of every source of a schedule: target budget and order from the data seed.

    The target repeats, as its epochs ask; any other source only if `data.repeat_generic`. A source
    that is judged by alone has one too.
    """
    declared = dict(config.data.sources)
    views = {}
    for name in _read_sources(config, schedule):
        if name not in declared:
            raise UserError(f"the schedule draws from '{name}', not among {', '.join(declared)}")
        store = None if stores is None else stores[name]
        is_target = name == schedule.target
        labels = labels_of(store, config)
        view = SourceView(
            source=name,
            fingerprint=_declared_fingerprint(declared[name], config.data.tokenizer)
            if store is None
            else store.fingerprint,
            seq_len=config.training.seq_len,
            pool_rows=None if store is None else store.row_count("train", config.training.seq_len),
            budget_rows=schedule.requested.target_sequences if is_target else None,
            seed=config.data_seed,
            repeat=is_target or config.data.repeat_generic,
            same_order=config.schedule.arithmetic == "authors",
            labels_per_row=None if labels is None else float(labels.mean()),
        )
        if labels is not None and view.rows is not None:
            counted = counted_labels(view, 0, view.rows, labels)
            view = dataclasses.replace(view, budget_labels=counted)
        views[name] = view
    return views


def _read_sources(config: ExperimentConfig, schedule: Schedule) -> tuple[str, ...]:
    """Names of the sources that a run draws from or is judged by, each once."""
    judged = (config.data.held_out_generic,) if config.data.held_out_generic else ()
    return tuple(dict.fromkeys((*schedule.source_names, *judged)))


def _check_stores(config: ExperimentConfig, schedule: Schedule, stores: Stores) -> None:
    """Raise UserError if a prepared store does not fit the model or the evaluation set."""
    for name in _read_sources(config, schedule):
        store = stores[name]
        if store is None:
            continue
        if store.vocab_size > config.model.vocab_size:
            raise UserError(
                f"source '{name}' has {store.vocab_size} token ids and model.vocab_size is "
                f"{config.model.vocab_size}: raise it to at least {store.vocab_size}"
            )
        held_out = store.row_count("validation", config.training.seq_len)
        if config.evaluation.sequences > held_out:
            raise UserError(
                f"evaluation.sequences is {config.evaluation.sequences}, but the held-out part of "
                f"'{name}' has {held_out} sequences: lower it or hold out more"
            )


def _initial_weights(
    config: ExperimentConfig, weights: Mapping[str, Pretrained]
) -> Pretrained | None:
    """The model that a run starts from; one that is not on this machine is known by its name."""
    name = config.initial_weights
    if not name:
        return None
    if name not in weights:
        return Pretrained(name, "", f"declared-{canonical_digest(name).hex()}")
    check_pretrained(config.model, weights[name])
    return weights[name]


def _task(config: ExperimentConfig, name: str, path: str, tasks: Mapping[str, Task]) -> Task:
    """A task that a run is scored on; one that is not on this machine is known by its path."""
    if name not in tasks:
        return Task(name, path, f"declared-{canonical_digest(path).hex()}", 0, None)
    task = tasks[name]
    if task.length is not None and task.length > config.model.max_seq_len:
        raise UserError(
            f"task '{name}' has rows of {task.length} tokens and model.max_seq_len is "
            f"{config.model.max_seq_len}: raise it, or shorten the task's contexts"
        )
    return task


@functools.cache
def _declared_fingerprint(source: SourceConfig, tokenizer: TokenizerConfig) -> str:
    """Stands for the tokens of a source that is not prepared."""
    facts = {"source": source.declared(), "tokenizer": to_plain(tokenizer)}
    if not tokenizer.chat_template:  # is as if there were no such field
        del facts["tokenizer"]["chat_template"]
    return f"declared-{canonical_digest(facts).hex()}"
