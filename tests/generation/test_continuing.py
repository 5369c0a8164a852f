"""Where a text ends, and that a drawn one depends on nothing beside it."""

import itertools

import numpy as np
import pytest
from tiny_texts import params_of
from tiny_training import MODEL, mesh_of

from replay_jax.errors import UserError
from replay_jax.generation.continuing import LOOK, Prompt, Speaker, continuations
from replay_jax.generation.lengths import compiled_length, shared_lengths
from replay_jax.generation.sampling import Sampling, next_tokens, text_keys

SAMPLING = Sampling(temperature=0.9, top_k=50, top_p=0.95)


@pytest.fixture(scope="module")
def params():
    return params_of(MODEL)


def speaker(params, *, seed=3, ends=frozenset()):
    return Speaker(MODEL, params, mesh_of(1, 1, 1), 2, ends, SAMPLING, seed)


def test_a_drawn_text_depends_on_model_seed_prompt_and_number_alone(params):
    prompts = [Prompt([5, 6, 7], 0), Prompt([5, 6, 7], 1), Prompt([1, 2, 3], 2)]
    found = continuations(speaker(params), prompts, new_tokens=20)
    assert [len(said) for said in found] == [20, 20, 20]
    assert found[0] != found[1]
    # Alone, in another order, and with another text's tokens beside it.
    alone = continuations(speaker(params), prompts[1:2], new_tokens=20)
    assert alone == found[1:2]
    assert continuations(speaker(params), prompts[::-1], new_tokens=20) == found[::-1]
    assert continuations(speaker(params, seed=4), prompts, new_tokens=20) != found


def test_a_text_ends_before_an_end_token_and_soon_after_it_is_over(params):
    prompts = [Prompt([5, 6, 7], 0), Prompt([5, 6, 7], 1)]
    whole = continuations(speaker(params), prompts, new_tokens=2 * LOOK - 3)
    end = whole[0][LOOK + 1]
    cut = continuations(speaker(params, ends={end}), prompts, new_tokens=2 * LOOK - 3)
    for said, text in zip(cut, whole, strict=True):
        assert said == text[: text.index(end) if end in text else None]
    over = continuations(
        speaker(params), prompts, new_tokens=2 * LOOK - 3, is_over=lambda said: len(said) >= 5
    )
    assert over == [text[:LOOK] for text in whole]
    few = continuations(speaker(params), prompts, new_tokens=LOOK + 1)
    assert few == [text[: LOOK + 1] for text in whole]


@pytest.mark.parametrize(
    ("prompt", "new_tokens", "words"),
    [
        ([], 4, "prompt 1 has no token"),
        ([1] * 60, 5, "prompt 1 of 60 tokens and 5 new ones are more than the 64 positions"),
        ([1], 0, "0 new tokens say nothing"),
    ],
)
def test_prompts_that_cannot_go_on_are_refused(prompt, new_tokens, words):
    with pytest.raises(UserError, match=words):
        continuations(speaker({}), [Prompt(prompt, 0)], new_tokens=new_tokens)


def test_draws_have_the_probabilities_of_the_tempered_and_cut_softmax():
    logits = np.log(np.array([0.05, 0.4, 0.3, 0.15, 0.1], np.float32))
    keys = text_keys(7, np.arange(4000, dtype=np.uint32))
    many = np.broadcast_to(logits, (len(keys), 5))

    def shares(sampling):
        drawn = np.asarray(next_tokens(many, sampling, keys, 0))
        return np.bincount(drawn, minlength=5) / len(drawn)

    # Four standard deviations of a share are at most .032.
    assert shares(Sampling()) == pytest.approx(np.exp(logits), abs=0.032)
    assert shares(Sampling(top_k=2)) == pytest.approx([0, 4 / 7, 3 / 7, 0, 0], abs=0.032)
    # .4 and .3 have less than .8 together, .15 more makes it up.
    assert shares(Sampling(top_p=0.8)) == pytest.approx(
        np.array([0, 0.4, 0.3, 0.15, 0]) / 0.85, abs=0.032
    )
    cold = np.exp(2 * logits) / np.exp(2 * logits).sum()
    assert shares(Sampling(temperature=0.5)) == pytest.approx(cold, abs=0.032)
    assert shares(Sampling(top_p=1e-6))[1] == 1
    assert next_tokens(many, None, keys, 0).tolist() == [1] * len(keys)
    again = next_tokens(many[:3], Sampling(), keys[:3], 1)
    assert again.tolist() == next_tokens(many, Sampling(), keys, 1)[:3].tolist()
    # A text's draws at two places agree as often as two draws of two texts do.
    first, second = (np.asarray(next_tokens(many, Sampling(), keys, place)) for place in (0, 1))
    assert np.mean(first == second) == pytest.approx(np.sum(np.exp(2 * logits)), abs=0.032)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (dict(temperature=0.0), "a temperature of 0 draws nothing"),
        (dict(temperature=float("nan")), "a temperature of nan draws nothing"),
        (dict(top_k=-1), "top_k is -1"),
        (dict(top_p=0.0), "top_p is 0; it must be above 0"),
    ],
)
def test_values_that_draw_nothing_are_refused(values, words):
    with pytest.raises(UserError, match=words):
        Sampling(**values)


def test_few_lengths_are_compiled():
    wanted = {0: 0, 1: 1, 2: 2, 3: 4, 9: 16, 17: 24, 24: 24, 25: 32, 33: 48, 49: 64, 700: 768}
    assert {length: compiled_length(length) for length in wanted} == wanted


def test_batches_share_a_program_where_its_padding_costs_less_than_another():
    """Against every way to cut their order; the tail of a long task gets one of its own."""
    own = [(8, 1), (8, 1), (6, 2), (4, 1), (4, 1), (1, 1)]

    def flops(lengths):
        return 1e10 * lengths[0] * lengths[1]

    def cost(lengths, worth):
        return sum(map(flops, lengths)) + worth * len(list(itertools.groupby(lengths)))

    def ways():
        for cuts in itertools.product([False, True], repeat=len(own) - 1):
            places = [0, *(place for place, cut in enumerate(cuts, 1) if cut), len(own)]
            parts = [own[start:end] for start, end in itertools.pairwise(places)]
            yield [tuple(map(max, *part, part[0])) for part in parts for _ in part]

    for platform, devices, programs in (("cpu", 1, 2), ("cpu", 2, 1), ("gpu", 1, 1)):
        worth = devices * {"cpu": 2e11, "gpu": 2e14}[platform]
        found = shared_lengths(own, flops, platform=platform, devices=devices)
        assert cost(found, worth) == pytest.approx(min(cost(way, worth) for way in ways()))
        assert len(set(found)) == programs
        assert all(map(lambda length, least: length >= least, sum(found, ()), sum(own, ())))
    assert shared_lengths([], flops, platform="cpu", devices=1) == []
