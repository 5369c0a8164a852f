"""The shape of the package: imports go one way, files and functions stay readable."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "replay_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import itself and the rooms before it in this list.
ROOMS = (
    "errors", "strict", "schedule", "data", "model", "hub", "training", "compile",
    "analysis", "report", "config", "sweep", "commands",
)  # fmt: skip
# Pure arithmetic: checked with a pencil, imported by anything, importing neither JAX nor Grain.
PURE = (
    "schedule/protocols.py",
    "schedule/learning_rate.py",
    "analysis/statistics/efficiency.py",
)
HEAVY = {"jax", "flax", "optax", "orbax", "grain", "tensorflow_datasets"}


def room(path: Path) -> str:
    part = path.relative_to(PACKAGE).with_suffix("").parts[0]
    return {"__init__": "errors", "__main__": "commands"}.get(part, part)


def imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(names: set[str]) -> set[Path]:
    """Files of the package that are imported."""
    candidates = {PACKAGE.parent / (n.replace(".", "/") + ".py") for n in names}
    return {path for path in candidates if path.is_file() and PACKAGE in path.parents}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    names = imports(ast.parse(path.read_text()))
    here = ROOMS.index(room(path))
    for file in own(names):
        other = room(file)
        assert ROOMS.index(other) <= here, f"{path.name} ({ROOMS[here]}) imports {file} ({other})"
        assert (room(path), other) not in {("model", "data"), ("analysis", "training")}


@pytest.mark.parametrize("name", PURE)
def test_arithmetic_is_pure(name):
    """Followed through the package: what a pure file imports must be pure as well."""
    seen, todo = set(), [PACKAGE / name]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in imports(ast.parse(path.read_text())):
            assert module.split(".")[0] not in HEAVY, f"{path} imports {module}"
            file = PACKAGE.parent / (module.replace(".", "/") + ".py")
            if module.startswith("replay_jax.") and file.exists():
                todo.append(file)


def test_analysis_reads_only_records():
    for path in (PACKAGE / "analysis").rglob("*.py"):
        names = imports(ast.parse(path.read_text()))
        assert not HEAVY & {n.split(".")[0] for n in names}, path
        assert {room(file) for file in own(names)} <= {"errors", "strict", "analysis"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_readable(path):
    text = path.read_text()
    assert text.count("\n") <= 300, f"{path} has {text.count(chr(10))} lines"
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            size = (node.end_lineno or 0) - node.lineno + 1
            if isinstance(node, ast.FunctionDef):
                assert size <= 60, f"{path}:{node.lineno} {node.name} has {size} lines"
            if node.col_offset == 0 and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}: no docstring"
