"""Item by item what lm_eval's own Hugging Face back end says of the same folder.

Needs the extras `eval` and `bench`.
"""

import json

import numpy as np
import pytest
from tiny_texts import WORDS, write_folder, write_tasks

from replay_jax.commands.main import main
from replay_jax.errors import UserError
from replay_jax.library.evaluating import load_folder

pytest.importorskip("lm_eval", reason="needs pip install 'replay-jax[eval]'")
for name in ("torch", "transformers", "accelerate"):
    pytest.importorskip(name, reason="needs pip install 'replay-jax[bench]'")

from lm_eval.api.instance import Instance  # noqa: E402

from replay_jax.library.texts.harness import LoadedLM  # noqa: E402
from replay_jax.library.texts.harness_tasks import load_task  # noqa: E402

TEXT = " ".join(WORDS)
STOPS = {"until": ["e", " to"], "max_gen_toks": 24}


@pytest.fixture(scope="module", params=[True, False], ids=["begins", "plain"])
def both(request, tmp_path_factory):
    """Theirs and ours, of a tokenizer that begins texts with a token, and of one that does not."""
    from lm_eval.models.huggingface import HFLM

    folder = write_folder(tmp_path_factory.mktemp("models") / "tiny", begins=request.param)
    theirs = HFLM(str(folder), device="cpu", batch_size=2, dtype="float32")
    return theirs, LoadedLM(load_folder(str(folder)), batch_size=2, seed=0)


def ask(model, kind, *asked):
    return getattr(model, kind)([Instance(kind, {}, args, 0) for args in asked], disable_tqdm=True)


def test_likelihoods(both):
    asked = [
        ("to be or", " not"),
        ("to be or", " not to be"),
        ("to be or ", "not to be"),  # the space belongs to what is asked
        ("", "whether"),
        ("whether 'tis nobler", " in the mind"),
        (TEXT * 3, " to suffer"),  # more than the context holds
    ]
    theirs, ours = (ask(model, "loglikelihood", *asked) for model in both)
    assert [nats for nats, _ in ours] == pytest.approx([nats for nats, _ in theirs], abs=2e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    # What each would say itself is greedy to both.
    said = ask(both[0], "generate_until", ("to be or", {"until": [], "max_gen_toks": 3}))[0]
    greedy = [ask(model, "loglikelihood", ("to be or", said))[0][1] for model in both]
    assert greedy[0] == greedy[1]


def test_rolling_likelihoods(both):
    # Longer than the 64 positions: windows that share no token.
    asked = [(TEXT,), (TEXT * 4,), ("be",)]
    theirs, ours = (ask(model, "loglikelihood_rolling", *asked) for model in both)
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_what_is_said_until_a_stop(both):
    asked = [
        ("to be or not", STOPS),
        ("the mind to suffer", STOPS),
        ("whether", STOPS),
        (TEXT * 3, STOPS),  # cut at the left
        ("to be", {"until": [], "max_gen_toks": 12}),
        ("to be", {"until": "question", "max_gen_toks": 12, "do_sample": False}),
    ]
    theirs, ours = (ask(model, "generate_until", *asked) for model in both)
    assert ours == theirs
    assert any(ours)
    with pytest.raises(UserError, match="leave no room for a prompt in the 64 positions"):
        ask(both[1], "generate_until", ("to be", {"until": []}))
    with pytest.raises(UserError, match="generate with num_beams, which is not known"):
        ask(both[1], "generate_until", ("to be", {"num_beams": 2, "max_gen_toks": 4}))
    with pytest.raises(UserError, match="a temperature of 0 draws nothing"):
        ask(both[1], "generate_until", ("to be", {"do_sample": True, "temperature": 0.0}
                                        | {"max_gen_toks": 4}))  # fmt: skip


def test_chat_prompts_are_the_template_s(both):
    told = [{"role": "user", "content": "to be?"}]
    theirs, ours = both
    for history, asks in ((told, True), (told + [{"role": "assistant", "content": " not"}], False)):
        wanted = theirs.apply_chat_template(history, add_generation_prompt=asks)
        assert ours.apply_chat_template(history, add_generation_prompt=asks) == wanted
        assert ours.tok_encode(wanted) == theirs.tok_encode(wanted)


def test_tasks_score_alike_with_and_without_examples(both, tmp_path, capsys):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    theirs, ours = both
    folder = write_tasks(tmp_path / "tasks")
    names = ["tiny_choice", "tiny_words", "tiny_answer"]
    given = ["evaluate", ours.loaded.name, f"--tasks={','.join(names)}", f"--include={folder}"]
    assert main([*given, "--shots=1", f"--items={tmp_path / 'items.jsonl'}", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    wanted = simple_evaluate(
        theirs, tasks=names, num_fewshot=1,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
    )  # fmt: skip
    items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    for name in names:
        scores = {k: v for k, v in wanted["results"][name].items() if isinstance(v, float)}
        assert {k: said[name][k] for k in scores if "stderr" not in k} == pytest.approx(
            {k: v for k, v in scores.items() if "stderr" not in k}, rel=1e-4
        )
        assert said[name]["items"] == 4
        own = [item["resps"] for item in items if item["task"] == name]
        for mine, other in zip(own, wanted["samples"][name], strict=True):
            for ours_, theirs_ in zip(flat(mine), flat(other["resps"]), strict=True):
                assert ours_ == (
                    theirs_ if isinstance(theirs_, str) else pytest.approx(theirs_, abs=1e-3)
                )


def flat(value):
    """The numbers, truths and texts of nested lists."""
    if isinstance(value, list | tuple):
        return [each for part in value for each in flat(part)]
    return [float(value) if isinstance(value, bool | np.bool_) else value]


def test_a_task_that_there_is_not_is_refused_by_the_nearest_name(tmp_path):
    from lm_eval.tasks import TaskManager

    folder = write_tasks(tmp_path / "tasks")
    (folder / "bad.yaml").write_text("task: bad\ndataset_path: json\ndataset_kwargs: {}\n")
    ours = TaskManager(include_path=str(folder), include_defaults=False)
    with pytest.raises(UserError, match="no task 'tiny_choise'; the nearest is 'tiny_choice'"):
        load_task(ours, "tiny_choise")
    with pytest.raises(UserError, match="the task 'bad' cannot be had: "):
        load_task(ours, "bad")
    (found,) = load_task(ours, str(folder / "tiny_words.yaml"))
    assert found.task_name == "tiny_words"
