"""The command `ship`: 0, 2 and 3 are verdicts, and no mistake has one of those codes."""

import json

import pytest
from etils import epath
from fake_records import GSM8K, FakeStudy, fake_records

from replay_jax.commands.main import main
from replay_jax.errors import UserError
from replay_jax.library.shipping import ship

STUDY = FakeStudy((GSM8K,), seeds=(0, 1, 2), candidate_budgets=(4096,), allocations=(1.0,))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = epath.Path(tmp_path_factory.mktemp("shipped"))
    records = fake_records(STUDY)
    for record in records:
        record["config"]["analysis"] = {
            "reference": {"protocol": "uniform"},
            "tuned": ["schedule.target_epochs"],
            "level": 0.9,
        }
        record["config"]["name"] = "fake"
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "results.jsonl").write_text(lines)
    return folder


def ran(workdir, capsys, *arguments):
    code = main(["ship", str(workdir), *arguments])
    return code, capsys.readouterr()


def test_three_verdicts_have_three_codes(workdir, capsys):
    code, shown = ran(workdir, capsys, "best", "--json")
    found = json.loads(shown.out)
    assert code == found["exit_code"] == 0 and found["verdict"] == "better"
    gain = found["gain_nats"]
    assert 0 < gain["low"] < gain["value"] < gain["high"] and found["baseline"] in found["sentence"]
    assert set(found["baseline_runs"]) < {
        json.loads(line)["id"] for line in (workdir / "results.jsonl").read_text().splitlines()
    }
    assert ran(workdir, capsys, "best", f"--margin={gain['value']}")[0] == 3
    code, shown = ran(workdir, capsys, "best", f"--margin={gain['high'] + 0.01}")
    assert code == 2 and shown.out.startswith("Worse: best") and shown.out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "best"], "no working directory"),
        (["{workdir}", "zzz"], "no run 'zzz'"),
        (["{workdir}", ""], "no run ''"),
        (["{workdir}", "best", "--target=none"], "no target 'none'"),
        (["{workdir}", "best", "--margin=nan"], "margin is nan"),
        (["{workdir}", "best", "--margn=1"], "unknown argument '--margn=1'"),
    ],
)
def test_a_mistake_is_no_verdict(workdir, capsys, arguments, words):
    assert main(["ship", *(a.format(workdir=workdir) for a in arguments)]) == 64
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["ship"], ["ship", "here", "best", "--margin=much"]])
def test_what_does_not_parse_is_no_verdict(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 64 and "usage:" in capsys.readouterr().err


def test_a_run_is_judged_by_its_own_setting(workdir):
    lines = (workdir / "results.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    best = ship(workdir, "best")
    own = {r["target_epochs"]: r for r in records if r["replay_fraction"]["requested"] == 0.5}
    assert len(own) > 1
    gains = {epochs: ship(workdir, r["id"]).comparison.gain.value for epochs, r in own.items()}
    assert (
        len(set(gains.values())) == len(gains) and max(gains.values()) <= best.comparison.gain.value
    )
    short = ship(workdir, next(iter(own.values()))["id"][:-1])
    assert short.run == next(iter(own.values()))["id"]
    with pytest.raises(UserError, match="is of target 'gsm8k'"):
        ship(workdir, short.run, target="other")


def test_a_run_without_replay_that_stands_alone_is_not_told_to_be_added(tmp_path):
    alone = fake_records(STUDY)
    kept = [
        record
        for record in alone
        if record["target_tokens"] == 4096
        and record["protocol"] == "two_stage"
        and record["allocation"]["requested"] == 1.0
    ]
    for record in kept:
        record["config"]["analysis"] = {
            "reference": {"replay_fraction": 0.0},
            "tuned": ["schedule.target_epochs"],
            "level": 0.9,
        }
    lines = "".join(json.dumps(record) + "\n" for record in kept)
    (tmp_path / "results.jsonl").write_text(lines)
    plain = next(r for r in kept if r["replay_fraction"]["requested"] == 0)
    with pytest.raises(UserError, match="no other schedule .* budget; ship a run that replays"):
        ship(epath.Path(tmp_path), plain["id"])
