"""Runs in a folder of TensorBoard: the last value of every scalar, hyperparameters, JSON texts.

The messages are tensorboardX's, which the trainer writes with; what they are framed in is a length,
its checksum, the bytes, their checksum (TensorFlow's TFRecord). TensorBoard's own reader does the
same but brings a web server and gRPC.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from etils import epath
from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.proto.types_pb2 import DT_DOUBLE, DT_FLOAT, DT_STRING
from tensorboardX.record_writer import masked_crc32c

from replay_jax.analysis.sources.logged import OWN_RECORD, Logged, flat, own_record
from replay_jax.errors import UserError

_START_INFO = "_hparams_/session_start_info"
_TEXT = "/text_summary"  # what writers of text append to its name
_NUMBERS = {DT_FLOAT: "<f4", DT_DOUBLE: "<f8"}


@dataclass
class _Events:
    """What a run's files say: (step, value) of every scalar in reading order, settings, texts."""

    scalars: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def drop_from(self, step: int) -> None:
        """A restart trains again from a step on: what was said of it before is void."""
        for name, points in self.scalars.items():
            self.scalars[name] = [point for point in points if point[0] < step]


def read_tensorboard(folder: epath.Path) -> tuple[Logged, ...]:
    """Every run below a folder: a folder with event files, and what is nested in it.

    Its name is its path from there, so that `a/version_0` and `b/version_0` are two.

    Raises:
        UserError: no event file, or one that is damaged. One that ends in the middle of a value,
            as the file of a run that goes on may, is read up to there.
    """
    runs: dict[str, _Events] = {}
    for place, files in _run_folders(folder):
        found = runs.setdefault(place, _Events())
        for file in files:
            _read(file, found)
    if not runs:
        raise UserError(f"{folder} has no event file of TensorBoard (…tfevents…) in it")
    return tuple(_logged(place or folder.name, found) for place, found in runs.items())


def _run_folders(root: epath.Path) -> Iterator[tuple[str, list[epath.Path]]]:
    """(run, its event files) by folder; a run is its path below the root, "" the root itself.

    Hyperparameters, and scalars drawn together, often lie in a folder within the run's.
    """

    def walk(folder: epath.Path, below: str, run: str) -> Iterator[tuple[str, list[epath.Path]]]:
        inside = sorted(folder.iterdir(), key=lambda path: path.name)
        files = [path for path in inside if "tfevents" in path.name and path.is_file()]
        own = run or (below if files else "")
        if files:
            yield own, files
        for path in inside:
            if path.is_dir():
                yield from walk(path, f"{below}/{path.name}" if below else path.name, own)

    if root.is_dir():
        yield from walk(root, "", "")


def _read(file: epath.Path, into: _Events) -> None:
    for payload, checksum in _framed(file):
        try:
            event = Event.FromString(payload)
            if event.session_log.status == SessionLog.START:
                into.drop_from(event.step)
            taken = [_take(value, event.step, into) for value in event.summary.value]
        except (DecodeError, ValueError) as error:  # or a tensor whose bytes are no numbers
            raise _damaged(file) from error
        # Pictures and the like are large, and nobody here reads them.
        if any(taken) and masked_crc32c(payload) != checksum:
            raise _damaged(file)


def _framed(file: epath.Path) -> Iterator[tuple[bytes, int]]:
    """Each message with its checksum, which is the caller's to hold against it."""
    with file.open("rb") as stream:
        while len(header := stream.read(12)) == 12:
            length, checksum = struct.unpack("<QI", header)
            if masked_crc32c(header[:8]) != checksum:
                raise _damaged(file)
            rest = stream.read(length + 4)
            if len(rest) < length + 4:
                return
            yield rest[:-4], struct.unpack("<I", rest[-4:])[0]


def _damaged(file: epath.Path) -> UserError:
    return UserError(f"{file} is damaged: leave it out, or copy it again from where it was written")


def _take(value: Any, step: int, into: _Events) -> bool:
    """Keep what is a scalar, a text or hyperparameters; returns whether it was one."""
    if value.tag == _START_INFO:
        content = value.metadata.plugin_data.content
        start = HParamsPluginData.FromString(content).session_start_info
        into.settings |= {name: _plain(found) for name, found in start.hparams.items()}
    elif value.HasField("simple_value"):
        into.scalars.setdefault(value.tag, []).append((step, value.simple_value))
    elif value.HasField("tensor") and value.tensor.dtype == DT_STRING:
        text = b"".join(value.tensor.string_val[:1]).decode("utf-8", "replace")
        into.texts[value.tag.removesuffix(_TEXT)] = text
    elif value.HasField("tensor") and value.tensor.dtype in _NUMBERS:
        numbers = _numbers(value.tensor)
        if len(numbers) != 1:
            return False
        into.scalars.setdefault(value.tag, []).append((step, float(numbers[0])))
    else:
        return False
    return True


def _numbers(tensor: Any) -> np.ndarray:
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, _NUMBERS[tensor.dtype])
    return np.array(tensor.float_val if tensor.dtype == DT_FLOAT else tensor.double_val)


def _plain(value: Any) -> float | str | bool | None:
    kind = value.WhichOneof("kind")
    return None if kind in (None, "null_value") else getattr(value, kind)


def _logged(name: str, found: _Events) -> Logged:
    record = None
    settings: dict[str, Any] = dict(flat(found.settings))
    for tag, text in found.texts.items():
        parsed = own_record(_unfenced(text))
        if tag == OWN_RECORD:
            record = parsed
        elif isinstance(parsed, Mapping):
            settings |= dict(flat(parsed))
    last = {tag: max(points, key=lambda p: p[0])[1] for tag, points in _last(found.scalars)}
    return Logged(name, settings, last, record)


def _last(
    scalars: Mapping[str, list[tuple[int, float]]],
) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """Scalars that have a value, the latest first: of one step's the latest counts."""
    return ((tag, points[::-1]) for tag, points in scalars.items() if points)


def _unfenced(text: str) -> str:
    """JSON that was written as a block of Markdown."""
    lines = [line for line in text.strip().splitlines() if not line.strip().startswith("```")]
    return "\n".join(lines)
