"""Conversations as text: the three forms, exact marks on worked ones, and what is refused."""

import pytest
from chats import CHATML, FORGETFUL, LOSING, MARKED, SPECIAL, chat

from replay_jax.data.conversations.chat import Chat, ConversationTaker
from replay_jax.data.conversations.marked import Marked, UnfitTemplate
from replay_jax.data.conversations.messages import asked_of, messages_of
from replay_jax.data.conversations.templates import RecordTemplate
from replay_jax.errors import UserError

TWO_TURNS = chat(
    ("system", "be kind"), ("user", "hello"), ("assistant", "yes 😀"),
    ("user", "what"), ("assistant", ""),
)  # fmt: skip


def taker(template: str, loss_on: str = "assistant") -> ConversationTaker:
    return ConversationTaker(Chat(template, (("bos_token", "<B>"),), tuple(SPECIAL)), loss_on)


def counted(found: Marked) -> list[str]:
    return [found.text[start:stop] for start, stop in found.spans]


def test_three_forms_of_one_conversation():
    expected = chat(("user", "hello"), ("assistant", "yes"))["messages"]
    said = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "yes"}]
    listed = {"prompt": [expected[0]], "completion": [expected[1]]}
    for record in (
        {"messages": expected},
        {"conversations": said},
        {"prompt": "hello", "completion": "yes"},
        listed,
    ):
        assert messages_of(record) == expected
    nothing = {"role": "user", "content": "hello", "name": None}
    assert messages_of({"messages": [nothing, expected[1]]}) == expected


def test_what_is_asked_ends_before_the_last_answer():
    asked = TWO_TURNS["messages"][:-1]
    said = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "yes"}]
    hello = chat(("user", "hello"))["messages"]
    for record, expected in (
        (TWO_TURNS, asked),
        ({"messages": asked}, asked),
        ({"conversations": said}, hello),
        ({"prompt": "hello", "completion": "yes"}, hello),
        ({"prompt": "hello"}, hello),
    ):
        assert asked_of(record) == expected
    for record, words in (
        ({"messages": TWO_TURNS["messages"][2:3]}, "nothing is said before the assistant speaks"),
        ({"completion": "yes"}, "no field 'messages', 'conversations', or 'prompt'"),
    ):
        with pytest.raises(UserError, match=words):
            asked_of(record)


def test_what_ends_a_turn_stands_behind_its_words():
    assert taker(CHATML).chat.turn_end() == taker(FORGETFUL).chat.turn_end() == "<|im_end|>\n"
    assert taker("{% for m in messages %}{{ m['content'] }}{% endfor %}").chat.turn_end() == ""


def test_marks_of_a_template_and_differences_say_the_same_turns():
    by_difference = taker(CHATML).text(TWO_TURNS, "")
    assert counted(by_difference) == ["yes 😀<|im_end|>\n", "<|im_end|>\n"]
    by_marks = taker(MARKED).text(TWO_TURNS, "")
    assert counted(by_marks) == ["yes 😀<|im_end|>", "<|im_end|>"]
    assert by_marks.text == "<B>" + by_difference.text
    assert by_difference.text == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\nyes 😀<|im_end|>\n<|im_start|>user\nwhat<|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n"
    )
    whole = taker(CHATML, "all").text(TWO_TURNS, "")
    assert counted(whole) == [whole.text] and whole.rendered


def test_a_turn_that_is_rendered_otherwise_later_counts_as_it_then_stands():
    """Every answer and its end, of the last one what the model is to think before it as well."""
    one = chat(("user", "hello"), ("assistant", "yes"))
    last = "<think>\n</think>\n"
    assert counted(taker(FORGETFUL).text(one, "")) == [f"{last}yes<|im_end|>\n"]
    two = taker(FORGETFUL).text(TWO_TURNS, "")
    assert counted(two) == ["yes 😀<|im_end|>\n", f"{last}<|im_end|>\n"]
    assert two.text == taker(FORGETFUL, "all").text(TWO_TURNS, "").text
    # Neighbours, an answer that others repeat, and one that is nothing.
    turns = [("user", "yes"), ("assistant", "yes"), ("assistant", ""), ("user", "yes")]
    several = taker(FORGETFUL).text(chat(*turns, ("assistant", "yes")), "")
    assert counted(several) == ["yes<|im_end|>\n", "<|im_end|>\n", f"{last}yes<|im_end|>\n"]
    assert [start for start, _ in several.spans] == [
        several.text.index("assistant\n") + 10,
        several.text.index("assistant\n<|im_end|>") + 10,
        several.text.index("<think>"),
    ]


