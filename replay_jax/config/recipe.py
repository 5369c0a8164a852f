"""A config file: one `get_config()` and one `sweep()`, read strictly.

`get_config()` returns a complete `ConfigDict`; `sweep()` returns a list of overrides (dotted key to
value), one per run. This is the only file that knows about config files and command-line overrides;
inside, there are only frozen dataclasses.
"""

import contextlib
import copy
import dataclasses
import difflib
import importlib.util
import inspect
import os
import re
import shlex
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from replay_jax.config.paper import own_source
from replay_jax.config.shipped import shipped_configs
from replay_jax.errors import UserError
from replay_jax.strict import literal, nearest

Overrides = Mapping[str, Any]
# Dictionaries whose names are the user's own: a new one may be given from outside.
_SOURCES = "data.sources"
_OPEN = (_SOURCES, "data.generic", "tasks", "training.loss_weights")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a config file asks for, with the command line's overrides applied.

    Attributes:
        name: the file's stem; decoration only, never identity.
        path: the file.
        question: the file's docstring.
        overrides: what was changed from outside, dotted key to value; applied in `base` already.
        base: the complete configuration as plain nested dicts, made with the overrides that the
            file takes as arguments and changed by the others.
        sweep: one mapping of overrides per run.
    """

    name: str
    path: Path
    question: str
    overrides: Overrides
    base: Mapping[str, Any]
    sweep: tuple[Overrides, ...]


def load_recipe(path: str | Path, overrides: Overrides = MappingProxyType({})) -> Recipe:
    """Read a config file and apply overrides to its base.

    A key that `get_config` or `sweep` names among its parameters, with "_" for ".", is given to
    the function (`def sweep(seeds=1)` takes `--config.seeds=3`); every other key is of the base.

    Examples:
        >>> replay_jax.load_recipe("configs/smoke.py", {"model.num_layers": 4})  # doctest: +SKIP

    Args:
        path: of a Python file with `get_config()` and `sweep()`, or the name of a config that
            comes with the package, such as "quickstart"; a file of that name comes first.
        overrides: dotted keys and their values, as `--config.key=value` gives them.

    Raises:
        UserError: no such file, no `get_config`/`sweep` in it, a key that does not exist, or an
            override of a key that the sweep varies.
    """
    path = _config_file(path)
    module = config_module(path)
    for name in ("get_config", "sweep"):
        if not callable(getattr(module, name, None)):
            raise UserError(f"{path} defines no {name}(): a config file needs get_config and sweep")
    with _one_sentence(path):
        config = _call(module.get_config, overrides)
        base = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
        sweep = tuple(dict(item) for item in _call(module.sweep, overrides))
    if not sweep:
        raise UserError(f"{path}: sweep() returned no runs; return [{{}}] for a single one")
    for key, value in overrides.items():
        if _takes(module.get_config, key) or _takes(module.sweep, key):
            continue
        if any(_overlap(key, axis) for item in sweep for axis in item):
            raise UserError(f"'{key}' is varied by the sweep of {path}: edit sweep() instead")
        base = override(base, key, value)
    for item in sweep:
        for key, value in item.items():
            override(base, key, value)
    question = (module.__doc__ or "").strip()
    return Recipe(path.stem, path, question, dict(overrides), base, sweep)


def _takes(function: Callable[..., Any], key: str) -> bool:
    return key.replace(".", "_") in inspect.signature(function).parameters


def _call(function: Callable[..., Any], overrides: Overrides) -> Any:
    """Call a function of a config file with those of the overrides that it takes."""
    return function(
        **{key.replace(".", "_"): v for key, v in overrides.items() if _takes(function, key)}
    )


def override(plain: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Nested dicts with the value at a dotted key replaced; the dicts on the way to it are copies.

    Tasks, sources, and weights by source have names of the user's own, so new ones are added; a
    source may be given as a path alone, its kind by the ending.

    Raises:
        UserError: the key does not exist; names the nearest that does.
    """
    result = dict(plain)
    node: Any = result
    *parents, last = key.split(".")
    for part in parents:
        if not isinstance(node, dict) or part not in node:
            raise UserError(f"unknown key '{key}': {nearest(key, _dotted(plain))}")
        if isinstance(node[part], dict):
            node[part] = dict(node[part])
        node = node[part]
    place = ".".join(parents)
    if not isinstance(node, dict) or (last not in node and place not in _OPEN):
        raise UserError(f"unknown key '{key}': {nearest(key, _dotted(plain))}")
    is_path = place == _SOURCES and isinstance(value, str)
    node[last] = own_source(value).to_dict() if is_path else copy.deepcopy(value)
    return result


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """`--config.a.b=value` arguments as a mapping; values are Python literals, else strings.

    Raises:
        UserError: an argument of another form.
    """
    found = {}
    for argument in arguments:
        match = re.fullmatch(r"--config\.([\w.-]+)=(.*)", argument, re.DOTALL)
        if match is None:
            raise UserError(
                f"cannot read argument '{argument}': overrides are written --config.key=value"
            )
        found[match[1]] = literal(match[2])
    return found


def _written(value: Any) -> str:
    """The text that `strict.literal` reads as this value."""
    return value if isinstance(value, str) and literal(value) == value else repr(value)


def command_line(command: str, recipe: Recipe) -> str:
    """The command that does this with a recipe, for a shell."""
    changes = (f"--config.{key}={_written(value)}" for key, value in recipe.overrides.items())
    names = {path: name for name, path in shipped_configs().items()}
    config = names.get(recipe.path, str(recipe.path))
    return shlex.join(["replay-jax", command, config, *changes])


def config_module(path: Path) -> Any:
    """Run a config file; a config that builds on another one gets it with this.

    Raises UserError if the file cannot be read.
    """
    spec = importlib.util.spec_from_file_location(f"replay_jax_recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _one_sentence(path):
        spec.loader.exec_module(module)
    return module


def _config_file(given: str | Path) -> Path:
    path, shipped = Path(os.path.expanduser(given)), shipped_configs()
    if path.is_file():
        return path
    if str(given) in shipped:
        return shipped[str(given)]
    here = path.with_name(f"{path.name}.py")
    if here.is_file():
        guess = f"did you mean the file '{here}'?"
    elif close := difflib.get_close_matches(path.stem, shipped, n=1, cutoff=0.5):
        guess = f"did you mean '{close[0]}'?"
    else:
        guess = "`replay-jax configs` lists them"
    raise UserError(f"no config file '{path}' and no shipped config of that name; {guess}")


@contextlib.contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Whatever goes wrong in a config file is the user's: one sentence, with the line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        words = str(error).strip().split("\n")[0]
        if dotted := re.search(r"dots in field names.* the key (\S+) contains", words):
            name = dotted[1].replace(".", "_")
            raise UserError(
                f"{where} names something '{dotted[1]}', but dots part the names of settings "
                f"(data.sources.NAME.path): call it '{name}'"
            ) from error
        raise UserError(f"{where} cannot be read: {type(error).__name__}: {words}") from error


def _overlap(a: str, b: str) -> bool:
    return a == b or a.startswith(b + ".") or b.startswith(a + ".")


def _dotted(plain: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in plain.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _dotted(value, prefix + key + ".")
