"""Valid inputs of every reader of the package, and how each reads what became of one."""

import bz2
import dataclasses
import gzip
import json
import lzma
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fuzz_workdir
import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import safetensors.numpy
from chats import CHATML, MARKED, SPECIAL
from etils import epath
from fake_records import fake_records
from token_files import write_megatron, write_npy

from replay_jax.analysis.runs.records import AnalysisConfig, load_records
from replay_jax.analysis.sources.files import read_table
from replay_jax.analysis.sources.frame import runs_of_frame
from replay_jax.analysis.sources.tensorboard import read_tensorboard
from replay_jax.analysis.statistics.points_input import parse_points
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.commands.measure import read_points
from replay_jax.config.defaults import paper_config
from replay_jax.config.experiment import resolve
from replay_jax.config.recipe import override, parse_overrides
from replay_jax.data.conversations.chat import Chat
from replay_jax.data.conversations.chat_files import read_chat
from replay_jax.data.judging.tasks import read_items
from replay_jax.data.sources.parts import Read, read_documents, read_part, source_parts
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.sources.token_files import open_token_file, token_files
from replay_jax.errors import UserError
from replay_jax.hub.folder import pretrained_config, weight_files
from replay_jax.hub.tensors import open_weights
from replay_jax.sweep.train.events_file import EventsFile


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader: its name, valid inputs, and `read(which, data)` of damaged bytes of one of them."""

    name: str
    valid: Sequence[bytes]
    read: Callable[[int, bytes], Any]


_TEXTS = ("a text", "two\nlines \N{GREEK SMALL LETTER ALPHA}", "", "x" * 300, 'tab\tand \\ "quote"')
_LINES = b"\n".join(json.dumps({"text": text, "n": 1}).encode() for text in _TEXTS) + b"\n"
_PLAIN = "\n\n".join(_TEXTS).encode()
_ENDINGS = (".gz", ".bz2", ".xz", ".zst")


def make_readers(study: Path, place: Path) -> dict[str, Reader]:
    """All readers by name.

    Args:
        study: a folder for the one sweep whose files are damaged; trained where it is not there.
        place: a folder for what is read, on a fast disk.
    """
    if not (study / "workdir" / "results.jsonl").exists():
        shutil.rmtree(study, ignore_errors=True)
        study.mkdir(parents=True)
        subprocess.run([sys.executable, fuzz_workdir.__file__, str(study)], check=True)
    readers = [
        *_sources(place),
        *_conversations(place),
        *_token_files(place),
        *_tables(place),
        *_models(place),
        _overrides(),
        *(Reader(*each) for each in fuzz_workdir.readers(study, place)),
    ]
    return {reader.name: reader for reader in readers}


def _sources(place: Path) -> list[Reader]:
    def documents(kind: str, ending: str, separator: str = "") -> Callable[[int, bytes], Any]:
        def read(which: int, data: bytes) -> None:
            path = place / f"input{_ENDINGS[which] if ending == '*' else ending}"
            path.write_bytes(data)
            for _ in read_documents(SourceConfig(kind, str(path), separator=separator)):
                pass

        return read

    return [
        Reader("json lines", [_LINES], documents("jsonl", ".jsonl")),
        Reader("text", [_PLAIN], documents("text", ".txt", "\n\n")),
        Reader("compressed", [_compressed(e) for e in _ENDINGS], documents("jsonl", "*")),
        Reader("parquet", [_parquet(c) for c in ("snappy", "none")],
               documents("parquet", ".parquet")),
        Reader("tasks", [_items()], _file_reader(place / "task.jsonl", read_items)),
    ]  # fmt: skip


def _conversations(place: Path) -> list[Reader]:
    said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    told = [{"from": "system", "value": "Be short."}, {"from": "human", "value": "A?"},
            {"from": "gpt", "value": "B."}]  # fmt: skip
    records = [
        {"messages": [{"role": "system", "content": "Be kind."}, *said, *said]},
        {"prompt": "Count.", "completion": "1, 2"},
        {"prompt": said[:1], "completion": said[1:]},
        {"conversations": told},
    ]
    lines = b"\n".join(json.dumps(record).encode() for record in records)
    source = SourceConfig("conversations", str(place / "conversations.jsonl"), max_tokens=64)
    beside = place / "chat"
    beside.mkdir()
    (beside / "tokenizer.json").touch()

    def talk(_: Path) -> None:
        for template in (CHATML, MARKED):
            chat = Chat(template, (("bos_token", "<s>"),), tuple(SPECIAL))
            for part in source_parts(source):
                for text in read_part(source, part, Read(), chat):
                    if isinstance(text, UserError):
                        raise text

    def templates(_: Path) -> None:
        given = read_chat(str(beside / "tokenizer.json"), given="", special=SPECIAL, download=False)
        given.render(said)

    config = {"chat_template": CHATML, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    return [
        Reader("conversations", [lines], _file_reader(Path(source.path), talk)),
        Reader("chat template", [json.dumps(config).encode()],
               _file_reader(beside / "tokenizer_config.json", templates)),
    ]  # fmt: skip


def _token_files(place: Path) -> list[Reader]:
    binary, array = place / "pair.bin", place / "ids.npy"
    write_megatron(place / "pair", [[[1, 2], [3]], [[4, 5, 6, 7]]])
    arrays = [write_npy(array, ids).read_bytes() for ids in ([1, 0, 3], [[1, 2], [3, 4]])]

    def read(kind: str, path: Path) -> Callable[[Path], None]:
        def opened(_: Path) -> None:
            for files in token_files(kind, str(path)):
                for _first, _stop in open_token_file(tuple(map(str, files))).borders(0):
                    pass

        return opened

    index = binary.with_suffix(".idx")
    return [
        Reader("npy tokens", arrays, _file_reader(array, read("npy", array))),
        Reader(
            "megatron index", [index.read_bytes()], _file_reader(index, read("megatron", binary))
        ),
    ]


def _tables(place: Path) -> list[Reader]:
    records = fake_records()[:6]
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    points = {
        "reference": {"x": [1, 2, 4], "loss": [3.0, [2.5, 2.6, None], 2.2]},
        "candidates": {"a": 2.4, "b": [2.3, 2.4]},
        "ratios": {"a/b": ["a", "b"]},
        "level": 0.9,
        "law": "power",
    }
    rows = [
        {"seed": seed, "replay_fraction": rho, "target_tokens": tokens, "target_epochs": 2,
         "target_loss": 3.0 - rho + seed / 10, "generic_loss": 3.5, "name": f"run {seed}"}
        for seed in (1, 2) for rho in (0.0, 0.5) for tokens in (100, 200)
    ]  # fmt: skip
    table = pyarrow.Table.from_pylist(rows)
    for name in ("csv", "parquet"):
        writer = pyarrow.csv.write_csv if name == "csv" else pyarrow.parquet.write_table
        writer(table, place / f"table.{name}")
    json_rows = "".join(json.dumps(row) + "\n" for row in rows).encode()

    compared = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)

    def frame(path: Path) -> None:
        runs_of_frame(read_table(path))

    with EventsFile(place) as events:
        events.add_text("config", json.dumps({"seed": 1, "data": {"rho": 0.5}}))
        for step in range(3):
            events.add("loss", 3.0 - step, step)
    (event_file,) = place.glob("events*")
    (place / "run").mkdir()

    def folder(path: Path) -> None:
        read_tensorboard(epath.Path(path.parent))

    def study(path: Path) -> None:
        analyse_anyway(load_records(path), compared)

    return [
        Reader("records", [lines], _file_reader(place / "results.jsonl", study)),
        Reader("fit", [json.dumps(points).encode()],
               _file_reader(place / "points.json", lambda path: parse_points(read_points(path)))),
        Reader("analyse csv", [(place / "table.csv").read_bytes()],
               _file_reader(place / "runs.csv", frame)),
        Reader("analyse jsonl", [json_rows], _file_reader(place / "runs.jsonl", frame)),
        Reader("analyse parquet", [(place / "table.parquet").read_bytes()],
               _file_reader(place / "runs.parquet", frame)),
        Reader("analyse tensorboard", [event_file.read_bytes()],
               _file_reader(place / "run" / "events.out.tfevents.1", folder)),
    ]  # fmt: skip


def _models(place: Path) -> list[Reader]:
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "vocab_size": 64, "hidden_size": 16,
        "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False, "head_dim": 8, "rope_theta": 10000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
    }  # fmt: skip
    index = {
        "metadata": {"total_size": 64},
        "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"},
    }
    hub, indexed, weights = (place / name for name in ("hub", "indexed", "weights"))
    for folder in (hub, indexed, weights):
        folder.mkdir()
    tensors = {name: np.arange(4, dtype=np.float32).reshape(2, 2) for name in "ab"}
    for number, name in enumerate(tensors, start=1):
        path = indexed / f"model-{number}.safetensors"
        safetensors.numpy.save_file({name: tensors[name]}, path)

    def read_weights(_: Path) -> None:
        reader = open_weights("weights", weights)
        for name in "ab":
            reader.check(name, (2, 2))
            reader.read(name, (slice(0, 2), slice(0, 1)))

    return [
        Reader("model config", [json.dumps(config).encode()], _file_reader(
            hub / "config.json", lambda _: pretrained_config(str(hub), download=False))),
        Reader("model index", [json.dumps(index).encode()], _file_reader(
            indexed / "model.safetensors.index.json", lambda _: weight_files(indexed))),
        Reader("safetensors", [safetensors.numpy.save(tensors)],
               _file_reader(weights / "model.safetensors", read_weights)),
    ]  # fmt: skip


def _overrides() -> Reader:
    plain = paper_config().to_dict()
    keys = ("seed", "model.num_layers", "schedule.replay_fraction", "schedule.learning_rate.peak",
            "data.sources", "training.batch_size", "mesh", "tasks")  # fmt: skip
    values = ("1", "0.5", "'a'", "None", "[1, (2, 3)]", "{'a': 1}", "-1", "1e-3", "text", "(" * 50)
    valid = [f"--config.{key}={value}".encode() for key in keys for value in values]

    def read(_: int, data: bytes) -> None:
        changed = plain
        # As arguments of a process come: no byte 0, odd bytes as half surrogates.
        argument = data.replace(b"\0", b"").decode(errors="surrogateescape")
        for key, value in parse_overrides([argument]).items():
            changed = override(changed, key, value)
        resolve(changed)

    return Reader("overrides", valid, read)


def _file_reader(path: Path, read: Callable[[Path], Any]) -> Callable[[int, bytes], Any]:
    def written_and_read(_: int, data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return written_and_read


def _compressed(ending: str) -> bytes:
    plain = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    if ending in plain:
        return plain[ending](_LINES)
    return bytes(pyarrow.compress(_LINES, codec="zstd", asbytes=True))


def _parquet(codec: str) -> bytes:
    into = pyarrow.BufferOutputStream()
    table = pyarrow.table({"text": [*_TEXTS, None], "n": range(len(_TEXTS) + 1)})
    pyarrow.parquet.write_table(table, into, row_group_size=2, compression=codec)
    return bytes(into.getvalue())


def _items() -> bytes:
    items = [
        {"context": "The sky is", "choices": [" blue", " green"], "answer": 0},
        {"context": "", "choices": ["a", "b", "c"], "answer": 2},
    ]
    return b"\n".join(json.dumps(item).encode() for item in items)
