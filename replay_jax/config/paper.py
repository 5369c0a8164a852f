"""What the studies of arXiv 2603.04964 have in common: sizes to run them at, data, paired seeds.

A config file of configs/paper gives the arguments of its `get_config` and `sweep` on to here, so
`--config.scale=tiny --config.seeds=3` work for every study (`recipe.load_recipe`). What makes a
study is the same at every size: steps, target batches (f times the steps), epochs, gamma, rho,
alpha and learning rates; a batch has fewer and shorter sequences, and the model shrinks with the
tokens, to about the 28 tokens per parameter of the paper's 150M.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict, FieldReference

from replay_jax.config.defaults import model_sizes, paper_config, source, tokenizer
from replay_jax.config.grid import Overrides, grid, zipped
from replay_jax.errors import UserError
from replay_jax.strict import nearest

# Seed and data seed of the paper, and of the repetitions that it does not have.
FIRST_SEED, FIRST_DATA_SEED = 0, 42
TARGETS = ("finemath", "starcoder", "flan")
# Embedded text in their place, for a machine without data: two targets, not three.
EMBEDDED_GENERIC = "python_docs"
EMBEDDED_TARGETS = ("c_headers", "python_code")
_KINDS = {".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclasses.dataclass(frozen=True)
class Scale:
    """The size of a study: a model (`defaults.model_sizes`), and the rows of a batch.

    models: the base, and what takes the place of the sizes of model scaling, smallest first.
    batch_size, seq_len: of training, in sequences and tokens.
    evaluation: sequences of every held-out set.
    """

    models: tuple[str, ...]
    base: str
    batch_size: int
    seq_len: int
    evaluation: int


SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "tiny": Scale(
            ("32,80,2,2,2,512", "48,112,2,3,3,512", "64,144,2,4,4,512"),
            base="48,112,2,3,3,512", batch_size=16, seq_len=128, evaluation=128,
        ),
        "small": Scale(
            ("128,448,3,4,4,4096", "192,672,3,6,6,4096", "256,896,6,8,8,4096"),
            base="192,672,3,6,6,4096", batch_size=128, seq_len=512, evaluation=512,
        ),
        "full": Scale(
            ("150m", "300m", "600m", "1_9b"),
            base="150m", batch_size=1024, seq_len=4096, evaluation=10_240,
        ),
    }
)  # fmt: skip


def sized(scale: str) -> Scale:
    """The scale of a name; raises UserError for one that does not exist."""
    if scale not in SCALES:
        raise UserError(f"scale '{scale}' is none of them: {nearest(scale, SCALES)}")
    return SCALES[scale]


def study_config(
    scale: str, generic: str = "", target: str = "", targets: Sequence[str] = TARGETS
) -> ConfigDict:
    """The paper's mid-training at a scale; a study changes what it is about.

    Args:
        scale: "tiny", "small" or "full".
        generic, target: files of text in place of the paper's sources (`own_source`), several
            targets with commas between; "" for the paper's own, or at "tiny" for embedded text.
        targets: those of the paper's that the study has.

    Raises:
        UserError: no such scale, or two files of one name.
    """
    size = sized(scale)
    config = paper_config()
    config.model = model_sizes(size.base)
    config.schedule.target_sequences = size.batch_size
    config.training.batch_size, config.training.seq_len = size.batch_size, size.seq_len
    config.evaluation.sequences = size.evaluation
    config.evaluation.batch_size = min(size.evaluation, size.batch_size)
    first, others = generic_sources(scale, generic), target_sources(scale, target, targets)
    if overlap := set(first) & set(others):
        raise UserError(f"generic and target text are both named '{min(overlap)}': rename a file")
    config.data.sources = {**first, **others}
    config.data.generic = FieldReference(next(iter(first)), field_type=object)
    config.data.target = next(iter(others))
    if scale != "full":
        config.model.tied_embeddings = True
        config.data.tokenizer = tokenizer(
            "bpe", vocab_size=config.model.vocab_size, train_sources=tuple(first)
        )
        config.data.store_dir = "runs/stores"
        config.training.log_every = 8
        config.execution.keep_states = False
    return config


def generic_sources(scale: str, paths: str) -> dict[str, ConfigDict]:
    """The source of generic text by its name: own files, the paper's C4 or embedded text."""
    if paths:
        return {_name(paths): own_source(paths)}
    if scale == "tiny":
        return {EMBEDDED_GENERIC: source("python_docs")}
    return {"c4": paper_config().data.sources["c4"]}


def target_sources(
    scale: str, paths: str, targets: Sequence[str] = TARGETS
) -> dict[str, ConfigDict]:
    """The sources of target text by name: own files, or as many as there are in `targets`."""
    if paths:
        files = [path.strip() for path in paths.split(",")]
        found = {_name(path): own_source(path) for path in files}
        if len(found) < len(files):
            raise UserError(f"target files must have different names, not {', '.join(files)}")
        return found
    if scale == "tiny":
        names = EMBEDDED_TARGETS[: len(targets)]
        return {name: source(name, validation_fraction=0.15) for name in names}
    every = paper_config().data.sources
    return {name: every[name] for name in targets}


def _name(path: str) -> str:
    """What a source is called: its file without endings, or the folder of a glob."""
    name = Path(path).name.split(".")[0]
    return Path(path).parent.name if set(name) & set("*?[") else name


def own_source(path: str) -> ConfigDict:
    """A file, folder or glob as a source, its kind by the ending: JSON lines, Parquet or text."""
    ending = Path(path).suffix
    if ending in _COMPRESSED:
        ending = Path(path).with_suffix("").suffix
    return source(_KINDS.get(ending, "text"), path)


def target_axis(
    scale: str, paths: str, targets: Sequence[str] = TARGETS
) -> Mapping[str, Sequence[str]]:
    """The axis of a study's targets, or of what takes their place."""
    return {"data.target": list(target_sources(scale, paths, targets))}


def batches(scale: str, numbers: Sequence[float]) -> list[int]:
    """Target budgets of so many batches, in sequences."""
    return [round(number * sized(scale).batch_size) for number in numbers]


def repeated(runs: Sequence[Mapping[str, Any]], seeds: int, *, after: int = 0) -> list[Overrides]:
    """Every run with so many paired seeds: model, order and choice of target rows all change.

    Seeds 0 and 42 are the paper's own, and the only ones with `seeds` 1; `after` are passed over.

    Raises:
        UserError: no whole number from 1 up, or from 0 up to pass over.
    """
    for name, number, least in (("seeds", seeds, 1), ("after", after, 0)):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise UserError(f"{name} must be a whole number from {least} up, not {number!r}")
    numbers = range(after, after + seeds)
    pairs = zipped(
        {
            "seed": [FIRST_SEED + number for number in numbers],
            "data_seed": [FIRST_DATA_SEED + number for number in numbers],
        }
    )
    return grid(pairs, [dict(run) for run in runs])
