"""Text that every installation carries: Python's own documentation, code and C headers.

The material is the standard library and the distributions that replay-jax itself requires,
found through their metadata, so other packages on the machine change nothing. Files are
parsed, never imported. Three kinds share no text by construction:

    python_docs   docstrings (one document per module), pydoc topics, README metadata, .rst/.md
    python_code   the same modules' source with docstrings cut out, comments kept
    c_headers     C and C++ headers, of the distributions, of Python and of Arrow (an extra)

Left out everywhere: tests (a distribution may or may not ship them), licence texts and banners
(the same page in every package), and Python files with a line over 400 characters (generated
code and data tables; measured on 2026-11-23: 170 of 5,853 files, 13 % of the bytes).
"""

import ast
import functools
import importlib.metadata
import inspect
import os
import platform
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from replay_jax.errors import UserError

EMBEDDED_KINDS = ("python_docs", "python_code", "c_headers")
# Raise it when the rules below change what is extracted: it is part of a store's identity.
EXTRACTION_VERSION = f"1 python {'.'.join(platform.python_version_tuple()[:2])}"

_PYTHON = "python"
_ROOT = "replay-jax"
# Three quarters of the headers that published studies trained on; it was required until 2026-11-26.
_ARROW = "pyarrow"
_HEADERS = (".h", ".hh", ".hpp", ".hxx", ".cuh")
_PROSE = (".md", ".rst")
_TEST_FOLDERS = ("test", "tests", "testing", "_test", "idle_test", "internal_test_util")
_LICENCES = ("licen", "copying", "notice", "authors", "third_party", "thirdparty")
_MAX_LINE = 400  # characters


@dataclass(frozen=True)
class EmbeddedFile:
    """One installed file: the distribution it belongs to, its name there, and where it lies."""

    distribution: str
    name: str
    path: Path


def embedded_files(kind: str, only: str) -> list[EmbeddedFile]:
    """The files a kind is made of, sorted by distribution and name.

    `only` limits them to some distributions, comma-separated ("python" is the standard
    library); "" means all. Raises UserError for a name that is not among them, or where headers of
    Arrow are asked for and it is not installed.
    """
    distributions = {**_required_distributions()}
    asked = [name.strip() for name in only.split(",") if name.strip()]
    if kind == "c_headers" and (not asked or _ARROW in asked):
        distributions[_ARROW] = _arrow()
    names = asked or [_PYTHON, *sorted(distributions)]
    files: list[EmbeddedFile] = []
    for name in sorted(names):
        if name == _PYTHON:
            found = _python_files(kind)
        elif name in distributions:
            found = _distribution_files(kind, name, distributions[name])
        else:
            raise UserError(
                f"no distribution {name!r} among those replay-jax requires: "
                f"{', '.join([_PYTHON, *sorted(distributions)])}"
            )
        files += sorted(found, key=lambda file: file.name)
    return files


def read_embedded(kind: str, only: str) -> Iterator[str]:
    """Documents of one embedded kind in a fixed order, exact duplicates removed."""
    seen: set[str] = set()
    for file in embedded_files(kind, only):
        for document in _documents(kind, file):
            if document not in seen:
                seen.add(document)
                yield document


def _documents(kind: str, file: EmbeddedFile) -> list[str]:
    if file.path.suffix != ".py":
        text = file.path.read_bytes().decode("utf-8", "replace")
        if file.path.name == "METADATA":
            # The body of the metadata is the README; the header is a form.
            text = text.partition("\n\n")[2]
        return [_without_banner(text, ("//", "/*", "*")) if kind == "c_headers" else text.strip()]
    if file.name.endswith("pydoc_data/topics.py"):
        return _pydoc_topics(file.path) if kind == "python_docs" else []
    module = module_text(file.path)
    return [] if module is None else [module.prose if kind == "python_docs" else module.code]


@dataclass(frozen=True)
class ModuleText:
    """A module taken apart: its docstrings, and its source without them."""

    prose: str
    code: str


# Both Python kinds, and the tokenizer's pass before the real one, read the same modules:
# parsing them once saves about 12 s each time (2 cores, 2026-11-23) for 60 MB of memory.
@functools.cache
def module_text(path: Path) -> ModuleText | None:
    """Docstrings and remaining source of a module; None where it is data or does not parse."""
    try:
        with tokenize.open(path) as file:
            source = file.read()
        if any(len(line) > _MAX_LINE for line in source.split("\n")):
            return None
        tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return None
    docstrings = sorted(_docstrings(tree), key=lambda found: found[0].lineno)
    prose = "\n\n".join(inspect.cleandoc(ast.literal_eval(node.value)) for node, _ in docstrings)
    return ModuleText(prose.strip(), _without_banner(_cut(source, docstrings), ("#",)))


