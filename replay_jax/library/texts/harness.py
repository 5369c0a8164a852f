"""A loaded model as lm_eval asks it: likelihoods, rolling likelihoods, generation until a stop.

In every convention (what begins a text, cuts at the left, disjoint windows, stops cut from the
text) it follows the harness's own Hugging Face back end, of lm_eval 0.4.13, so that both score a
model alike, item by item. Needs the extra `eval`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from replay_jax.data.conversations.messages import Message
from replay_jax.errors import UserError
from replay_jax.generation.branches import Request
from replay_jax.generation.continuing import LOOK, Prompt, Speaker, continuations
from replay_jax.generation.sampling import Sampling
from replay_jax.generation.scoring import log_likelihoods
from replay_jax.library.evaluating import Loaded
from replay_jax.library.texts.encoding import Encoding, encoding_of

NEW_TOKENS = 256  # of a task that names no number, as in the harness
# A stop may be said in more tokens than it is encoded in: two more, as in the harness.
_LOOK_BACK = 2
_KNOWN = {"do_sample", "temperature", "top_k", "top_p", "seed"}
# Settings that some tasks write down, with the value at which they change nothing.
_NEUTRAL = {"num_beams": 1, "repetition_penalty": 1.0, "length_penalty": 1.0}


class LoadedLM(TemplateLM):  # type: ignore[misc]
    """The harness's view of a loaded model. Raises UserError for a model without a tokenizer."""

    def __init__(self, loaded: Loaded, *, batch_size: int, seed: int) -> None:
        super().__init__()
        self.loaded, self.batch_size, self.seed = loaded, batch_size, seed
        self.encoding: Encoding = encoding_of(loaded)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.encoding.eos_id

    @property
    def prefix_token_id(self) -> int:
        """The token before a text that follows nothing."""
        return self.encoding.prefix_id

    @property
    def max_length(self) -> int:
        """Positions of the model."""
        return self.loaded.model.max_seq_len

    @property
    def tokenizer_name(self) -> str:
        """What the harness keeps requests by."""
        return self.loaded.name.replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: object
    ) -> list[int]:
        """Token ids; a text that spells the first token already gets no second one."""
        if add_special_tokens is None:
            begun = has_bos_prefix(
                string, self.encoding.decode([self.prefix_token_id], special=True)
            )
            add_special_tokens = not begun
        return self.encoding.encode(string, marks=add_special_tokens)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text, by which the harness knows it."""
        return self.encoding.chat().template if chat_template else None

    def apply_chat_template(
        self, chat_history: list[Message], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the tokenizer's template renders it, asked for the next turn."""
        chat = self.encoding.chat()
        if add_generation_prompt:
            return chat.render(chat_history, add_generation_prompt=True)[0]
        # The last turn stays open: what the template puts behind it is cut off.
        text, last = chat.render(chat_history)[0], str(chat_history[-1]["content"]).lstrip()
        start = text.rindex(last.rstrip())
        kept = last if text.startswith(last, start) else last.rstrip()
        return text[: start + len(kept)]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: object
    ) -> list[tuple[float, bool]]:
        texts = [text for text, _, _ in requests]
        asked = [Request(tuple(context), tuple(said)) for _, context, said in requests]
        for text, request in zip(texts, asked, strict=True):
            if not request.continuation:
                raise UserError(f"a continuation adds no token to its context: {text!r}")
        loaded = self.loaded
        nats, greedy = log_likelihoods(
            loaded.model, loaded.params, loaded.mesh, asked, batch_size=self.batch_size
        )
        answers = [(float(n), bool(g)) for n, g in zip(nats, greedy, strict=True)]
        for text, answer in zip(texts, answers, strict=True):
            if text is not None:
                self.cache_hook.add_partial("loglikelihood", text, answer)
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Nats of whole texts: every token once, with as much context as its window has."""
        windows: list[tuple[None, list[int], list[int]]] = []
        owner: list[int] = []
        for number, (text,) in enumerate(request.args for request in requests):
            rolling = get_rolling_token_windows(
                token_list=self.tok_encode(text), prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length, context_len=1,
            )  # fmt: skip
            for window in map(make_disjoint_window, rolling):
                windows.append((None, *window))
                owner.append(number)
        nats = np.zeros(len(requests))
        scores = [score for score, _ in self._loglikelihood_tokens(windows)]
        np.add.at(nats, np.array(owner, np.int64), scores)
        for request, score in zip(requests, nats.tolist(), strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, score)
        return list(nats.tolist())

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """What is said after each context, up to a stop, which is left out."""
        alike: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            alike.setdefault(repr(sorted(request.args[1].items())), []).append(number)
        texts = [""] * len(requests)
        for numbers in alike.values():
            contexts = [requests[number].args[0] for number in numbers]
            said = self._said(contexts, numbers, requests[numbers[0]].args[1])
            for number, text in zip(numbers, said, strict=True):
                texts[number] = text
                self.cache_hook.add_partial("generate_until", requests[number].args, text)
        return texts

    def _said(self, contexts: list[str], numbers: list[int], asked: dict[str, Any]) -> list[str]:
        settings: dict[str, Any] = dict(normalize_gen_kwargs(asked, NEW_TOKENS))
        eos = self.encoding.decode([self.eot_token_id], special=True)
        stops = [stop for stop in handle_stop_sequences(settings.pop("until"), eos=eos) if stop]
        new_tokens = settings.pop("max_gen_toks")
        room = self.max_length - new_tokens
        if room < 1:
            raise UserError(
                f"{new_tokens:,} new tokens leave no room for a prompt in the {self.max_length:,} "
                f"positions of {self.loaded.name}: set max_gen_toks lower"
            )
        speaker = self._speaker(settings)
        prompts = [
            Prompt(self.tok_encode(text)[-room:] or [self.prefix_token_id], number)
            for text, number in zip(contexts, numbers, strict=True)
        ]
        backs = {s: len(self.encoding.encode(s, marks=False)) + _LOOK_BACK for s in stops}

        def is_over(said: Sequence[int]) -> bool:
            # The harness looks at each token; the text is cut in the end, so late is early enough.
            return any(stop in self._tail(said, back) for stop, back in backs.items())

        found = continuations(speaker, prompts, new_tokens=new_tokens, is_over=is_over)
        return [
            postprocess_generated_text(self.encoding.decode(said), stops, None) for said in found
        ]

    def _tail(self, said: Sequence[int], back: int) -> str:
        """The text of the tokens that one look may have added to a stop's own."""
        return self.encoding.decode(said[-(back + LOOK) :], special=True)

    def _speaker(self, settings: dict[str, Any]) -> Speaker:
        neutral = {key for key, value in _NEUTRAL.items() if settings.get(key) == value}
        unknown = settings.keys() - _KNOWN - neutral
        if unknown:
            raise UserError(
                f"a task asks to generate with {', '.join(sorted(unknown))}, which is not known: "
                f"there are {', '.join(sorted(_KNOWN))}"
            )
        loaded, sampling = self.loaded, None
        if settings["do_sample"]:
            chosen = {key: settings[key] for key in ("top_k", "top_p") if key in settings}
            sampling = Sampling(float(settings.get("temperature", 1.0)), **chosen)
        return Speaker(
            loaded.model, loaded.params, loaded.mesh, self.batch_size, self.encoding.ends,
            sampling, int(settings.get("seed", self.seed)),
        )  # fmt: skip
