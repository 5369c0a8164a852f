"""Sources: every kind gives its documents in order, and bad input is named with file and line."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds
from pyarrow import parquet

from replay_jax.data.sources import embedded
from replay_jax.data.sources.documents import document_hash, held_out_below, split_documents
from replay_jax.data.sources.embedded import embedded_files, module_text, read_embedded
from replay_jax.data.sources.parts import read_documents, source_files
from replay_jax.data.sources.source import SourceConfig
from replay_jax.errors import UserError

TEXTS = ["the first", "zwei\nZeilen", "τρία 🎉", ""]


def documents(kind: str, path: Path | str, **changes: object) -> list[str]:
    return list(read_documents(SourceConfig(kind=kind, path=str(path), **changes)))  # type: ignore[arg-type]


def json_lines(texts: list[str]) -> bytes:
    return "".join(
        json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(texts)
    ).encode()


def zstd(data: bytes) -> bytes:
    """Two frames, as parallel compressors write them."""
    half = len(data) // 2
    return b"".join(pa.compress(part, "zstd", asbytes=True) for part in (data[:half], data[half:]))


def test_text_files_are_documents_sorted_by_path(tmp_path: Path) -> None:
    for name, text in (("b.txt", "second"), ("a.txt", "first"), ("c/d.txt", "third")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert documents("text", tmp_path / "*.txt") == ["first", "second"]
    assert documents("text", tmp_path) == ["first", "second", "third"]
    assert documents("text", tmp_path / "**" / "*.txt") == ["first", "second", "third"]
    assert documents("text", tmp_path, max_documents=2) == ["first", "second"]


def test_separator_cuts_one_file_into_documents_across_read_blocks(tmp_path: Path) -> None:
    texts = ["é" * 700_000, "short", "", "x" * 1_500_000]
    (tmp_path / "all.txt").write_text("<|sep|>".join(texts), encoding="utf-8")
    assert documents("text", tmp_path / "all.txt", separator="<|sep|>") == texts


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_json_lines_plain_and_compressed(tmp_path: Path, ending: str) -> None:
    data = json_lines(TEXTS) + b"\n"  # a blank line is no document
    path = tmp_path / f"part.jsonl{ending}"
    path.write_bytes({"": bytes, ".gz": gzip.compress, ".zst": zstd}[ending](data))
    assert documents("jsonl", path) == TEXTS


def test_parquet_reads_one_column_and_nulls_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    parquet.write_table(pa.table({"body": [*TEXTS, None], "n": list(range(5))}), path)
    assert documents("parquet", path, text_field="body") == [*TEXTS, ""]
    with pytest.raises(UserError, match=r"no column 'text'.*\['body', 'n'\]"):
        documents("parquet", path)
    with pytest.raises(UserError, match="column 'n' holds int, not text"):
        documents("parquet", path, text_field="n")


def test_a_parquet_column_whose_name_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    parquet.write_table(pa.table({"body": TEXTS, "nnnnnn": TEXTS}), path)
    path.write_bytes(path.read_bytes().replace(b"nnnnnn", b"nn\xf6nnn"))
    with pytest.raises(UserError, match="part.parquet"):
        documents("parquet", path, text_field="body")


class TinyText(tfds.core.GeneratorBasedBuilder):
    """A dataset of eight documents, written as ArrayRecord without TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "n": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager: object) -> dict:
        return {"train": self._generate_examples(6), "test": self._generate_examples(2)}

    def _generate_examples(self, count: int):  # type: ignore[no-untyped-def]
        for i in range(count):
            yield i, {"text": f"document {i} é", "n": i}


