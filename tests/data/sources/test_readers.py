"""Files as they are found: links, brackets, hidden ones, damage, bad documents, cuts."""

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from replay_jax.data.sources import formats
from replay_jax.data.sources.documents import part_documents, split_documents
from replay_jax.data.sources.files import cut_at, expand_paths, open_binary
from replay_jax.data.sources.parts import Read, part_digest, read_documents, source_parts
from replay_jax.data.sources.source import SourceConfig
from replay_jax.errors import UserError


def documents(kind: str, path: Path | str, **changes: object) -> list[str]:
    return list(read_documents(SourceConfig(kind, str(path), **changes)))  # type: ignore[arg-type]


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")


def test_each_file_counts_once_however_often_it_matches(tmp_path: Path) -> None:
    write(tmp_path, "x.txt", "a/y.txt", "a/b/z.txt")
    assert sorted(documents("text", tmp_path / "**/**/*.txt")) == ["a/b/z.txt", "a/y.txt", "x.txt"]


def test_linked_folders_belong_to_a_folder_and_circles_end(tmp_path: Path) -> None:
    write(tmp_path, "corpus/a.txt", "disk/b.txt")
    (tmp_path / "corpus/more").symlink_to("../disk")
    (tmp_path / "disk/back").symlink_to("../corpus")
    assert documents("text", tmp_path / "corpus") == ["corpus/a.txt", "disk/b.txt"]


