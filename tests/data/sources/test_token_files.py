"""Bad files of token ids are refused in one sentence that names the file."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from token_files import write_megatron, write_npy

from replay_jax.data.sources import token_files as module
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.sources.token_files import found_token_files, open_token_file, token_files
from replay_jax.errors import UserError


def changed(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(bytes(data))


def put(at: int, value: bytes) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at : at + len(value)] = value

    return change


def cut(size: int) -> Callable[[bytearray], None]:
    return lambda data: data.__delitem__(slice(-size, None))


@pytest.mark.parametrize(
    "ending,change,message",
    [
        ("bin", cut(1), r"a\.bin has 13 bytes where a\.idx says 7 ids of 2 bytes"),
        ("idx", put(0, b"X"), r"a\.idx is no Megatron index"),
        ("idx", put(9, b"\2"), "version 2, and only 1 is known"),
        ("idx", put(17, b"\x09"), "type 9, which is not one of 1 to 8"),
        ("idx", put(17, b"\6"), r"a\.idx holds numbers of type float64, not token ids"),
        ("idx", put(17, b"\4"), "sequences do not follow each other"),
        ("idx", cut(8), r"a\.idx has \d+ bytes where 3 sequences and 3 document borders take"),
        ("idx", lambda data: data.__delitem__(slice(20, None)), r"a\.idx is cut off: 20 bytes"),
        ("idx", put(34, struct.pack("<i", -1)), "sequences do not follow each other"),
        ("idx", put(54, struct.pack("<q", 2)), "sequences do not follow each other"),
        ("idx", put(70, struct.pack("<q", 9)), "documents are not borders of 0 to 3"),
    ],
)
def test_a_damaged_pair_is_refused(
    ending: str, change: Callable[[bytearray], None], message: str, tmp_path: Path
) -> None:
    path = write_megatron(tmp_path / "a", [[[1, 2], [3]], [[4, 5, 6, 7]]])
    changed(path.with_suffix(f".{ending}"), change)
    (files,) = token_files("megatron", str(path))
    with pytest.raises(UserError, match=message):
        open_token_file(tuple(map(str, files)))


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "a.npy", [1, 2, 3])
    files = (str(path),)
    assert open_token_file(files).ids.tolist() == [1, 2, 3]
    for change, message in (
        (cut(1), "no whole .npy file"),
        (put(0, b"XX"), "no whole .npy file"),
        (lambda data: put(data.index(b"}"), b"(")(data), "no whole .npy file"),
    ):
        write_npy(path, [1, 2, 3])
        changed(path, change)
        with pytest.raises(UserError, match=rf"a\.npy is {message}"):
            open_token_file(files)
    for array, message in (
        (np.ones(3), "float64, not token ids"),
        (np.array(["a"]), "not token ids"),
        (np.ones((2, 2, 2), int), "not one stream or rows"),
        (np.asfortranarray(np.ones((2, 3), int)), "not one stream or rows"),
    ):
        np.save(path, array)
        with pytest.raises(UserError, match=message):
            open_token_file(files)
    np.save(path, np.array([object()]), allow_pickle=True)
    with pytest.raises(UserError, match="no whole .npy file"):
        open_token_file(files)
    with path.open("wb") as file:
        np.savez(file, a=np.ones(2))
    with pytest.raises(UserError, match="an archive of arrays"):
        open_token_file(files)


def test_pairs_are_found_by_file_folder_and_megatrons_own_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_megatron(tmp_path / name, [[[1]]])
    (tmp_path / "a.json").write_text("{}")
    both = [tmp_path / name for name in ("a.bin", "a.idx", "b.bin", "b.idx")]
    for pattern in ("", "*", "*.bin", "*.idx"):
        assert found_token_files("megatron", str(tmp_path / pattern)) == both
    assert found_token_files("megatron", str(tmp_path / "b")) == both[2:]
    assert found_token_files("npy", str(tmp_path)) == []
    both[1].unlink()
    with pytest.raises(UserError, match=r"a\.idx is missing"):
        token_files("megatron", str(tmp_path))
    with pytest.raises(UserError, match=r"no \.npy file of token ids among"):
        token_files("npy", str(tmp_path))
    with pytest.raises(UserError, match="no file matches"):
        token_files("megatron", str(tmp_path / "nothing"))
    assert SourceConfig("megatron", "x").validation_fraction == 0.05


def test_documents_end_at_borders_and_at_ends_of_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several ends in a row end one document, also where blocks meet."""
    ids = [9, 1, 2, 9, 9, 3, 4, 9, 5, 9]
    path = write_npy(tmp_path / "a.npy", ids)
    rows = write_npy(tmp_path / "b.npy", np.reshape(ids, (2, 5)))
    expected = [(0, 1), (1, 5), (5, 8), (8, 10)]
    for block in (1, 3, 4, 100):
        monkeypatch.setattr(module, "_BLOCK", block)
        assert list(open_token_file((str(path),)).borders(9)) == expected
        assert list(open_token_file((str(rows),)).borders(9)) == expected
        # Where no id ends a document, the file's own borders are all there are.
        assert list(open_token_file((str(path),)).borders(8)) == [(0, 10)]
        assert list(open_token_file((str(rows),)).borders(8)) == [(0, 5), (5, 10)]
