"""The config file of a study: its values stand in it, each to be changed."""

from collections.abc import Sequence
from pathlib import Path

from replay_jax.library.starting.looking import Seen
from replay_jax.library.starting.sizes import BUDGETS, SEQ_LEN, STEPS, Start

# Braces that stay are doubled.
_TEMPLATE = '''"""How should this target data be scheduled with this generic data, how sure is that?

Mid-training: one warmup-stable-decay schedule, all target rows in stage 2, total steps fixed, many
epochs over a small budget. Written by `replay-jax init`; every value may be changed.
"""

from replay_jax.config.defaults import (
    analysis,
    model_sizes,
    paper_config,
    source,
    tokenizer,
    two_stage_schedule,
    warmup_stable_decay,
)
from replay_jax.config.grid import chain, grid, zipped

SEEDS = [1, 2, 3]  # each another model and other target rows
BATCH, SEQ_LEN, STEPS = {size.batch}, {seq_len}, {steps}
RHO, BUDGET, EPOCHS = (
    "schedule.replay_fraction",  # generic share of the last stage
    "schedule.target_sequences",  # how much target data a run has
    "schedule.target_epochs",  # how often it sees it
)
# The rival of replay: the same rows mixed into the generic data from the first step to the last.
MIXED = {{"schedule.protocol": "uniform", RHO: None, "schedule.stage2_allocation": None}}


def get_config():
    """One run; the sweep changes it."""
    config = paper_config()
    config.data.sources = {{
{sources}
    }}
    config.data.generic, config.data.target = "generic", "target"
    vocabulary = {size.vocabulary}  # of the tokenizer that is trained on the generic text
    config.data.tokenizer = tokenizer("bpe", vocab_size=vocabulary, train_sources=("generic",))
    config.data.store_dir = "runs/stores"
    config.model = model_sizes(f"{size.shape},{{vocabulary}}")
    config.model.tied_embeddings = True
    config.schedule = two_stage_schedule(STEPS, warmup_stable_decay(1e-3, 0.05))
    config.schedule.target_sequences = {unit}
    config.schedule.target_epochs = 16.0
    config.training.batch_size, config.training.seq_len = BATCH, SEQ_LEN
    config.training.log_every = 8
    config.training.evaluate_every = STEPS // 2
    config.evaluation = {{"sequences": {judged}, "batch_size": {judged_at_once}}}
    config.checkpoint.every = 100
    config.analysis = analysis({{"replay_fraction": 0.0}})  # the reference: the usual recipe
    return config


def sweep():
    """Epochs are tuned in every cell: without replay, with it, and in a constant mixture."""
    reference = chain(
{reference}
    )
    replay = chain(
{replay}
    )
    mixture = chain(
{mixture}
    )
    seeds = zipped({{"seed": SEEDS, "data_seed": SEEDS}})
    return grid(seeds, chain(reference, replay, mixture))
'''


def config_text(study: Start) -> str:
    """The config file: its values stand in it, each to be changed."""
    size, unit = study.size, study.unit
    sides = (
        ("generic", study.generic, study.held_out[0], study.train_fraction),
        ("target", study.target, study.held_out[1], 1.0),
    )
    sources = "\n".join(f"        {_source(*side)}" for side in sides)
    budgets = [round(unit * times) for times in BUDGETS]
    rows = STEPS * size.batch
    reference = "\n".join(
        _cell(budget, 0.0, _epochs(budget, size.batch, rows)) for budget in budgets
    )
    replay = "\n".join(
        _cell(budgets[place], rho, _epochs(budgets[place], size.batch, rows, replay=rho))
        for place, rho in ((0, 0.5), (0, 0.75), (0, 0.875), (2, 0.5), (2, 0.75))
    )
    mixture = "\n".join(
        _mixed(budget, _epochs(budget, size.batch, rows)) for budget in (budgets[0], budgets[2])
    )
    return _TEMPLATE.format(
        size=size,
        unit=unit,
        seq_len=SEQ_LEN,
        steps=STEPS,
        sources=sources,
        reference=reference,
        replay=replay,
        mixture=mixture,
        judged=study.judged,
        judged_at_once=min(study.judged, 32),
    )


def _source(name: str, seen: Seen, held_out: float, train_fraction: float) -> str:
    """One line of the sources, with what is not as usual."""
    source = seen.source
    more = f", validation_fraction={held_out:g}"
    if train_fraction < 1:
        more += f", train_fraction={train_fraction:g}"
    if source.text_field != "text":
        more += f', text_field="{source.text_field}"'
    if source.separator:
        more += f", separator={source.separator!r}"
    if seen.bad:
        more += ', bad_documents="pass_over"'
    return f'"{name}": source("{source.kind}", {str(Path(source.path))!r}{more}),'


def _cell(budget: int, rho: float, epochs: Sequence[float]) -> str:
    return f"        grid({{BUDGET: [{budget}], RHO: [{rho}], EPOCHS: {list(epochs)}}}),"


def _mixed(budget: int, epochs: Sequence[float]) -> str:
    return f"        grid([MIXED], {{BUDGET: [{budget}], EPOCHS: {list(epochs)}}}),"


def _epochs(budget: int, batch: int, rows: int, *, replay: float = 0.0) -> list[float]:
    """Three about those that were best in the quickstart: 48 at half a batch, 16 at four.

    The best number falls as more is replayed. Stage 2 has at most four fifths of the run's rows,
    and target data at most three tenths.
    """
    best = 48 * (0.5 * batch / budget) ** 0.5 * (0.75 if replay else 1.0)
    most = min(0.3, 0.8 * (1 - replay)) * rows / budget
    tried = {float(max(1, round(min(times * best, most)))) for times in (2 / 3, 1, 3 / 2)}
    return sorted(tried)
