"""`export --push`: what is put on the hub, which has a stand-in, and what is said otherwise."""

import json

import huggingface_hub
import pytest
from places import ROOT

from replay_jax.commands.main import main
from replay_jax.errors import UserError
from replay_jax.hub.pushing import check_push, model_card, push

RECORD = json.loads((ROOT / "experiments/quickstart/results.jsonl").open().readline())


class FakeHub:
    """The two calls of HfApi that an upload takes."""

    asked, fault = [], None

    def create_repo(self, repo_id, *, private, exist_ok):
        if self.fault:
            raise self.fault
        self.asked.append(("create", repo_id, private, exist_ok))
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        files = {path.name: path.read_text() for path in folder_path.iterdir()}
        self.asked.append(("upload", repo_id, files, commit_message))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "asked", [])
    return FakeHub


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "replay_jax.json").write_text(json.dumps({"run": RECORD}))
    return tmp_path


def test_a_folder_is_uploaded_with_its_record_as_the_card(hub, folder):
    assert push(folder, "org/model") == "https://huggingface.co/org/model"
    (create, upload) = hub.asked
    assert create == ("create", "org/model", True, True)
    assert upload[1] == "org/model" and RECORD["id"] in upload[3]
    assert upload[2]["README.md"] == model_card(RECORD, "org/model")
    assert upload[2].keys() == {"README.md", "replay_jax.json"}


def test_the_card_says_what_the_record_says():
    card = model_card(RECORD, "org/model")
    data = huggingface_hub.ModelCard(card).data
    assert (data.library_name, data.tags, data.base_model) == ("transformers", ["replay_jax"], None)
    assert f"Run `{RECORD['id']}`" in card and "320 steps from random weights" in card
    assert "| c_headers (target) | 4.2744 |" in card
    assert "| python_docs | 9,728 | 1,245,184 | 0.36 |" in card
    assert "| c_headers | 512 | 65,536 | 32 |" in card and "| jax | 0.10.2 |" in card
    tuned = {**RECORD, "initial_weights": {"name": "Qwen/Qwen3-0.6B", "fingerprint": "3f9c"}}
    card = model_card(tuned, "org/model")
    assert huggingface_hub.ModelCard(card).data.base_model == "Qwen/Qwen3-0.6B"
    assert "from `Qwen/Qwen3-0.6B` (3f9c)" in card


def test_what_is_in_the_way_is_one_sentence_before_anything_is_exported(monkeypatch, capsys):
    with pytest.raises(UserError, match="--push=model is no place on the hub"):
        check_push("model")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert main(["export", "nowhere", "best", "model", "--push=org/model"]) == 2
    assert capsys.readouterr().err == (
        "replay-jax: there is no token for the Hugging Face hub: run hf auth login, or set "
        "HF_TOKEN\n"
    )
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    check_push("org/model")


def test_a_hub_that_refuses_leaves_the_folder_and_the_next_command(hub, folder, monkeypatch):
    monkeypatch.setattr(hub, "fault", OSError("403 Forbidden\nmore"))
    with pytest.raises(UserError) as raised:
        push(folder, "org/model")
    assert str(raised.value) == (
        f"{folder} is written but not on the hub: 403 Forbidden; when that is mended, "
        f"hf upload org/model {folder}"
    )
    assert (folder / "README.md").exists() and hub.asked == []
