"""The shape of the package: imports go one way, files and functions stay readable."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "replay_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# Floor by floor: a room may import itself and the rooms before it in this list.
ROOMS = (
    "", "schedule", "model", "analysis/noise", "analysis/statistics", "analysis/runs",
    "analysis/study", "analysis/advice", "analysis/bayes", "analysis/sources", "analysis/budget",
    "data/conversations", "data/sources", "data/tokens", "data/stores", "data/reading",
    "data/ledger", "data/judging", "data/web",
    "hub", "training/mesh", "training/saving", "training", "generation", "compile/hlo", "compile",
    "report/elements", "report/figures", "report/tables", "report/published", "report",
    "config", "sweep/plan", "sweep/store", "sweep/results", "sweep/train", "sweep/executors",
    "sweep/executors/local", "sweep/executors/hosts", "sweep/executors/ray", "sweep/drive",
    "library", "library/starting", "library/budgeted", "library/analysing", "library/web",
    "library/texts", "commands/one_model", "commands/web", "commands",
)  # fmt: skip
MODULES_OF_A_ROOM = 15
# Of the rooms before it, all that a room knows beside errors and strict.
ONLY = {
    "schedule": set(),
    "model": set(),
    "data": {"schedule"},
    "hub": {"data", "model"},
    "training": {"model"},
    "generation": {"model", "training"},
    "compile": {"model", "training"},
    "analysis": set(),
    "report": {"analysis"},
}
# Pure arithmetic: checked with a pencil, imported by anything, importing neither JAX nor Grain.
PURE = (
    *(f"schedule/{path.name}" for path in sorted((PACKAGE / "schedule").glob("*.py"))),
    "data/reading/views.py",
    "analysis/statistics/efficiency.py",
)
HEAVY = {"jax", "flax", "optax", "orbax", "grain", "tensorflow_datasets"}


def room(path: Path) -> str:
    if path in (PACKAGE / "__main__.py", PACKAGE / "__init__.py"):
        return "commands"  # The front doors, above all rooms.
    return path.relative_to(PACKAGE).parent.as_posix().removeprefix(".")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


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


def test_imports_go_one_way():
    wrong = []
    for path in FILES:
        here = room(path)
        wing = here.split("/")[0]
        for file in own(imports(parsed(path))):
            other = room(file)
            up = ROOMS.index(other) > ROOMS.index(here)
            if up or (wing in ONLY and other.split("/")[0] not in {"", wing} | ONLY[wing]):
                wrong.append(f"{path} ({here}) imports {file} ({other})")
    assert not wrong, "\n".join(wrong)


def test_no_import_leads_back():
    above = {path: own(imports(parsed(path))) for path in FILES}
    known: set[Path] = set()

    def follow(path: Path, way: tuple[Path, ...]) -> None:
        assert path not in way, f"circle: {' -> '.join(p.stem for p in (*way, path))}"
        if path not in known:
            for file in sorted(above[path]):
                follow(file, (*way, path))
            known.add(path)

    for path in FILES:
        follow(path, ())


def test_rooms_say_what_others_read():
    """`__init__.py` names exactly the modules of a room that other rooms import."""
    read: dict[str, set[str]] = {name: set() for name in ROOMS}
    for path in FILES:
        for file in own(imports(parsed(path))):
            if room(file) != room(path):
                read[room(file)].add(file.stem)
    for name in filter(None, ROOMS):
        text = ast.get_docstring(parsed(PACKAGE / name / "__init__.py")) or ""
        said = set(re.findall(r"`(\w+)`", text.partition("Other rooms read")[2]))
        assert said == read[name], f"{name} says {sorted(said)}, others read {sorted(read[name])}"


def test_the_design_has_a_line_for_every_file():
    """docs/design.md shows the house: every room, every module in it, each with what it is for."""
    tree = (PACKAGE.parent / "docs" / "design.md").read_text().split("```")
    (lines,) = (part.splitlines() for part in tree if part.strip().startswith("replay_jax/\n"))
    here, drawn = "", set()
    for line in filter(None, lines[2:]):
        name, *words = line.split()
        assert words, f"nothing is said of {name}"
        if name.endswith("/"):
            here = name
        else:
            drawn.add((here if line.startswith("    ") else "") + name)
    files = {path.relative_to(PACKAGE).as_posix() for path in FILES}
    assert drawn == {name for name in files if "/__init__" not in name}


def test_rooms_are_small():
    sizes = Counter(room(path) for path in FILES if path.name[:2] != "__")
    assert set(sizes) == set(ROOMS) - {name for name in ROOMS if not sizes[name]}
    assert max(sizes.values()) <= MODULES_OF_A_ROOM, sizes


@pytest.mark.parametrize("name", PURE)
def test_arithmetic_is_pure(name):
    """Followed through the package: what a pure file imports must be pure as well."""
    seen, todo = set(), [PACKAGE / name]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in imports(parsed(path)):
            assert module.split(".")[0] not in HEAVY, f"{path} imports {module}"
            file = PACKAGE.parent / (module.replace(".", "/") + ".py")
            if module.startswith("replay_jax.") and file.exists():
                todo.append(file)


def test_analysis_reads_only_records():
    """But for the sampler of the second opinion, which is imported when it is asked for."""
    sampler = PACKAGE / "analysis/bayes/model.py"
    for path in set((PACKAGE / "analysis").rglob("*.py")) - {sampler}:
        names = imports(parsed(path))
        assert not HEAVY & {n.split(".")[0] for n in names}, path


def test_files_and_functions_stay_readable():
    wrong = [sentence for path in FILES for sentence in unreadable(path)]
    assert not wrong, "\n".join(wrong)


def unreadable(path: Path) -> Iterator[str]:
    """A sentence for whatever is too long, says nothing of itself, or has no telling name."""
    lines = path.read_text().count("\n")
    if lines > 300:
        yield f"{path} has {lines} lines"
    if path.stem in {"utils", "helpers", "common", "misc"}:
        yield f"{path} has a name that says nothing"
    if not ast.get_docstring(parsed(path)):
        yield f"{path} has no docstring"
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        size = (node.end_lineno or 0) - node.lineno + 1
        if isinstance(node, ast.FunctionDef) and size > 60:
            yield f"{path}:{node.lineno} {node.name} has {size} lines"
        public = node.col_offset == 0 and not node.name.startswith("_")
        if public and not ast.get_docstring(node):
            yield f"{path}:{node.lineno} {node.name} has no docstring"
