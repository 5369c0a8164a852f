"""Damage: bytes flipped, cut, doubled and spliced; odd values of JSON where others stood."""

import json
import random
from typing import Any

# Values that readers of JSON meet sooner or later; text, as `json` cannot write all of them.
_ODD = (
    b"null", b"true", b"false", b"0", b"-1", b"1", b"0.5", b"-0.0", b"1e999", b"-1e999", b"NaN",
    b"Infinity", b"1e-320", b"9223372036854775808", b"18446744073709551616", b"4294967295",
    b"1" + b"0" * 400, b'""', b'"text"', b'"\\ud800"', b'"\\u0000"', b'"../../etc"', b"[]", b"{}",
    b"[[]]", b"[null]", b"[1]", b'{"": 0}', b'[{"text": 1}]', b'"' + b"x" * 3000 + b'"',
    b"[" * 3000, b'{"a":' * 3000, b"[" * 200 + b"]" * 200, "\N{EARTH GLOBE EUROPE-AFRICA}".encode(),
    b"nan", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n\n", b"\x00",
)  # fmt: skip
_MOST_BYTES = 1 << 20


def mutated(valid: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """One to four kinds of damage, drawn, on a valid input; sometimes spliced with another."""
    data = valid
    if chance.random() < 0.5:
        data = _odd_json(data, chance)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4)) or (data == valid)):
        data = chance.choice((_flip, _flip, _cut, _double, _drop, _insert, _splice))(
            data, others, chance
        )
    return data[:_MOST_BYTES]


def _flip(data: bytes, _: list[bytes], chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _each in range(chance.choice((1, 1, 2, 8)) if data else 0):
        at = chance.randrange(len(data))
        changed[at] = chance.choice(
            (changed[at] ^ (1 << chance.randrange(8)), chance.randrange(256))
        )
    return bytes(changed)


def _cut(data: bytes, _: list[bytes], chance: random.Random) -> bytes:
    return data[: chance.randint(0, len(data))]


def _double(data: bytes, _: list[bytes], chance: random.Random) -> bytes:
    start, stop = _range(data, chance)
    return data[:stop] + data[start:stop] * chance.choice((1, 2, 16)) + data[stop:]


def _drop(data: bytes, _: list[bytes], chance: random.Random) -> bytes:
    start, stop = _range(data, chance)
    return data[:start] + data[stop:]


def _insert(data: bytes, _: list[bytes], chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.choice((*_ODD, chance.randbytes(chance.randint(1, 9)))) + data[at:]


def _splice(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    other = chance.choice(others)
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def _range(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.choice((1, 2, 8, 64, 512)))


def _odd_json(data: bytes, chance: random.Random) -> bytes:
    """One place of a JSON document, or of one of its lines, has another value or none.

    Data that are no JSON stay as they are.
    """
    lines = data.split(b"\n")
    number = chance.randrange(len(lines))
    whole = chance.random() < 0.5 or len(lines) == 1
    try:
        value = json.loads(data if whole else lines[number])
    except (ValueError, RecursionError):
        return data
    # A mark that no input has takes the place, and the text that is odd takes the mark's.
    mark = "\x1fodd\x1f"
    if chance.random() < 0.1:
        text = chance.choice(_ODD)
    else:
        text = json.dumps(_replaced(value, mark, chance)).encode()
        text = text.replace(json.dumps(mark).encode(), chance.choice(_ODD))
    if whole:
        return text
    lines[number] = text
    return b"\n".join(lines)


def _replaced(value: Any, mark: str, chance: random.Random) -> Any:
    """A nested value in which one place, drawn on the way down, is the mark, renamed or gone."""
    if not value or not isinstance(value, dict | list) or chance.random() < 0.15:
        return mark
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [_replaced(v, mark, chance) if n == at else v for n, v in enumerate(value)]
    name = chance.choice(list(value))
    fate = chance.random()
    if fate < 0.1:
        return {key: item for key, item in value.items() if key != name}
    if fate < 0.15:
        return {(mark if key == name else key): item for key, item in value.items()}
    return {k: _replaced(v, mark, chance) if k == name else v for k, v in value.items()}
