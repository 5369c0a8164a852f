"""Shards that no store needs are named with their size and deleted; no other is, ever."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from corpora import BYTES, prose, sources, texts_of, write_lines

from replay_jax.commands.main import main
from replay_jax.data.sources.durable import in_use
from replay_jax.data.stores.superseded import superseded
from replay_jax.data.tokens import prepare as prepare_module
from replay_jax.data.tokens.config import DataConfig
from replay_jax.data.tokens.prepare import prepare
from replay_jax.data.tokens.store import check_store
from replay_jax.errors import UserError


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    values = sources(tmp_path, [prose(i) for i in range(60)], [prose(900 + i) for i in range(20)])
    return DataConfig(tokenizer=BYTES, **values)


def shards(folder: Path) -> set[str]:
    return {path.name for path in (folder / "shards").iterdir()}


def test_shards_of_no_store_go_and_all_others_stay(
    data: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(data.store_dir)
    first = prepare(data, part_bytes=4000)
    write_lines(tmp_path / "generic.jsonl", [prose(5000 + i) for i in range(60)])
    second = prepare(data, part_bytes=4000)
    everything = shards(folder)
    # The store of what the text was is still there, and whole.
    assert superseded(folder) == [] == check_store(first["generic"].path)
    shutil.rmtree(first["generic"].path)
    old = [Path(shard.folder).name for shard in first["generic"].manifest.shards]
    sizes = {
        name: sum(p.stat().st_size for p in (folder / "shards" / name).iterdir()) for name in old
    }
    assert len(old) > 3
    assert main(["gc", str(folder), "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert shards(folder) == everything and f"{len(old)} folders" in said and "may go" in said
    assert {each.path.name: each.size for each in superseded(folder)} == sizes
    assert all(f"shards/{name}: a shard of no store here" in said for name in old)
    assert main(["gc", str(folder)]) == 0
    assert "deleted" in capsys.readouterr().out
    assert shards(folder) == everything - set(old)
    for store in second.values():
        assert check_store(store.path) == []
    assert prepare(data, part_bytes=4000)["generic"].path == second["generic"].path
    assert main(["gc", str(folder)]) == 0 and "0 folders" in capsys.readouterr().out


def test_shards_that_another_policy_left_are_made_again(data: DataConfig, tmp_path: Path) -> None:
    """The shard with all its documents is of no store once copies are left out."""
    write_lines(tmp_path / "generic.jsonl", [prose(i) for i in (*range(60), *range(5))])
    policy = replace(data, drop_copies="all")
    store = prepare(policy)["generic"]
    assert len(superseded(Path(data.store_dir))) == 1
    assert main(["gc", data.store_dir]) == 0
    assert check_store(store.path) == [] and prepare(policy)["generic"].path == store.path
    assert len(texts_of(prepare(data)["generic"], "train")) > len(texts_of(store, "train"))


def test_nothing_is_deleted_while_a_preparation_is_at_work(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between the last shard and its store, no manifest names it."""
    folder = Path(data.store_dir)
    assemble = prepare_module._assemble

    def during(*arguments: object) -> None:
        before = shards(folder)
        assert main(["gc", str(folder)]) == 2
        assert "a preparation is at work in" in capsys.readouterr().err
        assert shards(folder) == before
        assemble(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare_module, "_assemble", during)
    prepare(data)
    with in_use(folder, alone=True), pytest.raises(UserError, match="is at work in"):
        with in_use(folder, alone=True):
            pass


def test_what_cannot_be_read_may_need_any(data: DataConfig) -> None:
    folder = Path(data.store_dir)
    store = prepare(data)["generic"]
    manifest = store.path / "manifest.json"
    text = manifest.read_text()
    for other in (text[:-9], json.dumps(json.loads(text) | {"format": 99})):
        manifest.write_text(other)
        with pytest.raises(UserError, match="so none is deleted: "):
            superseded(folder)
    manifest.write_text(text)
    (folder / "shards" / "x.partial").mkdir()
    (folder / "web.partial").mkdir()
    assert [each.why for each in superseded(folder)] == ["left unfinished"] * 2
