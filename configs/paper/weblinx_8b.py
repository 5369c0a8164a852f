"""Fine-tuning Llama 3 8B for web navigation, with three sources of replay.

The paper's agent: turns of WebLINX as target, their loss on the action alone; replayed are
OpenHermes, UltraChat or, as a related task, Mind2Web, each at the paper's replay fractions, and
weight decay as the control. `replay-jax turns` writes the files of turns (docs/web_navigation.md).
Published are the fractions, weight decays and scores; steps, rates and the checkpoint are not, and
are here those of WebLINX's own 8B model: three epochs, batches of 16 turns, 3e-5 linearly to zero,
no warmup, an Instruct checkpoint. Rows hold a turn or two. At smaller scales training starts from
a model of yours, on files of yours: replayed conversations with commas between, and turns.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from replay_jax.config.defaults import (
    analysis,
    continual_schedule,
    model_sizes,
    pretrained_model,
    source,
    tokenizer,
    warmup_stable_decay,
)
from replay_jax.config.grid import Overrides, chain, grid
from replay_jax.config.paper import repeated, study_config, target_sources
from replay_jax.errors import UserError

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
# By scale: target rows, labels per row, rows of a batch, held-out rows, peak learning rate.
SIZES = {
    "tiny": (64, 512, 8, 16, 1e-3),
    "small": (2048, 1024, 16, 64, 1e-4),
    "full": (16_384, 2304, 16, 128, 3e-5),
}
EPOCHS = 3.0
CHATS = [0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9]
RELATED = [0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.6]
REPLAYED = {"openhermes": CHATS, "ultrachat": CHATS, "mind2web": RELATED}
WEIGHT_DECAYS = [0.1, 0.2, 0.4, 0.6]  # beside 0, which all others have


def get_config(
    scale: str = "full", data_generic: str = "", data_target: str = "", initial_weights: str = ""
) -> ConfigDict:
    """Turns and replay are mixed evenly, from the first step to the last."""
    config = study_config(scale)
    rows, seq_len, batch, held_out, peak = SIZES[scale]
    config.initial_weights = initial_weights or LLAMA
    if scale == "full":
        config.model = model_sizes("8b")
        config.data.tokenizer.path = LLAMA
    else:
        _start_small(config, scale, initial_weights, data_generic and data_target)
    replayed = _replayed(seq_len, data_generic)
    target = "weblinx"
    config.data.sources = {**replayed, target: _turns(seq_len, data_target)}
    config.data.generic, config.data.target = next(iter(replayed)), target
    # Runs of all sources are judged by one text; by their own they could not be compared.
    config.data.held_out_generic = config.data.generic
    # Mind2Web has fewer rows than the largest fractions draw.
    config.data.repeat_generic = True
    config.training.batch_size, config.training.seq_len = batch, seq_len
    config.schedule = continual_schedule(warmup_stable_decay(peak))
    config.schedule.learning_rate.update({"warmup_fraction": 0.0, "decay_fraction": None})
    config.schedule.target_sequences, config.schedule.target_epochs = rows, EPOCHS
    config.training.evaluate_every = round(rows * EPOCHS / batch) // 4
    config.evaluation = {"sequences": held_out, "batch_size": batch}
    config.optimizer.weight_decay = 0.0
    config.execution.keep_states = scale == "full"
    config.analysis = analysis({"schedule.replay_fraction": 0.0})
    config.analysis.published = "weblinx_8b"
    return config


def sweep(scale: str = "full", seeds: int = 1, data_generic: str = "") -> list[Overrides]:
    """27 runs for each seed: 23 of replay source x rho, of which three are one, and 4 of decay."""
    del scale  # the same at every one
    names = list(_replayed(2, data_generic))
    runs = chain(
        *(
            grid({"data.generic": [name]}, {"schedule.replay_fraction": _fractions(name)})
            for name in names
        ),
        grid(
            {"data.generic": names[:1]},
            {"schedule.replay_fraction": [0.0]},
            {"optimizer.weight_decay": WEIGHT_DECAYS},
        ),
    )
    return repeated(runs, seeds)


def _fractions(name: str) -> Sequence[float]:
    return REPLAYED[name] if name in REPLAYED else CHATS


def _replayed(seq_len: int, own: str) -> dict[str, ConfigDict]:
    """Sources of replay by name."""
    if own:
        return {name: _chats(each.path, seq_len) for name, each in target_sources("", own).items()}
    return {
        "openhermes": _chats("data/openhermes-2.5/*.jsonl", seq_len),
        "ultrachat": _chats("data/ultrachat-200k/train_sft-*.parquet", seq_len),
        "mind2web": _whole("data/mind2web/turns.jsonl", seq_len),
    }


def _turns(seq_len: int, own: str) -> ConfigDict:
    if own:
        return _whole(own, seq_len)
    held_out = {"validation_path": "data/weblinx/turns-valid.jsonl", "validation_fraction": 0.0}
    return _whole("data/weblinx/turns-train.jsonl", seq_len, **held_out)


def _chats(path: str, seq_len: int) -> ConfigDict:
    """Conversations, long ones cut; one in which no answer begins within a row is passed over."""
    return _whole(path, seq_len, truncate=True)


def _whole(path: str, seq_len: int, **changes: object) -> ConfigDict:
    """Turns: an action is never cut; what does not fit is passed over and counted."""
    usual = {"validation_fraction": 0.1, "bad_documents": "pass_over"}
    return source("conversations", path, max_tokens=seq_len + 1, **{**usual, **changes})


def _start_small(config: ConfigDict, scale: str, weights: str, files: str) -> None:
    """The model of a folder with its own tokenizer and chat template, in place of Llama."""
    if not weights:
        raise UserError(
            f"at scale '{scale}' training starts from a model of yours: name its folder with "
            "--config.initial_weights=PATH"
        )
    if not files:
        raise UserError(
            f"at scale '{scale}' give --config.data.generic=CHATS.jsonl,TURNS.jsonl to replay and "
            "--config.data.target=TURNS.jsonl"
        )
    config.model = pretrained_model(weights)
    config.data.tokenizer = tokenizer("file", path=weights)
