"""A tokenizer folder with ChatML, for a small model that is to learn conversations later.

    python tools/chat_tokenizer.py data/generic.jsonl.gz runs/practice_tokenizer --vocab_size=2048

A byte-level BPE of the documents that the same held-out share of a source of kind "jsonl" leaves,
the two tokens that ChatML puts around a turn, and its template. `<|im_end|>` ends documents too.
"""

import argparse
import sys
from pathlib import Path

from replay_jax.data.sources.documents import split_documents
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.bpe_training import sample_texts, train_bpe
from replay_jax.errors import UserError
from replay_jax.hub.whole import whole_folder, write_json

TURN_MARKS = ("<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SETTINGS = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": TURN_MARKS[1]}


def write_tokenizer(source: SourceConfig, folder: Path, *, vocab_size: int, most: int) -> int:
    """Write the folder; returns the tokens of the vocabulary. Raises UserError for bad input."""
    texts = (each.text for each in split_documents(source) if not each.held_out)
    model = train_bpe(sample_texts(texts, most).texts(), vocab_size).model
    assert model is not None
    model.add_special_tokens(list(TURN_MARKS))
    with whole_folder(folder) as partial:
        (partial / "tokenizer.json").write_text(model.to_str(), encoding="utf-8")
        write_json(partial / "tokenizer_config.json", SETTINGS)
        (partial / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    return int(model.get_vocab_size(with_added_tokens=True))


def main() -> int:
    """Train it; returns 2 for the user's mistakes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="JSON lines with a field text, or a glob")
    parser.add_argument("folder", type=Path, help="must not exist yet")
    parser.add_argument("--vocab_size", type=int, default=2048, help="without the two marks")
    parser.add_argument("--validation_fraction", type=float, default=0.02)
    parser.add_argument("--train_bytes", type=int, default=16 * 2**20)
    asked = parser.parse_args()
    try:
        source = SourceConfig("jsonl", asked.path, validation_fraction=asked.validation_fraction)
        size = write_tokenizer(
            source, asked.folder, vocab_size=asked.vocab_size, most=asked.train_bytes
        )
    except UserError as error:
        print(f"chat_tokenizer: {error}", file=sys.stderr)
        return 2
    print(f"{asked.folder}: {size:,} tokens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
