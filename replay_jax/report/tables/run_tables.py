"""Tables of what was run: ledgers, time, every run, settings, versions and fingerprints."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.analysis.runs.records import MISSING, find
from replay_jax.analysis.study.selection import Records, records_of
from replay_jax.analysis.study.study import TargetStudy
from replay_jax.report.elements.blocks import Code, Column, Line, Note, Table
from replay_jax.report.elements.inputs import PlanSummary, TimeRow
from replay_jax.report.elements.picks import Picks, focus
from replay_jax.report.elements.words import NONE, count, number, seconds, share

Record = Mapping[str, Any]
RIGHT = "right"


def ledger_tables(study: TargetStudy, shown: Picks, records: Records) -> tuple[Table, ...]:
    """Ledgers of two runs: the schedule that is answered for, and what it is compared with."""
    pick = focus(study, shown)
    if pick is None:
        return ()
    tables = []
    for words, cell in (
        ("The schedule that replays", pick.best),
        ("What it is compared with", pick.rival),
    ):
        if cell is not None:
            tables.append(ledger_table(records_of(cell, records)[0], words, study.target))
    return tuple(tables)


def ledger_table(record: Record, words: str, target: str | None) -> Table:
    """The ledger of one run: what each stage drew, and what was asked for."""
    ledger = record["ledger"]
    spans = [(stage["name"], stage["entries"]) for stage in ledger["stages"]]
    spans.append(("whole run", ledger["totals"]))
    rows = []
    for name, entries in spans:
        for entry in entries:
            whole = name == "whole run"
            if entry["sequences"] or whole:
                figures = ("sequences", "tokens", "unique", "repeated")
                rows.append(
                    Line(
                        (name, entry["source"], *(number(entry[key]) for key in figures),
                         number(entry["epochs"], ",.4g"),
                         number(entry["first_row"]), number(entry["last_row"])),
                        strong=whole,
                    )
                )  # fmt: skip
    titles = ("sequences", "tokens", "unique", "repeated", "epochs", "first row", "last row")
    return Table(
        title=f"{words}: {record['name']}",
        columns=(Column("stage"), Column("source"), *(Column(title, RIGHT) for title in titles)),
        rows=tuple(rows),
        words=_requests(ledger["requested"], ledger["realised"]),
        target=target,
    )


def _requests(requested: Mapping[str, Any], realised: Mapping[str, Any] | None) -> str:
    names = {
        "replay_fraction": "ρ",
        "stage2_allocation": "α",
        "stage2_steps": "stage-2 steps",
        "target_epochs": "target epochs",
    }
    if realised is None:
        return "Stages were not counted apart."
    parts = [
        f"{words} {number(realised[key])}"
        + (" (not asked for)" if requested[key] is None else f" (asked for {requested[key]:g})")
        for key, words in names.items()
    ]
    return "Realised: " + ", ".join(parts) + "."


def time_table(rows: Sequence[TimeRow]) -> Table:
    """Where the time went, and the share of it that was no training."""
    total = sum(row.seconds for row in rows)
    overhead = sum(row.seconds for row in rows if row.overhead)
    lines = [
        Line((row.work, seconds(row.seconds), share(row.seconds / total if total else None)))
        for row in rows
    ]
    lines.append(
        Line(
            (
                "all that is not a train step",
                seconds(overhead),
                share(overhead / total if total else None),
            ),
            strong=True,
        )
    )
    lines.append(Line(("total", seconds(total), share(1.0 if total else None)), strong=True))
    return Table(
        title="By kind of work",
        columns=(Column("work"), Column("time", RIGHT), Column("share", RIGHT)),
        rows=tuple(lines),
    )


def runs_table(records: Sequence[Record]) -> Table:
    """Every finished run with its two held-out losses and its share of the time."""
    return Table(
        title=f"All {count(len(records), 'finished run')}",
        columns=(
            Column("run"),
            Column("id"),
            Column("seed", RIGHT),
            Column("target loss", RIGHT),
            Column("generic loss", RIGHT),
            Column("target bits per byte", RIGHT),
            Column("time", RIGHT),
        ),
        rows=tuple(
            Line(
                (
                    str(record["name"]),
                    str(record["id"]),
                    str(record["seed"]),
                    number(record["losses"]["target"], ".4f"),
                    number(record["losses"]["generic"], ".4f"),
                    number(record["bits_per_byte"]["target"], ".4f"),
                    seconds(record["seconds"]),
                )
            )
            for record in records
        ),
        words="Losses in nats per token. Time that runs share counts for each in equal parts.",
        folded=True,
    )


def generic_sources_table(records: Sequence[Record]) -> Table | None:
    """Held-out losses of every source of a mixture of generic data; None without a mixture."""
    lines = [
        Line(
            (
                str(record["name"]),
                str(record["seed"]),
                source,
                share(found["share"]),
                number(found["loss"], ".4f"),
                number(found["bits_per_byte"], ".4f"),
            )
        )
        for record in records
        if "generic_sources" in record
        for source, found in record["generic_sources"].items()
    ]
    if not lines:
        return None
    return Table(
        title="Held-out losses of every generic source",
        columns=(
            Column("run"),
            Column("seed", RIGHT),
            Column("source"),
            Column("weight", RIGHT),
            Column("loss", RIGHT),
            Column("bits per byte", RIGHT),
        ),
        rows=tuple(lines),
        words="Nats per token. The generic loss is their mean by weight.",
        folded=True,
    )


def model_note(records: Sequence[Record]) -> Note:
    """The models that were trained, their parameters split into body, embedding and head."""
    models = {json.dumps(record["model"], sort_keys=True): record["model"] for record in records}
    lines = [
        f"{model['name']}: {count(model['total'], 'parameter')} ({model['body']:,} in the body, "
        f"{model['embedding']:,} in the embedding, {model['head']:,} in the head)"
        for model in models.values()
    ]
    held_out = {
        (r["target"], r["generic"]): (r["loss_tokens"]["target"], r["loss_tokens"]["generic"])
        for r in records
    }
    judged = "; ".join(
        f"{target} on {own:,} and {generic} on {other:,} held-out tokens"
        for (target, generic), (own, other) in held_out.items()
    )
    return Note(f"Model: {'; '.join(lines)}. Judged: {judged}.")


def settings_table(records: Sequence[Record]) -> Table:
    """What the sweep varied, and the values that finished runs have, given to them or not."""
    keys = dict.fromkeys(key for record in records for key in record["overrides"])
    varied = {key: dict.fromkeys(_setting(record, key) for record in records) for key in keys}
    return Table(
        title="What was varied",
        columns=(Column("setting"), Column("values", "left wrap")),
        rows=tuple(Line((key, ", ".join(values))) for key, values in varied.items()),
    )


def _setting(record: Record, key: str) -> str:
    """A setting in words; of a table of values without a name that it is the configured one."""
    value = find(record, key)
    if isinstance(value, Mapping | list | tuple):
        return "as configured"
    return NONE if value is MISSING else _plain(value)


def configuration(records: Sequence[Record]) -> tuple[Note, Code]:
    """The full configuration of the first run, which the varied settings change."""
    first = records[0]
    return (
        Note(
            f"Below is the configuration of the run '{first['name']}'. The others differ from it "
            "in what was varied; every run's own is in results.jsonl."
        ),
        Code(
            json.dumps(first["config"], indent=2, ensure_ascii=False), folded="Full configuration"
        ),
    )


def versions_table(records: Sequence[Record], plan: PlanSummary) -> Table:
    """Versions, machine, fingerprints of the data and of the held-out sets."""
    rows: list[tuple[str, str]] = []
    for package in records[0]["versions"]:
        found = dict.fromkeys(str(record["versions"][package]) for record in records)
        rows.append((package, " and ".join(found)))
    rows += [(kind, words) for kind, words in plan.machine.items()]
    rows += [(f"data: {source}", mark) for source, mark in plan.fingerprints.items()]
    sets = dict.fromkeys((str(r["target"]), str(r["evaluation"])) for r in records)
    rows += [(f"held-out sets: {target}", mark) for target, mark in sets]
    rows += _starts_and_tasks(records)
    return Table(
        title="Versions and fingerprints",
        columns=(Column("what"), Column("value", "left wrap")),
        rows=tuple(Line(row) for row in rows),
    )


def _starts_and_tasks(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Fingerprints of the models started from and of tasks; earlier versions had neither."""
    found: dict[str, str] = {}
    for record in records:
        start = record["initial_weights"] if "initial_weights" in record else None
        if start is not None:
            found[f"initial weights: {start['name']}"] = start["fingerprint"]
        if "tasks" in record:
            found |= {f"task: {name}": task["digest"] for name, task in record["tasks"].items()}
    return list(found.items())


def _plain(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:g}" if isinstance(value, float) else str(value)
