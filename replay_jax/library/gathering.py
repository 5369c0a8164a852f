"""Working directories add up: all their finished runs, from whichever sweep, as one study."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from replay_jax.analysis.runs.records import (
    MISSING,
    AnalysisConfig,
    check_record,
    load_records,
    stored_analysis,
)
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.analysis.study.study import Study
from replay_jax.config.identity import NEUTRAL
from replay_jax.errors import UserError
from replay_jax.progress import step_by_step
from replay_jax.report.elements.words import count
from replay_jax.report.naming import named
from replay_jax.shape import Each, misshapen
from replay_jax.sweep.plan.naming import PRESET_NAMES
from replay_jax.sweep.store import shapes
from replay_jax.sweep.store.facts import read_object
from replay_jax.sweep.store.workdir import WorkStore

Record = dict[str, Any]
# Beside the sweep's facts, where it was carried out within a budget (`library/budgeted`).
BUDGET = "budget.json"
# Parts of a configuration that change no result: sweeps may differ in them and still compare.
_NO_MATTER = (
    "name", "seed", "data_seed", "execution", "logging", "checkpoint", "mesh", "analysis",
    "evaluation", "data.store_dir", "training.log_every", "training.evaluate_every",
)  # fmt: skip
_SOURCES = "data.sources."


@dataclass(frozen=True)
class Gathered:
    """Finished runs of one or several working directories.

    Attributes:
        study: their analysis, in which runs that a budget left out count as tried.
        records: those of the last sweep of the first directory first.
        plain: the same, with swept tables of values as they are and not by name.
        tried: runs that only chose settings, plain.
        sources: in words, one line for each sweep and what was left out.
        budgets: in words, how each study within a budget ended.
    """

    study: Study
    records: list[Record]
    plain: list[Record]
    tried: list[Record]
    sources: tuple[str, ...]
    budgets: tuple[str, ...]


def gather(workdirs: Sequence[epath.Path], *, early_stopping: bool = False) -> Gathered:
    """Read and analyse all finished runs of the directories.

    `early_stopping`: as if the sweeps had set `analysis.early_stopping`.

    Of the sweeps' analysis settings the first is taken, the last sweep's before others, whose
    reference curve has a law. Runs of a target that were judged on other held-out text than the
    last sweep's are left out, and said.

    Raises:
        UserError: no finished run, or records that cannot be compared.
    """
    found: dict[str, tuple[str, Record]] = {}
    budgets = [budget for workdir in workdirs if (budget := _budget(workdir)) is not None]
    words = tuple(str(budget["words"]) for budget in budgets)
    left_out: dict[str, Record] = {}
    for workdir in workdirs:
        budget = _budget(workdir)
        for record in _finished(workdir):
            if _is_compared(record, budget):
                found.setdefault(str(record["id"]), (str(workdir), record))
            elif budget is not None and record["id"] in budget["left_out"]:
                left_out[str(record["id"])] = record
    if not found:
        where = workdirs[0]
        raise UserError(f"no run of {where} has finished: see replay-jax status {where}")
    tried = [record for name, record in left_out.items() if name not in found]
    whole = gathered(list(found.values()), tried, early_stopping=early_stopping)
    return dataclasses.replace(whole, budgets=words)


def gathered(
    found: Sequence[tuple[str, Record]],
    tried: Sequence[Record] = (),
    *,
    early_stopping: bool = False,
) -> Gathered:
    """Analyse finished runs, each with the place that it is from; raises as `gather`.

    `tried` are runs that only chose settings, and are not compared.
    """
    judged: dict[str, str] = {}
    for _, record in found:
        judged.setdefault(str(record["target"]), str(record["evaluation"]))
    kept = [each for each in found if judged[each[1]["target"]] == each[1]["evaluation"]]
    beside = [r for r in tried if judged.get(str(r["target"])) == r["evaluation"]]
    sweeps = Counter((str(r["config"]["name"]), place) for place, r in kept)
    sources = [f"{count(n, 'run')} of {name} in {where}" for (name, where), n in sweeps.items()]
    if len(kept) < len(found):
        left = count(len(found) - len(kept), "run")
        sources.append(f"left out, judged on other held-out text: {left}")
    plain = _told_apart([*(record for _, record in kept), *beside])
    by_name, n = named(plain, PRESET_NAMES), len(kept)
    study = analysed(by_name[:n], by_name[n:], early_stopping=early_stopping)
    return Gathered(study, by_name[:n], plain[:n], plain[n:], tuple(sources), budgets=())


def _budget(workdir: epath.Path) -> dict[str, Any] | None:
    """What a study within a budget wrote of itself; None where the last sweep was a whole one."""
    return read_object(workdir / BUDGET, shapes.BUDGET)


def _is_compared(record: Record, budget: Mapping[str, Any] | None) -> bool:
    """All runs are; within a budget, those of the settings that it compares, once there are any.

    A setting that was tried on one seed, to choose another, could be the best by luck.
    """
    return budget is None or not budget["compared"] or record["id"] in budget["compared"]


def _finished(workdir: epath.Path) -> Iterator[Record]:
    """The last sweep's runs in their order, then those of earlier sweeps."""
    store, listed = WorkStore(workdir), set()
    last = workdir / "results.jsonl"
    if last.exists() and last.read_bytes().strip():
        for record in load_records(last):
            listed.add(str(record["id"]))
            yield record
    for name in step_by_step(sorted(store.finished_runs() - listed), "reading results"):
        earlier = store.result(name)
        if earlier is not None:
            check_record(earlier, str(store.result_path(name)))
            yield earlier


