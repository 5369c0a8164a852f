"""Stores that say which tokens count: exact masks, whole documents, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from chats import CHATML, LOSING, MARKED, chat, chat_folder, write_records
from corpora import write_lines
from pyarrow import parquet
from token_files import write_npy

from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.stores.near_copies import document_ids
from replay_jax.data.tokens.config import DataConfig, TokenizerConfig
from replay_jax.data.tokens.prepare import find_stores, prepare
from replay_jax.data.tokens.store import TokenStore, check_store
from replay_jax.data.tokens.tokenizer import load_tokenizer
from replay_jax.errors import UserError

TURNS = [
    chat(("user", "hello"), ("assistant", "yes 😀größe")),
    chat(
        ("system", "there"), ("user", "what"), ("assistant", "no"), ("user", "it"),
        ("assistant", "😀"),
    ),
    {"conversations": [{"from": "human", "value": "is"}, {"from": "gpt", "value": "it is"}]},
    {"prompt": "question", "completion": "answer"},
]  # fmt: skip
HELD = [chat(("user", "held"), ("assistant", "out"))]


def data_of(folder: Path, chats: SourceConfig, template: str | None = MARKED) -> DataConfig:
    """A generic source of text and a target of conversations or records."""
    plain = write_lines(folder / "plain.jsonl", [f"text {i} hello" for i in range(60)])
    tokenizer = TokenizerConfig("file", str(chat_folder(folder / "tokenizer", template)))
    sources = (
        ("plain", SourceConfig("jsonl", str(plain), validation_fraction=0.2)),
        ("chat", chats),
    )
    return DataConfig(sources, tokenizer, str(folder / "stores"), "plain", "chat")


def records(folder: Path, found: list[dict], **changes: object) -> SourceConfig:
    values: dict = {"kind": "conversations", "max_tokens": 200, **changes}
    path, held = (
        str(write_records(folder / name, own))
        for name, own in (("chat.jsonl", found), ("held.jsonl", HELD))
    )
    return SourceConfig(path=path, validation_path=held, validation_fraction=0.0, **values)


def documents(store: TokenStore, split: str = "train") -> list[tuple[list[str], str]]:
    """Each document's tokens by name, and for each "1" where it counts."""
    columns = store.columns(split)
    model = store.tokenizer.model
    assert model is not None
    found, start = [], 0
    for end in store.documents(split).tolist():
        ids = columns.read(start, end).tolist()
        loss = "".join(map(str, columns.read(start, end, "loss").tolist()))
        found.append(([model.id_to_token(i) for i in ids], loss))
        start = end
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataConfig, TokenStore]:
    folder = tmp_path_factory.mktemp("chats")
    data = data_of(folder, records(folder, TURNS))
    return data, prepare(data)["chat"]


def test_worked_conversations_have_the_mask_that_was_worked_out(
    study: tuple[DataConfig, TokenStore],
) -> None:
    _, store = study
    first = documents(store)[0]
    turn = ["<|im_start|>", "user", "Ċ", "hello", "<|im_end|>", "Ċ"]
    turn += ["<|im_start|>", "assistant", "Ċ", "yes", "ĠðŁĺĢ", *"grÃ¶ÃŁe", "<|im_end|>", "Ċ"]
    assert first[0][:11] == ["<|endoftext|>", *turn[:10]]
    assert "".join(first[0][10:-2]) == "yesĠðŁĺĢgrÃ¶ÃŁe" and first[0][-2:] == turn[-2:]
    assert first[1] == "0" * 10 + "1" * (len(first[0]) - 11) + "0"
    assert [loss.count("1") > 0 for _, loss in documents(store)] == [True] * 4
    every = sum(loss.count("1") for _, loss in documents(store))
    assert store.manifest.supervised is not None and store.manifest.supervised["train"] == every
    assert check_store(store.path) == []
    # No end is added to what a chat template ended.
    assert first[0].count("<|endoftext|>") == 1


