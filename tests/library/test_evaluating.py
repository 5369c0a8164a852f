"""`evaluate`: the nats that a model folder gives to tokens are those of its softmax."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny_training import MODEL, drawn_parameters, mesh_of

from replay_jax.commands.main import main
from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.errors import UserError
from replay_jax.hub.export import write_model_folder
from replay_jax.library.evaluating import load_folder, row_nats, score
from replay_jax.model.decoder import build_transformer, head_kernel

TINY = dataclasses.replace(MODEL, num_layers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "tiny"
    params = jax.device_get(drawn_parameters(TINY, mesh_of(1, 1, 1), 3))
    write_model_folder(place, params, TINY, byte_tokenizer(), dtype="float32", facts={})
    return place, params


def test_nats_are_those_of_the_softmax_row_by_row(folder, tmp_path, capsys):
    place, params = folder
    tokens = np.random.default_rng(0).integers(0, TINY.vocab_size, (5, 9))
    model = build_transformer(TINY, platform="cpu")
    hidden = jax.jit(model.apply)({"params": params}, tokens[:, :-1])
    logits = np.asarray(hidden @ head_kernel(params), np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    wanted = -np.take_along_axis(log_p, tokens[:, 1:, None], -1)[..., 0].sum(1)
    # Five rows in batches of two: the last one is padded.
    assert row_nats(load_folder(str(place)), tokens, batch_size=2) == pytest.approx(
        wanted, rel=1e-5
    )
    np.save(tmp_path / "rows.npy", tokens.astype(np.uint16))
    given = ["evaluate", str(place), f"--tokens={tmp_path / 'rows.npy'}", "--json", "--batch=2"]
    assert main(given) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["nats"] and said["nats"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (np.zeros((2, 3)), "not float64 of shape"),
        (np.zeros(4, int), "rows x length"),
        (np.full((1, 3), 10**6), "were made by another tokenizer"),
        (np.zeros((1, TINY.max_seq_len + 2), int), "longer than the"),
    ],
)
def test_tokens_that_are_none_of_the_model_are_refused(folder, tokens, words):
    with pytest.raises(UserError, match=words):
        row_nats(load_folder(str(folder[0])), tokens)


def test_a_folder_without_a_tokenizer_takes_tokens_alone(folder, tmp_path, capsys):
    place, _ = folder
    with pytest.raises(UserError, match="has no tokenizer.json"):
        score(load_folder(str(place)), tmp_path / "task.jsonl")
    assert main(["evaluate", str(place)]) == 2
    assert "one of both" in capsys.readouterr().err
    (tmp_path / "rows.npy").write_bytes(b"no array")
    assert main(["evaluate", str(place), f"--tokens={tmp_path / 'rows.npy'}"]) == 2
    assert "is no .npy file of tokens" in capsys.readouterr().err
