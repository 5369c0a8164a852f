"""A file of events for TensorBoard, written in the thread that calls.

tensorboardX's SummaryWriter has a thread and a queue of ten values: where the thread dies of a full
disk, whoever calls waits for ever. Here the error is the caller's.
"""

import importlib
import re
import time
from pathlib import Path
from typing import Any

_LONGEST_NAME = 100


class EventsFile:
    """Scalars by step; use it as a context manager.

    What older files of the folder say of steps from `start_step` + 1 on is not shown.
    """

    def __init__(self, folder: Path, *, start_step: int = 0) -> None:
        # Imported when used: it costs most of a second.
        self._events = importlib.import_module("tensorboardX.proto.event_pb2")
        self._summary = importlib.import_module("tensorboardX.summary")
        writer = importlib.import_module("tensorboardX.event_file_writer").EventsWriter
        self._file = writer(str(folder / "events"))
        log = self._events.SessionLog(status=self._events.SessionLog.START)
        self._file.write_event(
            self._events.Event(step=start_step + 1, wall_time=time.time(), session_log=log)
        )

    def __enter__(self) -> "EventsFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str, value: float, step: int) -> None:
        """Write one value; raises OSError where it cannot be."""
        self._add(self._summary.scalar(name, value), step)

    def add_text(self, name: str, text: str) -> None:
        """Write words about the whole run; raises OSError where they cannot be."""
        self._add(self._summary.text(name, text), 0)

    def _add(self, summary: Any, step: int) -> None:
        self._file.write_event(
            self._events.Event(step=step, wall_time=time.time(), summary=summary)
        )

    def flush(self) -> None:
        """Give what was written to the system."""
        self._file.flush()


def folder_name(name: str, id: str) -> str:
    """A folder that tells by its name what differs, and by its id which it is."""
    safe = re.sub(r"[^\w.=+-]+", "_", name)
    return f"{safe[:_LONGEST_NAME]}-{id}"