@pytest.mark.parametrize("template", [MARKED, CHATML])
def test_tokens_and_masks_are_those_of_transformers(tmp_path: Path, template: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra 'bench' is not installed")
    data = data_of(tmp_path, records(tmp_path, TURNS), template)
    store = prepare(data)["chat"]
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(data.tokenizer.path)
    messages = [
        *(record["messages"] for record in TURNS[:2]),
        chat(("user", "is"), ("assistant", "it is"))["messages"],
        chat(("user", "question"), ("assistant", "answer"))["messages"],
    ]
    for (tokens, loss), conversation in zip(documents(store), messages, strict=True):
        found = theirs.apply_chat_template(
            conversation, return_dict=True, return_assistant_tokens_mask=template == MARKED
        )
        assert theirs.convert_ids_to_tokens(found["input_ids"]) == tokens
        if template == MARKED:
            assert "".join(map(str, found["assistant_masks"])) == loss


def test_fields_of_records_that_count(tmp_path: Path) -> None:
    wanted = {"template": "what {q} is{a}\n", "loss_fields": ("a",), "kind": "jsonl"}
    rows = [{"q": "it", "a": " yes"}, {"q": "hello", "a": "😀"}]
    source = records(tmp_path, rows, **wanted)
    held = write_records(tmp_path / "held.jsonl", [{"q": "a", "a": "b"}])
    data = data_of(tmp_path, replace(source, validation_path=str(held)), None)
    (one, two) = documents(prepare(data)["chat"])
    assert one == (["what", "Ġit", "Ġis", "Ġyes", "Ċ", "<|endoftext|>"], "000100")
    # "is" and the space before it are one token; the answer's bytes are its own.
    assert two[0][-2:] == ["Ċ", "<|endoftext|>"] and two[1].strip("0") in ("1", "11", "111", "1111")
    ended = replace(source, template="what {q}{a}", validation_path=str(held))
    found = documents(prepare(replace(data, sources=(data.sources[0], ("chat", ended))))["chat"])
    # What ends with what counts has an end that counts; a token that begins before it counts too.
    assert found[0] == (["what", "Ġit", "Ġyes", "<|endoftext|>"], "0011")
    # One that begins within it and ends behind it does as well.
    path = write_records(tmp_path / "space.jsonl", [{"q": "hello", "a": " it "}])
    space = replace(ended, path=str(path), template="what {q}{a}yes")
    found = documents(prepare(replace(data, sources=(data.sources[0], ("chat", space))))["chat"])
    assert found[0] == (["what", "Ġhello", "Ġit", "Ġyes", "<|endoftext|>"], "00110")


def test_the_first_token_never_counts_and_masks_are_of_the_fingerprint(
    study: tuple[DataConfig, TokenStore], tmp_path: Path
) -> None:
    data = data_of(tmp_path, records(tmp_path, TURNS, loss_on="all"))
    every, answers = prepare(data)["chat"], study[1]
    for tokens, loss in documents(every):
        assert loss == "0" + "1" * (len(tokens) - 1)
    assert np.array_equal(every.tokens("train"), answers.tokens("train"))
    assert every.fingerprint != answers.fingerprint


def test_rows_of_parquet_that_are_no_text_are_named(tmp_path: Path) -> None:
    table = pyarrow.table({"q": ["a", "b", None], "a": ["x", None, "y"]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    wanted = SourceConfig(
        "parquet",
        str(tmp_path / "rows.parquet"),
        template="{q}{a}",
        loss_fields=("a",),
        max_tokens=9,
    )
    with pytest.raises(UserError, match=r"rows.parquet, row 1: no text in a, so nothing would"):
        prepare(data_of(tmp_path, wanted, None))
    with pytest.raises(UserError, match=r"no column 'b'; its columns are \['q', 'a'\]"):
        prepare(data_of(tmp_path, replace(wanted, template="{q}{a}{b}"), None))


def test_a_store_without_masks_is_as_it_was(study: tuple[DataConfig, TokenStore]) -> None:
    data, chats = study
    store = prepare(data)["plain"]
    assert not store.masked and chats.masked
    assert "supervised" not in json.loads((store.path / "manifest.json").read_text())
    assert "chat" not in json.loads((store.path / "tokenizer.json").read_text())
    assert not list(store.path.parent.glob("shards/*/train.loss")) == []
    alone = replace(
        data,
        sources=(*data.sources[:1], ("chat", data.sources[0][1])),
        store_dir=f"{data.store_dir}-2",
    )
    assert prepare(alone)["plain"].fingerprint == store.fingerprint
    assert prepare(alone)["plain"].path.name == store.path.name


def test_a_store_does_not_depend_on_cuts_and_keeps_masks_without_copies(
    study: tuple[DataConfig, TokenStore], tmp_path: Path
) -> None:
    data, store = study
    cut = prepare(replace(data, store_dir=str(tmp_path / "cut")), part_bytes=100)["chat"]
    assert len(cut.manifest.shards) > 2 and cut.fingerprint == store.fingerprint
    twice = records(tmp_path, [*TURNS[:2], TURNS[0], *TURNS[2:]])
    names = data.sources[0][0], "chat"
    doubled = replace(data, sources=((names[0], data.sources[0][1]), (names[1], twice)))
    without = prepare(replace(doubled, drop_copies="all"))["chat"]
    assert without.manifest.copies == 1 and without.fingerprint == store.fingerprint
    # Finished stores are found again, and another template is another store.
    assert find_stores(data)["chat"] is not None
    (tmp_path / "other.jinja").write_text(CHATML)
    other = replace(data.tokenizer, chat_template=str(tmp_path / "other.jinja"))
    assert prepare(replace(data, tokenizer=other))["chat"].fingerprint != store.fingerprint
    assert prepare(data)["chat"].path == store.path


def test_conversations_beside_token_ids_that_are_read_where_they_lie(
    study: tuple[DataConfig, TokenStore], tmp_path: Path
) -> None:
    data, chats = study
    tokenizer = load_tokenizer(data.tokenizer)
    texts = [f"text {i} hello" for i in range(60)]
    ids = [[*tokenizer.encode(text).tolist(), tokenizer.eos_id] for text in texts]
    path = write_npy(tmp_path / "plain.npy", sum(ids, []))
    there = SourceConfig("npy", str(path), validation_fraction=0.2)
    sources = (("plain", there), data.sources[1])
    stores = prepare(replace(data, sources=sources, store_dir=str(tmp_path / "stores")))
    assert stores["chat"].fingerprint == chats.fingerprint and stores["chat"].masked
    assert stores["plain"].fingerprint == prepare(data)["plain"].fingerprint
    columns = "documents hashes sizes tokens loss extents".split()
    held = {found.name for found in (tmp_path / "stores" / "shards").glob("*/train.*")}
    assert held == {f"train.{name}" for name in columns}
    (ids_alone,) = (tmp_path / "stores" / "shards").glob("*/train.extents")
    assert not list(ids_alone.parent.glob("*.tokens")) + list(ids_alone.parent.glob("*.loss"))
    assert [check_store(store.path) for store in stores.values()] == [[], []]
    rows = stores["plain"].rows("train", 5)
    assert rows.counted(np.arange(2)) is None and not stores["plain"].masked


def test_near_copies_look_at_all_that_a_template_wrote(
    study: tuple[DataConfig, TokenStore],
) -> None:
    """And of text at all but what begins and ends a document."""
    data, chats = study
    assert np.array_equal(np.concatenate(list(document_ids(chats, "train"))), chats.tokens("train"))
    plain = prepare(data)["plain"]
    found = [plain.tokenizer.decode(ids.tolist()) for ids in document_ids(plain, "train")]
    assert found and all(text.endswith(" hello") for text in found)


def test_parquet_and_the_bytes_tokenizer_give_the_same_conversations(tmp_path: Path) -> None:
    source = records(tmp_path, TURNS[:2])
    table = pyarrow.Table.from_pylist(TURNS[:2])
    parquet.write_table(table, tmp_path / "chat.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(HELD), tmp_path / "held.parquet")
    stored = replace(source, path=str(tmp_path / "chat.parquet"))
    stored = replace(stored, validation_path=str(tmp_path / "held.parquet"))
    (tmp_path / "chat.jinja").write_text(CHATML)
    data = data_of(tmp_path, source)
    tokenizer = TokenizerConfig("bytes", chat_template=str(tmp_path / "chat.jinja"))
    data = replace(data, tokenizer=tokenizer)
    lines = prepare(data)["chat"]
    rows = prepare(replace(data, sources=(data.sources[0], ("chat", stored))))["chat"]
    assert rows.fingerprint == lines.fingerprint
    columns, (end, *_) = lines.columns("train"), lines.documents("train").tolist()
    text = bytes(columns.read(0, end).astype(np.uint8))
    counted = columns.read(0, end, "loss")
    assert bytes(np.frombuffer(text, np.uint8)[counted > 0]).decode() == "yes 😀größe<|im_end|>\n"


@pytest.mark.parametrize(
    ("template", "bad", "said"),
    [
        (None, TURNS[0], "tokenizer '.*' has no chat template .*set tokenizer.chat_template"),
        (LOSING, TURNS[1], r"chat.jsonl, line 2: the chat template has no .* marks"),
        (MARKED, chat(("user", "x")), "chat.jsonl, line 2: a conversation without an assistant"),
        (MARKED, chat(("bot", "x")), r"chat.jsonl, line 2: messages\[0\] has role 'bot'"),
        (MARKED, {"text": "x"}, r"chat.jsonl, line 2: no field 'messages', .*are \['text'\]"),
        (MARKED, chat(("user", "x " * 99), ("assistant", "")), r"line 2: \d+ tokens, more than m"),
    ],
)  # fmt: skip
def test_bad_conversations_are_named_by_file_and_line(
    tmp_path: Path, template: str | None, bad: dict, said: str
) -> None:
    source = records(tmp_path, [TURNS[0], bad], max_tokens=60)
    data = data_of(tmp_path, source, template)
    with pytest.raises(UserError, match=said):
        prepare(data)
    lenient = replace(
        data, sources=(data.sources[0], ("chat", replace(source, bad_documents="pass_over")))
    )
    if template == MARKED:
        store = prepare(lenient)["chat"]
        assert (store.manifest.bad, store.manifest.splits["train"].documents) == (1, 1)
    else:  # no fault of a record
        with pytest.raises(UserError, match=said):
            prepare(lenient)


def test_too_long_conversations_are_cut_where_that_is_asked_for(tmp_path: Path) -> None:
    source = records(tmp_path, TURNS, max_tokens=14, truncate=True)
    data = data_of(tmp_path, source)
    with pytest.raises(
        UserError, match=r"line 2: no token counts in the loss within max_tokens 14"
    ):
        prepare(data)
    lenient = replace(source, bad_documents="pass_over")
    store = prepare(replace(data, sources=(data.sources[0], ("chat", lenient))))["chat"]
    assert [len(tokens) for tokens, _ in documents(store)][0] == 14
    assert documents(store)[0][1] == "0" * 10 + "1111"
    assert store.manifest.bad == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_tokens": None}, "set max_tokens to at least 2"),
        ({"kind": "jsonl", "template": "", "max_tokens": None, "loss_fields": ("a",)}, "give one"),
        ({"kind": "text", "template": "{a}"}, "template is for kinds"),
        ({"kind": "jsonl"}, "max_tokens and truncate are for kind 'conversations'"),
        ({"loss_on": "user"}, "loss_on 'user' is not one of assistant, all"),
    ],
)
def test_sources_that_do_not_fit_together(changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        SourceConfig(**{"kind": "conversations", "path": "x", "max_tokens": 9, **changes})


def test_tokenizers_that_cannot_render(tmp_path: Path) -> None:
    data = data_of(tmp_path, records(tmp_path, TURNS))
    with pytest.raises(UserError, match="and not one that is trained"):
        replace(data, tokenizer=TokenizerConfig("bpe"))
    with pytest.raises(UserError, match="for sources of kind 'conversations', and there is none"):
        plain = (data.sources[0], ("chat", data.sources[0][1]))
        replace(data, sources=plain, tokenizer=replace(data.tokenizer, chat_template="x.jinja"))
