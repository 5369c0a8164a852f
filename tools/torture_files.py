"""One file of a working directory, or of the stores, is damaged, and the command is given again."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from torture_arena import SWEEP, Arena, Wrong, agree, lacks_a_point, one_sentence

from replay_jax.config.experiment import resolve
from replay_jax.data.tokens.prepare import prepare
from replay_jax.errors import UserError
from replay_jax.sweep.results.verify import verify

_Damage = Callable[[bytes, random.Random], bytes | None]


def damaged_file(arena: Arena, chance: random.Random) -> str:
    """A file of a directory in mid-sweep: the sweep goes on to the same results, or names it."""
    workdir = arena.fresh() / "workdir"
    shutil.copytree(arena.folder / "short", workdir)
    _interrupted(workdir, chance)
    path, kind, how = _damaged(workdir, chance)
    names = [str(each) for each in (path, *path.parents) if workdir in each.parents]

    def again() -> str:
        outcome = arena.study.train(SWEEP, workdir, here=True, execution__keep_states=True)
        return "; ".join(outcome.failures)

    def delete(words: str) -> None:
        place = re.search(r"delete (\S+\.json)", words)
        Path(place[1] if place else path).unlink(missing_ok=True)

    said = _mended(again, names, delete)
    try:
        said += _verified(arena, workdir, again, path)
    except Wrong as error:
        # A measurement on the way whose state is gone is not made again (docs/sweeps.md).
        if kind != "evaluations/*.json" or not lacks_a_point(workdir, arena.short):
            raise Wrong(f"{kind} {how}: {error}") from error
        said += " but for a point of a curve"
    return f"{kind} {how}: {said}"


def damaged_store(arena: Arena, chance: random.Random) -> str:
    """A file of the stores: preparing and training give the same results, or name it."""
    stores = arena.folder / "stores"
    shutil.rmtree(stores)
    shutil.copytree(arena.folder / "stores.whole", stores)
    workdir = arena.fresh() / "workdir"
    shutil.copytree(arena.folder / "short", workdir)
    _interrupted(workdir, chance)
    path, kind, how = _damaged(stores, chance)
    names = [str(each) for each in (path, *path.parents) if stores in each.parents]

    def again() -> str:
        prepare(resolve(arena.study.config.to_dict()).data)
        outcome = arena.study.train(SWEEP, workdir, here=True, execution__keep_states=True)
        return "; ".join(outcome.failures)

    def delete(words: str) -> None:
        place = re.search(r"delete (\S+)", words)
        if place is None or stores not in Path(place[1]).parents:
            raise Wrong(f"{kind} {how} says not what to delete: {words}")
        shutil.rmtree(place[1], ignore_errors=True)

    said = _mended(again, names, delete)
    agree(workdir, arena.short)
    return f"{kind} {how}: {said}"


def _mended(again: Callable[[], str], names: list[str], mend: Callable[[str], None]) -> str:
    """Give the command again; where it refuses with a name, do what it says, twice at most."""
    for said in ("same", "refused, then same", "refused twice, then same"):
        try:
            words = again()
        except UserError as error:
            words = str(error)
        if not words:
            return said
        if not one_sentence(words, names):
            raise Wrong(f"a refusal that names no file of {names[:1]}: {words}")
        mend(words)
    raise Wrong(f"refuses again: {words}")


def _verified(arena: Arena, workdir: Path, again: Callable[[], str], path: Path) -> str:
    """`verify` may name a damaged file: after what it says to do, or without it, all is well."""
    try:
        differences = verify(workdir)[0]
    except UserError as error:
        differences = [str(error)]
    if not differences:
        agree(workdir, arena.short)
        return ""
    if not any(path.name in line or path.stem in line for line in differences):
        raise Wrong(f"{path}: verify says {differences}")
    places = re.findall(r"delete (\S+\.json)", "\n".join(differences))
    for place in places or [str(path)]:
        Path(place).unlink(missing_ok=True)
    again()
    if places and (left := verify(workdir)[0]):
        raise Wrong(f"{path}: after what verify said to do it says {left}")
    agree(workdir, arena.short)
    return ", verify names it"


def _interrupted(workdir: Path, chance: random.Random) -> None:
    """Take away what the end of one run left, as if it had not come there; maybe all records."""
    runs = [json.loads(path.read_text()) for path in sorted((workdir / "runs").glob("*.json"))]
    run = chance.choice(runs)
    end, branch = run["path"][-1]["digest"], run["path"][-2]["digest"]
    gone, digest = set(), end
    while digest != branch:
        gone.add(digest)
        segment = workdir / "segments" / f"{digest}.json"
        digest = json.loads(segment.read_text())["start"]["digest"]
        segment.unlink()
    for digest in gone:
        shutil.rmtree(workdir / "states" / digest, ignore_errors=True)
    for path in (workdir / "evaluations").glob("*.json"):
        if json.loads(path.read_text()).get("state") in gone:
            path.unlink()
    ids = [each["id"] for each in runs] if chance.random() < 0.5 else [run["id"]]
    for id in ids:
        (workdir / "results" / f"{id}.json").unlink()


def _damaged(root: Path, chance: random.Random) -> tuple[Path, str, str]:
    """Damage a file; returns which, of what kind, and how."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            kinds.setdefault(kind_of(path.relative_to(root)), []).append(path)
    kind = chance.choice(sorted(kinds))
    path = chance.choice(kinds[kind])
    how = chance.choice(sorted(_DAMAGES))
    content = _DAMAGES[how](path.read_bytes(), chance)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    return path, kind, how


def kind_of(path: Path) -> str:
    """A path with what is different in every directory replaced."""
    names = [re.sub(r"\d{10}\..*|[0-9a-f]{8,}|\d{6,}", "*", part) for part in path.parts]
    if names[0] in ("metrics", "tensorboard"):
        names[1] = "*"
    return "/".join(names)


def _bit(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _digit(content: bytes, chance: random.Random) -> bytes:
    """One digit is another: JSON stays JSON."""
    places = [n for n, byte in enumerate(content) if 48 <= byte < 58]
    changed = bytearray(content)
    if places:
        at = chance.choice(places)
        changed[at] = 48 + (changed[at] - 48 + chance.randrange(1, 10)) % 10
    return bytes(changed)


def _zeros(content: bytes, chance: random.Random) -> bytes:
    """As a power cut leaves a file whose blocks were not written."""
    start = chance.randrange(len(content) + 1)
    return content[:start] + bytes(len(content) - start)


_DAMAGES: dict[str, _Damage] = {
    "bit": _bit,
    "digit": _digit,
    "cut": lambda content, chance: content[: chance.randrange(len(content) + 1)],
    "empty": lambda content, chance: b"",
    "zeros": _zeros,
    "longer": lambda content, chance: content + chance.randbytes(chance.randrange(1, 40)),
    "gone": lambda content, chance: None,
}
