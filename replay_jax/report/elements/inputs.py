"""What a report needs beside the results: the plan, the time, and how to run it all again."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PlanSummary:
    """The sweep that the results belong to.

    Attributes:
        name: title of the report.
        question: what the study asks, in the words of its config file; may be empty. Further lines
            say what was changed, and where the runs come from.
        planned_runs: runs of the sweep.
        missing_runs: one line for each planned run without a result, with the reason if known.
        steps_alone: optimizer steps if every run were trained from its start, or None.
        steps_planned: optimizer steps with shared beginnings trained once, or None.
        fingerprints: source name to the fingerprint of its prepared data.
        machine: where it ran, in words by kind ("processor", "memory", …).
    """

    name: str
    question: str
    planned_runs: int
    missing_runs: tuple[str, ...]
    steps_alone: int | None
    steps_planned: int | None
    fingerprints: Mapping[str, str]
    machine: Mapping[str, str]


@dataclass(frozen=True)
class TimeRow:
    """Seconds spent on one kind of work; overhead is everything that is not a train step."""

    work: str
    seconds: float
    overhead: bool