def analysed(
    records: Sequence[Record], tried: Sequence[Record] = (), *, early_stopping: bool = False
) -> Study:
    """The study of records by the analysis settings of the first whose reference has a law.

    `tried` are runs that are not compared.
    """
    configs: list[AnalysisConfig] = []
    for record in records:
        config = stored_analysis(_analysis_of(record))
        if early_stopping:
            config = dataclasses.replace(config, early_stopping=True)
        if config not in configs:
            configs.append(config)
    studies = [analyse_anyway(records, config, tried=tried) for config in configs]
    return max(studies, key=lambda study: sum(t.curve is not None for t in study.targets))


def _analysis_of(record: Record) -> Mapping[str, Any]:
    plain = record["config"]
    if wrong := misshapen(plain, {"name": str, "analysis": Each(object)}, "config"):
        raise UserError(f"run {record['name']} ({record['id']}) is no record of a run: {wrong}")
    return plain["analysis"]


def _told_apart(records: Sequence[Record]) -> list[Record]:
    """Records whose overrides also say in what the configurations of their sweeps differ."""
    if len({str(record["config"]["name"]) for record in records}) == 1:
        return list(records)
    flat = [_read_leaves(record) for record in records]
    swept = {key for record in records for key in record["overrides"]}
    differing = {}
    for key in dict.fromkeys(key for leaves in flat for key in leaves):
        if not any(_overlap(key, other) for other in swept) and not _is_no_matter(key):
            values = _values(key, flat)
            known = [value for value in values if value is not MISSING]
            some_lack = len(known) < len(values) and not key.startswith(_SOURCES)
            if some_lack or any(value != known[0] for value in known):
                differing[key] = values
    return [
        {**record, "overrides": {**record["overrides"], **_of_run(differing, number)}}
        for number, record in enumerate(records)
    ]


def _is_no_matter(key: str) -> bool:
    return any(key == part or key.startswith(part + ".") for part in _NO_MATTER)


def _of_run(values: Mapping[str, Sequence[Any]], number: int) -> dict[str, Any]:
    return {key: of[number] for key, of in values.items() if of[number] is not MISSING}


def _values(key: str, flat: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The values of all runs; a run of before there was such a field has what stands for none."""
    nothing = NEUTRAL.get(key, MISSING)
    if nothing is MISSING and not key.startswith(_SOURCES):
        having = (leaves[key] for leaves in flat if key in leaves)
        empty = (value for value in having if value in ("", [], None))
        nothing = next(empty, MISSING)
    return [leaves.get(key, nothing) for leaves in flat]


def _read_leaves(record: Record) -> dict[str, Any]:
    """A run's configuration by dotted key, without the sources that it does not draw from."""
    read = tuple(f"{_SOURCES}{entry['source']}." for entry in record["ledger"]["totals"])
    return {
        key: value
        for key, value in _leaves(record["config"])
        if key.startswith(read) or not key.startswith(_SOURCES)
    }


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _overlap(a: str, b: str) -> bool:
    return a == b or a.startswith(b + ".") or b.startswith(a + ".")
