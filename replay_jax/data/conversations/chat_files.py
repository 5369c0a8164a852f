"""The chat template of a tokenizer, from the files that lie beside it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replay_jax.data.conversations.chat import Chat
from replay_jax.data.conversations.marked import UnfitTemplate
from replay_jax.errors import UserError

_JINJA, _CONFIG, _MAP = "chat_template.jinja", "tokenizer_config.json", "special_tokens_map.json"
_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def read_chat(tokenizer: str, *, given: str, special: Sequence[str], download: bool) -> Chat:
    """The template of a tokenizer, in the forms in which `transformers` writes it.

    Args:
        tokenizer: file or folder of it, or an id of the hub; "" for one that has no files.
        given: file of a template to take in place of the tokenizer's own; "" for none.
        special: texts of its special tokens.
        download: whether files of the hub may be fetched.

    Raises UserError where there is no template, or it cannot be read.
    """
    config, named = (
        _object(_beside(tokenizer, name, download=download)) for name in (_CONFIG, _MAP)
    )
    if given:
        template: str | None = _text(Path(given).expanduser())
    else:
        template = _own_template(_beside(tokenizer, _JINJA, download=download), config)
    if template is None:
        raise UserError(
            f"tokenizer {tokenizer!r} has no chat template (neither {_JINJA} nor a chat_template "
            f"in {_CONFIG}): put {_JINJA} beside it, or set tokenizer.chat_template to the file of "
            "one"
        )
    named = {**named, **config}
    tokens = []
    for token in (f"{each}_token" for each in _NAMES):
        value = named[token] if token in named else None
        text = value["content"] if isinstance(value, dict) and "content" in value else value
        if isinstance(text, str):
            tokens.append((token, text))
    chat = Chat(template, tuple(tokens), tuple(special))
    try:
        chat.check()
    except UnfitTemplate as error:
        raise UnfitTemplate(f"{given or tokenizer}: {error}") from error
    return chat


def of_the_hub(name: str, file: str, *, download: bool) -> str:
    """The path of a file of a model of the hub; raises what the library raises."""
    from huggingface_hub import hf_hub_download

    return hf_hub_download(name, file, local_files_only=not download)


def _beside(tokenizer: str, name: str, *, download: bool) -> Path | None:
    """A file that lies beside a tokenizer's; None where there is none."""
    place = Path(tokenizer).expanduser()
    if not tokenizer or place.exists():
        found = (place if place.is_dir() else place.parent) / name
        return found if tokenizer and found.is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(of_the_hub(tokenizer, name, download=download))
    except LocalEntryNotFoundError as error:
        # Out of reach; the cache may know that there is none, and must not be guessed to.
        if try_to_load_from_cache(tokenizer, name) is None:
            raise UserError(
                f"{name} of {tokenizer!r} is not in the hub's cache: run replay-jax prepare where "
                "the hub can be reached"
            ) from error
        return None
    except EntryNotFoundError:
        return None
    except Exception as error:  # the library raises a dozen unrelated types here
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{name} of {tokenizer!r} cannot be had: {reason}") from error


def _own_template(jinja: Path | None, config: dict[str, Any]) -> str | None:
    if jinja is not None:
        return _text(jinja)
    found = config["chat_template"] if "chat_template" in config else None
    if isinstance(found, list):  # several by name
        wanted = [e for e in found if isinstance(e, dict) and {"name", "template"} <= e.keys()]
        by_name = {each["name"]: each["template"] for each in wanted}
        found = by_name["default"] if "default" in by_name else None
    return found if isinstance(found, str) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"the chat template {path} cannot be read: {error}") from error


def _object(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds {type(found).__name__}, not a JSON object")
    return found
