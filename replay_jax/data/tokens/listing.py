"""What a preparation is about: the parts of all sources, and their content as it gets known."""

from collections.abc import Sequence
from pathlib import Path

from replay_jax.data.sources.fingerprints import KnownPart, known_source, recalled_part
from replay_jax.data.sources.parts import SPLIT, Part, source_parts
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.sources.workers import Progress, ProgressCallback, processes_for, run_jobs
from replay_jax.data.tokens.config import DataConfig
from replay_jax.data.tokens.shards import PartJob, identify_part
from replay_jax.progress import stage

_NOT_SEEN = Part(SPLIT, (), 0, None, False, 0)
# Of each source, its parts: with their content where that is known.
Listed = dict[str, list[Part | KnownPart]]


def all_known(parts: Sequence[Part | KnownPart]) -> list[KnownPart] | None:
    """The parts, if the content of all is known."""
    known = [part for part in parts if isinstance(part, KnownPart)]
    return known if len(known) == len(parts) else None


def list_parts(source: SourceConfig, store_dir: Path, part_bytes: int) -> list[Part | KnownPart]:
    """The parts of a source, with what is remembered of them."""
    known = known_source(source, store_dir)
    if known is not None:
        return list(known)
    parts = source_parts(source, part_bytes)
    return [recalled_part(source, part, store_dir) or part for part in parts]


def remembered_parts(data: DataConfig) -> Listed:
    """The parts of all sources whose input is as it was last read."""
    listed: Listed = {}
    for name, source in data.sources:
        known = known_source(source, data.stores)
        listed[name] = [_NOT_SEEN] if known is None else list(known)
    return listed


def identify(
    data: DataConfig, listed: Listed, callback: ProgressCallback, processes: int | None
) -> None:
    """Hash what is not known, so that what is made already is found."""
    places = places_of(listed)
    jobs = [
        PartJob(name, dict(data.sources)[name], part, None, data.stores)
        for (name, part) in places
        if not isinstance(listed[name][places[name, part]], KnownPart)
    ]
    if not jobs:
        return
    progress = Progress("looking at the input", jobs, callback)
    count = processes or processes_for([job.part.bytes for job in jobs])
    with stage("looking at the input", sum(job.part.bytes for job in jobs)) as advance:
        for job, known in run_jobs(identify_part, jobs, processes=count, report=progress):
            listed[job.source][places[job.source, job.part]] = known
            progress.ended(job)
            advance(job.part.bytes)


def places_of(listed: Listed) -> dict[tuple[str, Part], int]:
    """Where each part of each source is in its list."""
    return {
        (name, part.part if isinstance(part, KnownPart) else part): number
        for name, parts in listed.items()
        for number, part in enumerate(parts)
    }
