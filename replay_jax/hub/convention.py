"""The tokenizer of a model folder: whether data was made with it, and how its documents begin.

A model goes on only from tokens that it knows, so another tokenizer than the folder's own is
refused unless it is named; how documents begin and end is said where it differs. Free of JAX.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from replay_jax.data.tokens.tokenizer import Tokenizer, ids_fingerprint
from replay_jax.errors import UserError
from replay_jax.hub.folder import Pretrained, json_object

GENERATION_FILE = "generation_config.json"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
    GENERATION_FILE,
)  # fmt: skip
_SHOWN = 12  # digits of a fingerprint in messages


@dataclass(frozen=True)
class OwnTokenizer:
    """What a model folder says about its tokens.

    Attributes:
        fingerprint: of its `tokenizer.json` (`data.tokens.tokenizer.ids_fingerprint`).
        bos: the id that begins every text, and where the folder says so; None for none.
        eos: ids that end a text, none where the folder names none.
    """

    fingerprint: str
    bos: tuple[int, str] | None
    eos: frozenset[int]


def own_tokenizer(folder: Path) -> OwnTokenizer | None:
    """What a folder says; None without a `tokenizer.json`.

    Raises:
        UserError: a file of it cannot be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        model = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path} cannot be read as a tokenizer: {reason}") from error
    bos = _begins_by_itself(model) or _begins_as_told(folder, model)
    named = [_optional(folder / name) for name in ("config.json", GENERATION_FILE)]
    eos = [token_numbers(settings.get("eos_token_id")) for settings in named]
    return OwnTokenizer(ids_fingerprint(model), bos, frozenset().union(*eos))


def check_tokenizer(tokenizer: Tokenizer, pretrained: Pretrained, *, accepted: str) -> list[str]:
    """Warnings about the tokens that a pre-trained model is to go on from.

    Args:
        tokenizer: of the data.
        pretrained: the model.
        accepted: the beginning of the fingerprint of another tokenizer than the model's own, where
            that is meant; "" where it is not.

    Raises:
        UserError: the data has another tokenizer than the model's own, which is not accepted.
    """
    own = own_tokenizer(Path(pretrained.folder))
    if own is None:
        return [
            f"{pretrained.name} has no tokenizer.json, so nothing says whether data.tokenizer is "
            "its own"
        ]
    if tokenizer.ids_fingerprint == own.fingerprint:
        return _differences(tokenizer, own, pretrained.name)
    shown = tokenizer.ids_fingerprint[:_SHOWN]
    if len(accepted) >= _SHOWN and tokenizer.ids_fingerprint.startswith(accepted):
        return [f"{pretrained.name} goes on from tokens of another tokenizer, {shown}"]
    raise UserError(
        f"data.tokenizer is not the tokenizer of {pretrained.name}, so its tokens mean nothing to "
        f"it: use tokenizer('file', path='{pretrained.name}'), or set other_tokenizer to '{shown}' "
        "if that is meant"
    )


def stops(tokenizer: Tokenizer, told: Iterable[int]) -> list[int]:
    """Ids at which a model that was trained on these tokens has said all, without repetition.

    Those that are told, or else what ends documents, and what ends an answer in the chat template
    that conversations were trained with.
    """
    found = list(told) or [tokenizer.eos_id]
    if tokenizer.chat is not None and tokenizer.model is not None:
        with contextlib.suppress(UserError):  # it renders other conversations than the plainest
            end = tokenizer.model.token_to_id(tokenizer.chat.end_token)
            found += [] if end is None else [end]
    return list(dict.fromkeys(found))


def is_own(tokenizer: Tokenizer, folder: Path) -> bool:
    """Whether a folder's tokenizer gives the ids that a tokenizer gives."""
    own = own_tokenizer(folder)
    return own is not None and own.fingerprint == tokenizer.ids_fingerprint


def _differences(tokenizer: Tokenizer, own: OwnTokenizer, name: str) -> list[str]:
    """What is otherwise at the beginning and the end of documents, in words."""
    assert tokenizer.model is not None
    word = tokenizer.model.id_to_token
    found = []
    if own.bos is not None and own.bos[0] != tokenizer.bos_id:
        given = "''" if tokenizer.bos_id is None else repr(word(tokenizer.bos_id))
        found.append(
            f"texts of {name} begin with {word(own.bos[0])!r} ({own.bos[1]}) and "
            f"data.tokenizer.bos_token is {given}: set it to {word(own.bos[0])!r}"
        )
    if own.bos is None and tokenizer.bos_id is not None:
        found.append(
            f"the tokenizer of {name} begins no text with a token and data.tokenizer.bos_token is "
            f"{word(tokenizer.bos_id)!r}: set it to ''"
        )
    if own.eos and tokenizer.eos_id not in own.eos:
        ends = ", ".join(repr(word(token)) for token in sorted(own.eos))
        found.append(
            f"texts of {name} end with {ends} and data.tokenizer.eos_token is "
            f"{word(tokenizer.eos_id)!r}: set it to one of these"
        )
    return found


def _begins_by_itself(model: tokenizers.Tokenizer) -> tuple[int, str] | None:
    """The token that the tokenizer puts before a text when it adds special ones."""
    with_marks, plain = (model.encode("a", add_special_tokens=on).ids for on in (True, False))
    if len(with_marks) > len(plain) and with_marks[:1] != plain[:1]:
        return with_marks[0], "its tokenizer adds it"
    return None


def _begins_as_told(folder: Path, model: tokenizers.Tokenizer) -> tuple[int, str] | None:
    """The same by the settings beside the tokenizer."""
    settings = _optional(folder / "tokenizer_config.json")
    if settings.get("add_bos_token") is False or settings.get("bos_token", "") is None:
        return None
    token = settings.get("bos_token")
    text = token.get("content") if isinstance(token, Mapping) else token
    found = model.token_to_id(text) if isinstance(text, str) else None
    if settings.get("add_bos_token") is True and found is not None:
        return found, "add_bos_token of its tokenizer_config.json"
    ids = sorted(token_numbers(_optional(folder / "config.json").get("bos_token_id")))
    return (ids[0], "bos_token_id of its config.json") if ids else None


def token_numbers(value: Any) -> list[int]:
    """The ids of a setting that holds one, several or none."""
    values = value if isinstance(value, list) else [value]
    return [token for token in values if type(token) is int]


def _optional(path: Path) -> dict[str, Any]:
    """What a JSON file holds, nothing where there is none."""
    return json_object(path) if path.exists() else {}