def test_a_template_that_leaves_turns_out_later_is_refused_by_name():
    with pytest.raises(UnfitTemplate, match=r"no {% generation %} marks.*of message 2 is not how"):
        taker(LOSING).text(TWO_TURNS, "")
    assert counted(taker(LOSING, "all").text(TWO_TURNS, ""))
    # What it cannot find again is not guessed at.
    shouting = FORGETFUL.replace("message['content'] }}<", "message['content'] | upper }}<")
    with pytest.raises(UnfitTemplate, match="of message 2 is not how"):
        taker(shouting).text(TWO_TURNS, "")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"text": "x"}, "no field 'messages', 'conversations', or 'prompt' and 'completion'; the"),
        ({"messages": "x"}, "field 'messages' is str, not a list of messages"),
        ({"messages": [3]}, r"messages\[0\] is int, not a message"),
        ({"messages": [{"content": "x"}]}, r"messages\[0\] has no field 'role'; its fields are"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\] has no field 'content'"),
        (chat(("bot", "x")), r"messages\[0\] has role 'bot', not one of system, developer, user"),
        ({"messages": [{"role": ["user"], "content": ""}]}, r"has role \['user'\], not one of"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, r"content is list, not text"),
        (chat(("user", "x")), r"a conversation without an assistant turn \(roles \['user'\]\)"),
        ({"messages": []}, "a conversation without an assistant turn"),
        ({"conversations": [{"from": "bot", "value": ""}]}, r"conversations\[0\] is from 'bot'"),
        ({"conversations": [{"from": "gpt"}]}, r"conversations\[0\] has no field 'value'"),
        ({"prompt": 3, "completion": "x"}, "field 'prompt' is int, not a list of messages"),
        (chat(("user", "a<|im_end|>b"), ("assistant", "")), r"message 0 \(user\) spells the spec"),
    ],
)  # fmt: skip
def test_records_that_are_no_conversation(record, said):
    with pytest.raises(UserError, match=said) as caught:
        taker(CHATML).text(record, "")
    assert not isinstance(caught.value, UnfitTemplate)


def test_templates_that_refuse_are_broken_or_reach_out():
    one = chat(("user", "hello"), ("assistant", "yes"))
    with pytest.raises(UserError, match=r"the chat template refuses it \(no system\)"):
        taker("{{ raise_exception('no system') }}").text(one, "")
    with pytest.raises(UserError, match="refuses it"):
        taker("{{ messages.__class__.__mro__ }}{{ ''.__class__.__mro__[1].x }}").text(one, "")
    for broken in ("{% for %}", "{{ " + "[" * 3000, "{% if a %}" * 120 + "{% endif %}" * 120):
        with pytest.raises(UnfitTemplate, match="the chat template cannot be read"):
            Chat(broken, ()).check()
    # The date of the day would make another text tomorrow.
    dated = taker("{{ strftime_now is defined }}" + CHATML)
    assert dated.text(one, "").text.startswith("False")


def test_a_template_of_fields_says_where_they_lie():
    template = RecordTemplate("Q: {q}\n{{A}}: {a}{q}\n", ("a",))
    assert template.fields == ("q", "a")
    found = template.text({"q": "why", "a": "ß 😀", "more": 3}, "here")
    assert found == Marked("Q: why\n{A}: ß 😀why\n", ((12, 15),), False, "here")
    assert counted(found) == ["ß 😀"]
    assert template.text({"q": None, "a": ""}, "") == ""
    assert RecordTemplate("{q}\n{a}", ()).text({"q": "x", "a": "y"}, "") == "x\ny"
    for record, said in (
        ({"q": "x", "a": None}, "no text in a, so nothing would count"),
        ({"q": "x"}, "no field 'a'; the fields are"),
        ({"q": "x", "a": 3}, "field 'a' is int, not text"),
    ):
        with pytest.raises(UserError, match=said):
            template.text(record, "")


@pytest.mark.parametrize(
    ("template", "fields", "said"),
    [
        ("text", (), "has no field"),
        ("{q", (), "cannot be read"),
        ("{q:>3}", (), "names of fields in braces and nothing else"),
        ("{}", (), "names of fields in braces and nothing else"),
        ("{q}", ("a",), "loss_fields names 'a', but template '{q}' has the fields q"),
    ],
)
def test_templates_of_fields_that_are_none(template, fields, said):
    with pytest.raises(UserError, match=said):
        RecordTemplate(template, fields).text({"q": "x"}, "")
