"""A tiny model folder with a tokenizer of its own, and tasks of lm_eval over files beside it."""

import dataclasses
import json

import jax
import numpy as np
import yaml
from tiny_training import MODEL, mesh_of
from tokenizers.processors import TemplateProcessing

from replay_jax.data.tokens.bpe_training import train_bpe
from replay_jax.data.tokens.config import TokenizerConfig
from replay_jax.data.tokens.tokenizer import load_tokenizer
from replay_jax.hub.export import write_model_folder
from replay_jax.training.step import abstract_state

BEGIN = "<|begin_of_text|>"
WORDS = ("to be or not to be, that is the question", "whether 'tis nobler in the mind to suffer")
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end_of_text|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def params_of(model):
    """Random parameters, every one of which matters; nothing is compiled for them."""
    random = np.random.default_rng(5)

    def draw(path, leaf):
        ones = path[-1].key == "scale" and not model.block.centred_norms
        return (ones + 0.3 * random.standard_normal(leaf.shape)).astype(np.float32)

    like = abstract_state(model, mesh_of(1, 1, 1)).params
    return jax.tree_util.tree_map_with_path(draw, like)


def write_folder(place, *, begins):
    """A model that repeats itself little; with `begins` its tokenizer adds a first token."""
    model = train_bpe([*WORDS] * 9, 300).model
    model.add_special_tokens([BEGIN])
    if begins:
        mark = (BEGIN, model.token_to_id(BEGIN))
        model.post_processor = TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[mark])
    file = place.parent / f"{place.name}.json"
    file.write_text(model.to_str())
    words = load_tokenizer(
        TokenizerConfig("file", path=str(file), bos_token=BEGIN if begins else "")
    )
    sizes = dataclasses.replace(MODEL, vocab_size=words.vocab_size)
    write_model_folder(place, params_of(sizes), sizes, words, dtype="float32", facts={})
    settings = json.loads((place / "tokenizer_config.json").read_text())
    settings["chat_template"] = TEMPLATE
    (place / "tokenizer_config.json").write_text(json.dumps(settings))
    return place


def write_tasks(place):
    """A choice, a perplexity and a generation; returns the folder."""
    place.mkdir()
    lines = [
        {"context": f"to be or not to {word}, that", "choices": [" is", " the mind", " to suffer"],
         "answer": number % 3}
        for number, word in enumerate(("be", "suffer", "mind", "question"))
    ]  # fmt: skip
    (place / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = {"test": str(place / "items.jsonl")}
    shared = {
        "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test",
        "doc_to_text": "{{context}}",
    }  # fmt: skip
    tasks = {
        "tiny_choice": {
            "output_type": "multiple_choice", "doc_to_choice": "{{choices}}",
            "doc_to_target": "answer", "fewshot_split": "test",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        },
        "tiny_words": {
            "output_type": "loglikelihood_rolling", "doc_to_text": "",
            "doc_to_target": "{{context}}", "metric_list": [{"metric": "word_perplexity"}],
        },
        "tiny_answer": {
            "output_type": "generate_until", "doc_to_target": "{{choices[0]}}",
            "generation_kwargs": {"until": ["e"], "max_gen_toks": 20},
            "metric_list": [{"metric": "exact_match"}],
        },
    }  # fmt: skip
    for name, task in tasks.items():
        (place / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **shared, **task}))
    return place
