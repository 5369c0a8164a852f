"""The configs that come with the package, which can be run by name from anywhere."""

import ast
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def shipped_configs() -> dict[str, Path]:
    """Name and file of every config, sorted: of the installed package, or of the clone.

    One in a folder is named with it, "paper/headline".
    """
    installed, clone = _PACKAGE / "configs", _PACKAGE.parent / "configs"
    folder = installed if installed.is_dir() else clone
    found = sorted((*folder.glob("*.py"), *folder.glob("*/*.py")))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def summary(path: Path) -> str:
    """The first paragraph of a config's docstring, in one line; the file is not run."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())
