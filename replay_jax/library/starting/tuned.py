"""The config file of a study of fine-tuning: its values stand in it, each to be changed."""

from pathlib import Path

from replay_jax.library.starting.lengths import Side
from replay_jax.library.starting.tuning import EPOCHS, FRACTIONS, REFERENCES, Tuning

_ALPHA = 32.0  # of adapters
# Braces that stay are doubled.
_TEMPLATE = '''"""How much generic text should be replayed while this model learns the target?

Fine-tuning from finished weights, both kinds mixed evenly from the first update to the last.
Written by `replay-jax init`; every value may be changed (docs/fine_tuning.md).
"""

from replay_jax.config.defaults import (
    analysis,
    continual_schedule,
    cosine,{imported}
    paper_config,
    pretrained_model,
    source,
    tokenizer,
)
from replay_jax.config.grid import chain, grid, zipped

MODEL = {model!r}
SEEDS = [1, 2, 3]  # each other target rows
SEQ_LEN, BATCH = {seq_len}, {batch}  # tokens of a row, rows of an update
RHO, BUDGET, EPOCHS = (
    "schedule.replay_fraction",  # generic share of the rows
    "schedule.target_sequences",  # rows of target data that a run has
    "schedule.target_epochs",  # how often it sees them
)


def get_config():
    """One run; the sweep changes it."""
    config = paper_config()
    config.initial_weights = MODEL
    config.model = pretrained_model(MODEL){adapters}
    config.data.tokenizer = tokenizer({tokenizer})
    config.data.sources = {{
{sources}
    }}
    config.data.generic, config.data.target = "generic", "target"
    config.data.store_dir = "runs/stores"
    config.schedule = continual_schedule(cosine({peak}))  # the rate matters most: sweep its peak
    config.schedule.target_sequences = {budget}
    config.training.batch_size, config.training.seq_len = BATCH, SEQ_LEN
    config.training.document_mask = True  # documents of a row do not see each other
    config.training.evaluate_every = 0
    config.evaluation = {{"sequences": {judged}, "batch_size": {judged_at_once}}}
    config.analysis = analysis({{"replay_fraction": 0.0}})  # against no replay
    return config


def sweep():
    """Epochs are tuned in every cell, with and without replay."""
    reference = grid({{BUDGET: {references}}}, {{RHO: [0.0]}}, {{EPOCHS: {epochs}}})
    replay = grid({{BUDGET: [{budget}]}}, {{RHO: {fractions}}}, {{EPOCHS: {epochs}}})
    seeds = zipped({{"seed": SEEDS, "data_seed": SEEDS}})
    return grid(seeds, chain(reference, replay))
'''


def tuned_text(study: Tuning) -> str:
    """The config file: its values stand in it, each to be changed."""
    sides = (
        ("generic", study.generic, study.paths[0], study.held_out[0], study.train_fraction),
        ("target", study.target, study.paths[1], study.held_out[1], 1.0),
    )
    marks = (("bos_token", study.tokenizer.bos_token), ("eos_token", study.tokenizer.eos_token))
    given = ['"file"', "path=MODEL", *(f"{name}={value!r}" for name, value in marks if value)]
    lora = f"\n    config.model.lora = lora(rank={study.rank}, alpha={_ALPHA})"
    return _TEMPLATE.format(
        imported="\n    lora," if study.rank else "",
        adapters=lora if study.rank else "",
        model=study.model,
        seq_len=study.seq_len,
        batch=study.batch,
        tokenizer=", ".join(given),
        sources="\n".join(f"        {_source(*side)}" for side in sides),
        peak="2e-4" if study.rank else "1e-5",
        budget=study.budget,
        judged=study.judged,
        judged_at_once=min(study.judged, study.batch),
        references=[round(study.budget * share) for share in REFERENCES],
        epochs=list(EPOCHS),
        fractions=list(FRACTIONS),
    )


def _source(name: str, side: Side, path: str, held_out: float, train_fraction: float) -> str:
    """One line of the sources, with what is not as usual."""
    source = side.source
    more = f", validation_fraction={held_out:g}"
    if train_fraction < 1:
        more += f", train_fraction={train_fraction:g}"
    if source.masked:
        more += ", max_tokens=SEQ_LEN + 1, truncate=True"
    elif source.text_field != "text":
        more += f', text_field="{source.text_field}"'
    if side.bad:
        more += ', bad_documents="pass_over"'
    return f'"{name}": source("{source.kind}", {str(Path(path))!r}{more}),'