@pytest.mark.parametrize("pattern", ["parts/part-*.jsonl", "parts"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, pattern: str) -> None:
    write(tmp_path, "parts/part-0.jsonl")
    (tmp_path / "parts/part-1.jsonl").symlink_to("../blobs/gone")
    with pytest.raises(UserError, match="part-1.jsonl is a link to ../blobs/gone, which is not"):
        expand_paths(str(tmp_path / pattern))


def test_brackets_in_names_are_letters_where_such_a_file_is(tmp_path: Path) -> None:
    write(tmp_path, "part[0].txt", "run[1]/a.txt", "run[1]/b.txt", "p0.txt", "p1.txt")
    assert documents("text", tmp_path / "part[0].txt") == ["part[0].txt"]
    assert documents("text", tmp_path / "run[1]/*.txt") == ["run[1]/a.txt", "run[1]/b.txt"]
    assert documents("text", tmp_path / "p[01].txt") == ["p0.txt", "p1.txt"]


def test_what_editors_and_tools_leave_is_no_text(tmp_path: Path) -> None:
    left = (".a.txt.swp", "._a.txt", ".ipynb_checkpoints/a.txt", ".cache/huggingface/a.metadata")
    write(tmp_path, "a.txt", *left)
    (tmp_path / "_SUCCESS").touch()
    assert documents("text", tmp_path) == ["a.txt"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfhello")
    (one, other) = split_documents(SourceConfig("text", str(tmp_path / "*.txt")))
    assert one == other
    (tmp_path / "c.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "hello"}\n')
    assert documents("jsonl", tmp_path / "c.jsonl") == ["hello"]


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_damaged_files_are_named(tmp_path: Path, ending: str) -> None:
    compress = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[ending]
    lines = "".join(json.dumps({"text": f"number {i} {i**7}"}) + "\n" for i in range(2000))
    data = bytearray(compress(lines.encode()))
    path = tmp_path / f"x.jsonl.{ending}"
    path.write_bytes(data)
    assert len(documents("jsonl", path)) == 2000
    for i in range(40, 80):
        data[i] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"x.jsonl.{ending} cannot be read"):
        documents("jsonl", path)
    with pytest.raises((OSError, EOFError)), open_binary(path) as file:  # as tasks read theirs
        file.read()


def test_deep_json_and_odd_numbers_are_told_or_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a", "n": NaN, "m": 123456789012345678901234567890}\n')
    assert documents("jsonl", path) == ["a"]
    deep = "[" * 100_000 + "]" * 100_000
    path.write_text(f'{{"text": "a"}}\n{{"text": "b", "meta": {deep}}}\n')
    with pytest.raises(UserError, match="x.jsonl, line 2: JSON that is nested too deeply"):
        documents("jsonl", path)


def test_bad_documents_are_refused_or_passed_over_and_null_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    bad = ["no json", '{"body": 1}', '{"text": 3}', '{"text": "half \\ud83d"}', "[1]", "\udcff"]
    lines = ['{"text": "fine"}', '{"text": null}', *bad, '{"text": "last"}']
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape"))

    def found(policy: str) -> list[tuple[str, bool]]:
        config = SourceConfig("jsonl", str(path), bad_documents=policy)
        (part,) = source_parts(config)
        return [(d.text, bool(d.bad)) for d in part_documents(config, part, Read())]

    nothing, wrong = ("", False), ("", True)
    assert found("pass_over") == [("fine", False), nothing, *[wrong] * len(bad), ("last", False)]
    with pytest.raises(UserError, match="line 3: not valid JSON"):
        found("refuse")
    table = pa.table({"text": pa.array([b"fine", None, b"\xff"]).cast("binary").view("string")})
    parquet.write_table(table, tmp_path / "x.parquet")
    config = SourceConfig("parquet", str(tmp_path / "x.parquet"), bad_documents="pass_over")
    (part,) = source_parts(config)
    read = [(d.text, bool(d.bad)) for d in part_documents(config, part, Read())]
    assert read == [("fine", False), nothing, wrong]


@pytest.mark.parametrize(
    ("kind", "separator"), [("jsonl", ""), ("text", "\n\n"), ("text", "<|end|>"), ("parquet", "")]
)
def test_parts_hold_the_documents_of_the_whole_whatever_their_size(
    tmp_path: Path, kind: str, separator: str
) -> None:
    texts = [f"{i} " + "wört " * (i * 7 % 40) for i in range(120)]
    path = tmp_path / "x"
    if kind == "parquet":
        parquet.write_table(pa.table({"text": texts}), path, row_group_size=9)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    else:
        # Three line feeds in a row, too: the third begins a document.
        path.write_text(separator.join(("\n" * (i % 3)) + t for i, t in enumerate(texts)))
    config = SourceConfig(kind, str(path), separator=separator)
    whole = documents(kind, path, separator=separator)
    assert len(whole) >= len(texts)
    for size in (1, 50, 700, 3000):
        parts = source_parts(config, size)
        assert len(parts) > 1
        found = [d.text for p in parts for d in part_documents(config, p, Read())]
        assert [t for t in found if t] == [t for t in whole if t.strip()]
        assert len({part_digest(config, part) for part in parts}) == len(parts)


def test_a_mark_that_can_be_read_in_two_ways_is_no_place_to_cut(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"aaa\n\n\nbbb\n\nccc\n\n\n\nd\n\ne")
    ranges = cut_at(tmp_path / "x", b"\n\n", 1)
    data = (tmp_path / "x").read_bytes()
    pieces = [data[first:stop].removesuffix(b"\n\n") for first, stop in ranges]
    assert b"\n\n".join(pieces).split(b"\n\n") == data.split(b"\n\n")
    for piece in pieces[:-1]:
        assert data.split(b"\n\n").count(piece.split(b"\n\n")[-1])


def test_a_long_document_between_separators_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was searched again with every block: 200 MB took a minute."""
    searched = 0

    class Counted(bytearray):
        def find(self, sub: bytes, start: int) -> int:  # type: ignore[override]
            nonlocal searched
            searched += len(self) - start
            return super().find(sub, start)

    monkeypatch.setattr(formats, "bytearray", Counted, raising=False)
    path = tmp_path / "x.txt"
    path.write_bytes(b"x" * (40 << 20) + b"<sep>end")
    assert [len(t) for t in documents("text", path, separator="<sep>")] == [40 << 20, 3]
    assert 40 << 20 < searched < 41 << 20


def test_a_folder_with_a_colon_is_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "run_12:30/set"
    folder.mkdir(parents=True)
    lines = "".join(json.dumps({"text": f"document {i}"}) + "\n" for i in range(20))
    (folder / "train.jsonl").write_text(lines)
    assert len(documents("huggingface", folder)) == 20
    assert os.path.isdir(folder)
