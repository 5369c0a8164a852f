"""The core runs without what only some need, and says in one sentence how to install it."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata

import pytest
from places import ROOT

from replay_jax.commands.main import main

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Imported only after their extra was looked for.
BEHIND_EXTRAS = {
    "analysis/bayes/model.py": "numpyro",
    "library/texts/harness.py": "lm_eval",
    "sweep/executors/ray/remote.py": "ray",
}
WITHOUT = """
import importlib.abc, pkgutil, sys
class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(name + " is not installed here", name=name)
sys.meta_path.insert(0, Without())
import replay_jax
for module in pkgutil.walk_packages(replay_jax.__path__, "replay_jax."):
    try:
        __import__(module.name)
    except ModuleNotFoundError as error:
        assert error.name in {behind}, module.name
from replay_jax.data.sources.parts import read_documents
from replay_jax.data.sources.source import SourceConfig
print(list(read_documents(SourceConfig("jsonl", "texts.jsonl.zst"))))
from replay_jax.commands.main import main
for place in ("runs.parquet", "texts.jsonl"):
    print(main(["analyse", place]))
"""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_first(tree: ast.AST) -> Iterator[str]:
    """Top-level names that importing a module imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
        elif not isinstance(node, ast.FunctionDef | ast.Lambda) and not (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            yield from imported_first(node)


def test_modules_import_what_the_core_has():
    core = {plain(re.match(r"[\w.-]+", line)[0]) for line in PROJECT["dependencies"]}
    core |= {"protobuf"}  # of tensorboardX
    names = {top for top, dists in metadata.packages_distributions().items()
             if core & set(map(plain, dists))}  # fmt: skip
    names |= {"replay_jax", "compression", *sys.stdlib_module_names}
    for path in sorted((ROOT / "replay_jax").rglob("*.py")):
        here = path.relative_to(ROOT / "replay_jax").as_posix()
        behind = {BEHIND_EXTRAS[here]} if here in BEHIND_EXTRAS else set()
        assert set(imported_first(ast.parse(path.read_text()))) - names == behind, here


def test_every_module_and_zstandard_without_the_extras(tmp_path):
    from backports import zstd

    texts = b'{"text": "a"}\n{"text": "b"}\n'
    (tmp_path / "texts.jsonl.zst").write_bytes(zstd.compress(texts))
    (tmp_path / "texts.jsonl").write_bytes(texts)
    (tmp_path / "runs.parquet").write_bytes(b"PAR1")
    absent = {"pyarrow", "tensorflow_datasets", "tensorflow_metadata", "datasets", "pandas"}
    program = WITHOUT.format(absent=absent, behind=set(BEHIND_EXTRAS.values()))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines() == ["['a', 'b']", "2", "2"], done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("replay-jax: ")]
    assert "reading Parquet needs the extra: pip install 'replay-jax[parquet]'" in lines[0]
    assert "unknown column 'text'" in lines[1] and len(lines) == 2


@pytest.mark.parametrize(
    ("kind", "path", "module", "words"),
    [
        ("parquet", "rows.parquet", "pyarrow", "reading Parquet needs the extra: pip install "
         "'replay-jax[parquet]'"),
        ("tfds", "wikipedia", "tensorflow_datasets", "reading a TFDS dataset needs the extra: pip "
         "install 'replay-jax[tfds]'"),
    ],
)  # fmt: skip
def test_a_source_without_its_extra_names_it(
    tmp_path, capsys, monkeypatch, kind, path, module, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    target = f"--config.data.sources.c_headers.kind={kind}"
    where = f"--config.data.sources.c_headers.path={path}"
    assert main(["prepare", "smoke", target, where, "--config.data.store_dir=stores"]) == 2
    assert words in capsys.readouterr().err