def test_tfds_reads_array_records_without_tensorflow(tmp_path: Path) -> None:
    builder = TinyText(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    folder = str(builder.data_dir)
    assert sorted(documents("tfds", folder)) == [f"document {i} é" for i in range(6)]
    assert documents("tfds", folder) == documents("tfds", folder)
    assert sorted(documents("tfds", folder, split="test")) == [f"document {i} é" for i in range(2)]
    assert [path.is_file() for path in source_files(SourceConfig("tfds", folder))] == [True]
    twice = documents("tfds", folder, template="{text} and {text}")
    assert sorted(twice) == [f"document {i} é and document {i} é" for i in range(6)]
    assert "tensorflow" not in sys.modules
    for changes, message in (
        ({"split": "dev"}, r"no split 'dev'.*\['test', 'train'\]"),
        ({"text_field": "body"}, r"no field 'body'.*\['n', 'text'\]"),
        ({"text_field": "n"}, "row 0: expected text, found int"),
        ({"template": "{text} {n}"}, "row 0: expected text, found int"),
        ({"template": "{text} {body}"}, r"no field 'body'.*\['n', 'text'\]"),
    ):
        with pytest.raises(UserError, match=message):
            documents("tfds", folder, **changes)
    with pytest.raises(UserError, match="TFDS has no dataset 'no_such_dataset'"):
        documents("tfds", "no_such_dataset")


def test_huggingface_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'replay-jax\[huggingface\]'"):
        documents("huggingface", "some/dataset")


def test_huggingface_with_the_extra_reads_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(json_lines(TEXTS))
    assert documents("huggingface", folder) == TEXTS
    assert documents("huggingface", folder, template="<{text}>") == [
        f"<{text}>" if text else "" for text in TEXTS
    ]
    assert all(path.is_file() for path in source_files(SourceConfig("huggingface", str(folder))))
    with pytest.raises(UserError, match=r"no column 'body'.*\['text', 'id'\]"):
        documents("huggingface", folder, text_field="body")
    with pytest.raises(UserError, match="split 'dev', cannot be loaded"):
        documents("huggingface", folder, split="dev")


def test_bad_files_are_named_with_their_line(tmp_path: Path) -> None:
    good = json_lines(["fine"])
    cases = {
        "bad.txt": (b"one\ntwo\nthr\xffee", "bad.txt, line 3: not valid UTF-8 .byte 0xff"),
        "cut.txt": ("naïve\ncafé".encode()[:-1], "cut.txt, line 2: not valid UTF-8 .the file ends"),
        "far.txt": (b"\n" * 2_000_000 + b"\xff", "far.txt, line 2000001: not valid UTF-8"),
        "utf.jsonl": (good + b'{"text": "\xc3("}\n', "utf.jsonl, line 2: not valid UTF-8"),
        "json.jsonl": (good + b'{"text": \n', "json.jsonl, line 2: not valid JSON"),
        "list.jsonl": (b"[1]\n", "list.jsonl, line 1: expected a JSON object, found list"),
        "field.jsonl": (b'{"body": "x"}\n', r"line 1: no field 'text'; the fields are \['body'\]"),
        "type.jsonl": (good + b'{"text": 3}\n', "line 2: field 'text' is int, not text"),
        "empty.txt": (b"", "empty.txt is empty"),
        "cut.jsonl.gz": (gzip.compress(good * 1000)[:-20], "cut.jsonl.gz cannot be read"),
        "cut.jsonl.zst": (
            zstd(good * 1000)[:-9],
            "cut.jsonl.zst cannot be read: Compressed",
        ),
        "not.jsonl.zst": (b"plain text", "not.jsonl.zst cannot be read"),
        "not.parquet": (b"plain text", "not.parquet cannot be read"),
    }
    for name, (data, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        kind = {"txt": "text", "parquet": "parquet"}.get(name.split(".")[1], "jsonl")
        with pytest.raises(UserError, match=message):
            documents(kind, path)
    with pytest.raises(UserError, match="no file matches '.*missing"):
        documents("text", tmp_path / "missing*.txt")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "_SUCCESS").touch()
    with pytest.raises(UserError, match="bare is a folder without files"):
        documents("text", tmp_path / "bare")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "txt", "path": "x"}, "'txt' is not one of python_docs, .* huggingface"),
        ({"kind": "text"}, "needs a path"),
        ({"kind": "text", "path": "x", "validation_fraction": 1.0}, "1.0 must be"),
        ({"kind": "text", "path": "x", "validation_fraction": 0.0}, "exactly one of"),
        ({"kind": "text", "path": "x", "validation_path": "y"}, "exactly one of"),
        ({"kind": "jsonl", "path": "x", "separator": "\n"}, "separator is for kind 'text'"),
        ({"kind": "text", "path": "x", "max_documents": 0}, "max_documents 0"),
        ({"kind": "text", "path": "x", "train_fraction": 0.0}, "train_fraction 0.0 must be above"),
        ({"kind": "text", "path": "x", "train_fraction": 1.1}, "train_fraction 1.1 must be above"),
        ({"kind": "c_headers", "validation_path": "y"}, "takes no validation_path"),
    ],
)
def test_impossible_sources_are_refused(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SourceConfig(**values)


def test_split_is_by_content_nested_and_near_its_share(tmp_path: Path) -> None:
    texts = [f"document number {i}" for i in range(2000)]
    path = tmp_path / "all.jsonl"
    path.write_bytes(json_lines([*texts, *reversed(texts)]))
    held = {}
    for fraction in (0.1, 0.3):
        config = SourceConfig("jsonl", str(path), validation_fraction=fraction)
        sides: dict[str, set[bool]] = {}
        for document in split_documents(config):
            sides.setdefault(document.text, set()).add(document.held_out)
        assert all(len(side) == 1 for side in sides.values()), "a duplicate straddles the split"
        held[fraction] = {text for text, side in sides.items() if side == {True}}
        assert abs(len(held[fraction]) / 2000 - fraction) < 0.03  # 4 standard deviations
    assert held[0.1] < held[0.3]
    # A fixed value: another hash would silently move documents between the splits.
    assert document_hash(b"the same for ever") == 6207674040644960051
    assert held_out_below(0.5) == 2**63


def test_a_share_of_the_training_documents_is_nested_and_leaves_the_held_out_ones(tmp_path: Path):
    texts = [f"document number {i}" for i in range(2000)]
    path = tmp_path / "all.jsonl"
    path.write_bytes(json_lines(texts))
    trained, held = {}, set()
    for share in (0.05, 0.25, 1.0):
        config = SourceConfig("jsonl", str(path), validation_fraction=0.1, train_fraction=share)
        found = [document for document in split_documents(config) if document.bytes]
        trained[share] = {document.text for document in found if not document.held_out}
        held.add(frozenset(document.text for document in found if document.held_out))
        assert abs(len(trained[share]) / 2000 - min(share, 0.9)) < 0.03
    assert trained[0.05] < trained[0.25] < trained[1.0]
    (same,) = held
    assert same | trained[1.0] == set(texts)


def test_separate_validation_input_removes_its_copies_from_training(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(json_lines(["a", "shared", " ", "b", "shared"]))
    (tmp_path / "held.jsonl").write_bytes(json_lines(["shared", "c"]))
    config = SourceConfig(
        "jsonl",
        str(tmp_path / "train.jsonl"),
        validation_fraction=0.0,
        validation_path=str(tmp_path / "held.jsonl"),
    )
    found = [(d.text, d.held_out) for d in split_documents(config)]
    nothing = ("", False)
    assert found == [
        ("shared", True), ("c", True), ("a", False), nothing, nothing, ("b", False), nothing
    ]  # fmt: skip


def test_half_a_surrogate_pair_is_refused_by_document(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "fine"}\n{"text": "broken \\ud83d"}\n')
    with pytest.raises(UserError, match=r"document 2 of .*surrogate pair \(U\+D83D\)"):
        list(split_documents(SourceConfig("jsonl", str(tmp_path / "x.jsonl"))))


MODULE = '''# Copyright somebody.
# Licence of some kind.
"""Module prose."""
import os


class Thing:
    """Class prose,
    two lines. ünï"""; size = 3

    def only(self): "Sole body prose."

    def method(self):
        """Method prose."""
        try:
            pass
        except OSError:
            def inner():
                "Inner prose."
                return "a string that stays"
        text = """not a docstring"""  # a comment that stays
        return text
'''


def test_a_module_comes_apart_into_prose_and_code(tmp_path: Path) -> None:
    path = tmp_path / "thing.py"
    path.write_text(MODULE, encoding="utf-8")
    module = module_text(path)
    assert module is not None
    assert module.prose.split("\n\n") == [
        "Module prose.",
        "Class prose,\ntwo lines. ünï",
        "Sole body prose.",
        "Method prose.",
        "Inner prose.",
    ]
    assert "prose" not in module.code and "Copyright" not in module.code
    for kept in ("a string that stays", "not a docstring", "a comment that stays", "size = 3"):
        assert kept in module.code
    compile(module.code, "thing.py", "exec")
    generated = tmp_path / "generated.py"
    generated.write_text(f'"""Prose."""\nx = "{"y" * 400}"\n', encoding="utf-8")
    assert module_text(generated) is None


def test_embedded_kinds_share_no_text() -> None:
    only = "humanize,packaging,grain"
    code = "\n".join(read_embedded("python_code", only))
    lines = {
        line.strip()
        for file in embedded_files("python_code", only)
        if (module := module_text(file.path)) is not None
        for line in module.prose.split("\n")
        if len(line.strip()) > 60
    }
    assert len(lines) > 500
    leaked = {line for line in lines if f'"""{line}' in code or f"\n    {line}\n" in code}
    assert not leaked


def test_all_headers_are_with_those_of_arrow_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What published studies trained on is not other text where an extra is missing."""
    found = {file.distribution for file in embedded_files("c_headers", "")}
    assert {"numpy", "pyarrow", "python"} <= found
    assert "pyarrow" not in {f.distribution for f in embedded_files("c_headers", "numpy,python")}
    monkeypatch.setattr(embedded, "_ARROW", "no-such-distribution")
    for only in ("", "numpy,no-such-distribution"):
        with pytest.raises(
            UserError, match=r"pip install 'replay-jax\[quickstart\]', or name others"
        ):
            embedded_files("c_headers", only)
    assert embedded_files("c_headers", "numpy")


def test_embedded_text_is_limited_to_required_packages_and_repeatable() -> None:
    with pytest.raises(UserError, match="no distribution 'pytest' among those replay-jax requires"):
        embedded_files("python_docs", "pytest")
    files = embedded_files("python_docs", "humanize,python")
    keys = [(file.distribution, file.name) for file in files]
    assert keys == sorted(keys) and {file.distribution for file in files} == {"humanize", "python"}
    assert not [name for _, name in keys if "/test" in name or "LICEN" in name.upper()]
    assert all(file.path.suffix == ".h" for file in embedded_files("c_headers", "numpy"))
    # Another process with other string hashes must give the same bytes.
    script = (
        "import hashlib; from replay_jax.data.sources.embedded import read_embedded;"
        "print(hashlib.sha256('\\0'.join(read_embedded('python_docs', 'humanize,rich'))"
        ".encode()).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1
    found = list(read_embedded("python_docs", "humanize,rich"))
    assert len(found) == len(set(found)) > 30