def _docstrings(scope: ast.AST) -> Iterator[tuple[ast.Expr, bool]]:
    """Docstring statements of a scope and all below it, each with "is its whole body"."""
    body = getattr(scope, "body", [])
    if isinstance(scope, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        first = body[0] if body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            yield first, len(body) == 1 and not isinstance(scope, ast.Module)
    for block in (body, *(getattr(scope, name, []) for name in ("orelse", "finalbody"))):
        if isinstance(block, list):
            for statement in block:
                if isinstance(statement, ast.stmt):
                    yield from _docstrings(statement)
    for handler in getattr(scope, "handlers", []):
        yield from _docstrings(handler)


def _cut(source: str, docstrings: list[tuple[ast.Expr, bool]]) -> str:
    """The source without its docstrings; a body that was only a docstring becomes `...`."""
    lines = [line.encode() for line in source.split("\n")]
    for node, alone in reversed(docstrings):
        assert node.end_lineno is not None and node.end_col_offset is not None
        first, last = node.lineno - 1, node.end_lineno - 1
        before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        # Something must stand before a semicolon too.
        line = before + (b"..." if alone or after.strip().startswith(b";") else b"") + after
        lines[first : last + 1] = [line.rstrip()] if line.strip() else []
    return b"\n".join(lines).decode()


def _without_banner(text: str, comment: tuple[str, ...]) -> str:
    """Drop a leading comment block that is a licence: the same one opens every file."""
    lines = text.strip().split("\n")
    end = 0
    while end < len(lines) and (not lines[end].strip() or lines[end].strip().startswith(comment)):
        end += 1
    banner = "\n".join(lines[:end]).lower()
    return "\n".join(lines[end:] if "copyright" in banner or "licen" in banner else lines).strip()


def _pydoc_topics(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            topics = ast.literal_eval(statement.value)
            return [inspect.cleandoc(topics[name]) for name in sorted(topics)]
    return []


def _wanted(kind: str, name: str) -> bool:
    """Whether a file belongs to a kind, by its name with forward slashes."""
    *folders, last = name.lower().split("/")
    if any(folder in _TEST_FOLDERS for folder in folders):
        return False
    if any(word in folder for word in _LICENCES for folder in (*folders, last)):
        return False
    stem, dot, ending = last.rpartition(".")
    if kind == "c_headers":
        return dot + ending in _HEADERS
    if ending == "py":
        return not (stem.startswith("test_") or stem.endswith(("_test", "_tests", "_pb2")))
    return kind == "python_docs" and (dot + ending in _PROSE or last == "metadata")


def _python_files(kind: str) -> Iterator[EmbeddedFile]:
    root = sysconfig.get_paths()["include" if kind == "c_headers" else "stdlib"]
    for folder, below, names in os.walk(root):
        inside = Path(folder).relative_to(root).as_posix().removeprefix(".")
        below[:] = [name for name in below if name not in ("site-packages", "dist-packages")]
        for last in names:
            name = f"{inside}/{last}".removeprefix("/")
            if _wanted(kind, name):
                yield EmbeddedFile(_PYTHON, name, Path(folder, last))


def _distribution_files(
    kind: str, name: str, distribution: importlib.metadata.Distribution
) -> Iterator[EmbeddedFile]:
    for file in distribution.files or []:
        if _wanted(kind, str(file)):
            path = Path(str(file.locate()))
            if path.is_file():
                yield EmbeddedFile(name, file.as_posix(), path)


def _arrow() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(_ARROW)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            "most of all C headers here are Arrow's, which the extra brings: pip install "
            "'replay-jax[quickstart]', or name others, such as path='python,numpy'"
        ) from error


@functools.cache
def _required_distributions() -> dict[str, importlib.metadata.Distribution]:
    """Everything replay-jax requires, directly or not, without extras; not replay-jax itself."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [_ROOT]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            if name == _ROOT:
                raise UserError(
                    "embedded text is chosen by what replay-jax requires, but replay-jax is not "
                    "installed; run `pip install -e .` in its checkout"
                ) from error
            continue
        for line in found[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    del found[_ROOT]
    return found
