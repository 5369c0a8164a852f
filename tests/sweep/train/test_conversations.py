"""A sweep on conversations and replayed text, from records to a verified result."""

import json
import random

import numpy as np
import pytest
from chats import CHATML, chat, write_records
from rich.console import Console
from tiny_sweep import RHO, TinyStudy, make_study

from replay_jax.config.defaults import source, tokenizer
from replay_jax.config.experiment import resolve
from replay_jax.data.tokens.prepare import prepare
from replay_jax.errors import UserError
from replay_jax.library.plan_shown import supervised_shown
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.results.verify_data import verify_data

LENGTH = 96


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talk")
    config = make_study(folder).config
    words = random.Random(0)

    def said(count):
        return "".join(words.choices("stuv", k=count))

    talks = [chat(("user", said(12)), ("assistant", said(3 + n % 5))) for n in range(80)]
    write_records(folder / "talk.jsonl", talks)
    (folder / "chat.jinja").write_text(CHATML)
    config.data.sources.target = source(
        "conversations", str(folder / "talk.jsonl"), validation_fraction=0.2, max_tokens=LENGTH + 1
    )
    config.data.tokenizer = tokenizer("bytes", chat_template=str(folder / "chat.jinja"))
    config.model.max_seq_len = LENGTH
    config.training.update({"seq_len": LENGTH, "document_mask": True, "evaluate_every": 0})
    config.schedule.update({"total_steps": 4, "target_sequences": 8, "target_epochs": 1.0})
    config.evaluation.sequences = 4
    return TinyStudy(config, prepare(resolve(config.to_dict()).data, None))


def test_a_sweep_on_conversations(study, tmp_path):
    plan = study.plan([{RHO: 0.5}], None)
    assert study.train([{RHO: 0.5}], tmp_path / "work", here=True).results == 1
    (record,) = map(json.loads, (tmp_path / "work" / "results.jsonl").read_text().splitlines())
    counts = study.stores["target"].rows("train", LENGTH).supervised()
    by_name = {entry["source"]: entry for entry in record["ledger"]["totals"]}
    assert by_name["generic"]["supervised"] == by_name["generic"]["tokens"] == 24 * LENGTH
    drawn = plan.runs[0].ledger.totals[1]
    assert by_name["target"]["supervised"] == drawn.supervised < 8 * counts.max() + 1
    assert record["target_counted_tokens"] == plan.runs[0].views["target"].budget_labels
    assert record["target_counted_tokens"] == drawn.supervised  # one epoch
    assert record["loss_of_counted_labels"] == ["target"]
    held = study.stores["target"].rows("validation", LENGTH)
    assert 0 < record["loss_tokens"]["target"] <= held.supervised().sum()
    assert np.isfinite(record["losses"]["target"])
    assert verify(tmp_path / "work") == ([], 1)
    assert verify_data(tmp_path / "work").differences == []


def test_the_plan_says_the_targets_share_of_rows_and_of_the_loss(study):
    counts = study.stores["target"].rows("train", LENGTH).supervised()
    console = Console(record=True, width=200, quiet=False, file=open("/dev/null", "w"))
    by_tokens = study.plan([{RHO: 0.5}], None)
    by_rows = study.plan([{RHO: 0.5}], None, training__objective="rows")
    assert by_tokens.runs[0].id != by_rows.runs[0].id
    assert by_tokens.runs[0].loss_weights == {"generic": 1.0, "target": 1.0}
    weight = LENGTH / counts.mean()
    assert by_rows.runs[0].loss_weights == {"generic": 1.0, "target": pytest.approx(weight)}
    (tokens,), (rows,) = (p.to_json()["runs"] for p in (by_tokens, by_rows))
    target = by_tokens.runs[0].ledger.totals[1].supervised
    last = tokens["target_shares"]["stage 2"]
    assert last == {"rows": 0.5, "loss": pytest.approx(target / (target + 8 * LENGTH))}
    assert last["loss"] < 0.2 and rows["target_shares"]["stage 2"]["rows"] == 0.5
    # The rows drawn are not quite the average row.
    assert rows["target_shares"]["stage 2"]["loss"] == pytest.approx(0.5, abs=0.1)
    for shown in supervised_shown(by_tokens):
        console.print(shown)
    text = console.export_text()
    assert f"{target:,}" in text and f"{last['loss']:.4g}" in text
    assert "its share of tokens (training.objective)" in text
    assert "held-out losses of target are nats per label that counts" in text


def test_the_plan_folds_seeds_and_says_how_far_their_labels_differ(study):
    plan = study.plan(
        [{RHO: rho, "data_seed": seed} for rho in (0.5, 0.0) for seed in (1, 2)], None
    )
    table, _ = supervised_shown(plan)
    cells = {column.header: list(column.cells) for column in table.columns}
    stages = [len(plan.runs[0].ledger.stages), len(plan.runs[2].ledger.stages)]
    assert cells["seeds"] == ["2", *[""] * (stages[0] - 1), "2", *[""] * (stages[1] - 1)]
    assert "data_seed" not in cells
    budgets = sorted(run.views["target"].budget_labels for run in plan.runs[:2])
    assert budgets[0] < budgets[1]
    assert cells["in its\nbudget"][0] == f"{budgets[0]:,} to\n{budgets[1]:,}"
    assert cells["rho"] == ["0.5", *[""] * (stages[0] - 1), "0", *[""] * (stages[1] - 1)]


def test_rows_that_cannot_hold_conversations_or_would_mix_them(study):
    plain = study.config.to_dict()
    for change, said in (
        ({"seq_len": LENGTH - 1}, "has max_tokens 97, but a row holds training.seq_len"),
        ({"document_mask": False}, "set training.document_mask to True"),
        ({"objective": "loss"}, "training.objective is 'loss'; use one of tokens, rows"),
    ):
        with pytest.raises(UserError, match=said):
            resolve({**plain, "training": {**plain["training"], **change}})
