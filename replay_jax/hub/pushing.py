"""A model folder put on the Hugging Face hub, its record as the model card."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from replay_jax.errors import UserError
from replay_jax.hub.folder import RUN_FILE

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def check_push(name: str) -> None:
    """Before anything is exported: that a folder could be put there.

    Raises:
        UserError: `name` is no ORG/NAME, or there is no token for the hub.
    """
    from huggingface_hub import get_token

    if not _HUB_ID.fullmatch(name):
        raise UserError(f"--push={name} is no place on the hub: write --push=ORG/NAME")
    if get_token() is None:
        raise UserError(
            "there is no token for the Hugging Face hub: run hf auth login, or set HF_TOKEN"
        )


def push(folder: Path, name: str) -> str:
    """Upload a folder that `export` wrote, with its model card; a new repository is private.

    Args:
        folder: with `replay_jax.json`; its README.md is written.
        name: ORG/NAME.

    Returns:
        the address of the model.

    Raises:
        UserError: the hub refuses, or cannot be reached. The folder stays.
    """
    from huggingface_hub import HfApi

    record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["run"]
    (folder / "README.md").write_text(model_card(record, name), encoding="utf-8")
    hub = HfApi()
    try:
        place = hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(
            repo_id=name, folder_path=folder, commit_message=f"Run {record['id']} of replay_jax"
        )
    except Exception as error:  # the library raises its own, httpx's and OSError
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{folder} is written but not on the hub: {reason}; when that is mended, "
            f"hf upload {name} {folder}"
        ) from error
    return str(place)


def model_card(record: Mapping[str, Any], name: str) -> str:
    """README.md of a model: what it was trained on and how, in the words of its record.

    Args:
        record: of the run, as results.jsonl has it.
        name: of the model.
    """
    from huggingface_hub import ModelCardData

    start = record["initial_weights"]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["replay_jax"],
        base_model=start["name"] if start and _HUB_ID.fullmatch(start["name"]) else None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(_sections(record, name)) + "\n"


def _sections(record: Mapping[str, Any], name: str) -> Iterator[str]:
    start = record["initial_weights"]
    began = f"`{start['name']}` ({start['fingerprint']})" if start else "random weights"
    yield f"# {name.partition('/')[2]}\n"
    yield (
        f"Run `{record['id']}` of a sweep of replay_jax: "
        f"{record['total_steps']:,} steps from {began}, protocol `{record['protocol']}`, seed "
        f"{record['seed']}. All of its record is in `replay_jax.json`.\n"
    )
    yield from _table(("schedule", "value"), _schedule(record))
    yield from _table(("held out", "nats per token"), _losses(record))
    yield from _table(("source", "sequences", "tokens", "epochs"), _sources(record))
    yield from _table(("version", ""), record["versions"].items())


def _table(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(str(value) for value in row) + " |"
    yield ""


def _schedule(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "target data", record["target"]
    yield "generic data", str(record["generic"])
    yield "different target tokens", f"{record['target_tokens']:,}"
    for name in ("replay_fraction", "allocation"):
        if record[name] is not None and record[name]["realised"] is not None:
            yield name.replace("_", " "), f"{record[name]['realised']:g}"
    yield "peak learning rate", f"{record['learning_rate']:g}"
    yield "weight decay", f"{record['weight_decay']:g}"


def _losses(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for role, nats in record["losses"].items():
        yield f"{record[role]} ({role})", f"{nats:.4f}"
    for task, scores in record["tasks"].items():
        yield f"task {task}", f"accuracy {scores['accuracy']:.3f}"


def _sources(record: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for entry in record["ledger"]["totals"]:
        sizes = (f"{entry[name]:,}" for name in ("sequences", "tokens"))
        yield entry["source"], *sizes, f"{entry['epochs']:.3g}"
