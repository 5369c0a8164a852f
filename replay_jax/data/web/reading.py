"""Files of web records, as turns: JSON lines or one JSON list, WebLINX's or Mind2Web's."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replay_jax.data.sources.files import read_objects
from replay_jax.data.web.mind2web import mind2web_turns
from replay_jax.data.web.turn import MIND2WEB, SPLITS, WEBLINX, WebTurn
from replay_jax.data.web.weblinx import weblinx_turn
from replay_jax.errors import UserError
from replay_jax.strict import nearest


def read_turns(paths: Sequence[str | Path]) -> list[WebTurn]:
    """The turns of all files in their order.

    A record's split is its field `split`, else the one that its file is named after
    (`test_web.json.gz`, `train_0.json`).

    Raises:
        UserError: a file or record that cannot be read (with file and line), no split or an unknown
            one, a turn that comes twice, or no turn at all.
    """
    found: dict[tuple[str, int], WebTurn] = {}
    for path in paths:
        place = Path(path).expanduser()
        for where, record in read_objects(place, "records"):
            try:
                turns = _turns(record, where, place)
            except UserError as error:
                raise UserError(f"{where}: {error}") from error
            for turn in turns:
                if turn.key in found:
                    raise UserError(
                        f"{where}: turn {turn.turn} of {turn.demo!r} is also in "
                        f"{found[turn.key].where}"
                    )
                found[turn.key] = turn
    return list(found.values())


def _turns(record: dict[str, Any], where: str, path: Path) -> list[WebTurn]:
    data_set = MIND2WEB if "confirmed_task" in record else WEBLINX
    split = _split(record, path, SPLITS[data_set])
    if data_set == MIND2WEB:
        return mind2web_turns(record, where, split)
    return [weblinx_turn(record, where, split)]


def _split(record: dict[str, Any], path: Path, known: Sequence[str]) -> str:
    if "split" in record:
        split = record["split"]
        if split not in known:
            raise UserError(f"split {split!r} is none: {nearest(str(split), known)}")
        return str(split)
    name = re.sub(r"_\d+$", "", path.name.split(".")[0])
    if name not in known:
        raise UserError(
            f"no field 'split', and the file is not named after one ({', '.join(known)})"
        )
    return name
