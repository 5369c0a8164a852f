"""The authors' arithmetic gives the numbers of their own runs, the exact one what was asked."""

import numpy as np
import pytest

from replay_jax.config.defaults import paper_config
from replay_jax.config.experiment import resolve
from replay_jax.data.reading.views import SourceView, view_rows
from replay_jax.errors import UserError
from replay_jax.schedule.authors import BLOCK, in_blocks
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.mixture import source_positions
from replay_jax.schedule.protocols import build_schedule, continual, fine_tuning, two_stage, uniform

RATE = LearningRate(3e-3, "linear", 0.01, 0.1, 0.0)
PAPER = {
    "total_steps": 1024, "batch_size": 1024, "target_sequences": 1024, "target_epochs": 32,
    "learning_rate": RATE,
}  # fmt: skip
# Of the code to arXiv 2603.04964, main sweep, alpha = 1, .5, .25, .125: the step of the transition,
# target rows in a block of stage 1, and those of a block of stage 2 with the epochs that come out.
CELLS = {
    0.0: ((992, 1008, 1016, 1020), (0, 32, 48, 56), 2048, (32, 31.75, 31.81, 31.89)),
    0.25: ((980, 1002, 1012, 1018), (0, 32, 48, 56), 1536, (33.0, 32.16, 32.72, 32.34)),
    0.5: ((960, 992, 1008, 1016), (0, 33, 48, 56), 1024, (32, 31.98, 31.62, 31.78)),
    0.75: ((896, 960, 992, 1008), (0, 34, 49, 56), 512, (32, 31.94, 31.73, 31.56)),
    0.875: ((768, 896, 960, 992), (0, 36, 51, 57), 256, (32, 31.75, 31.91, 31.61)),
    0.9375: ((512, 768, 896, 960), (0, 42, 54, 59), 128, (32, 31.75, 31.62, 31.66)),
}


@pytest.mark.parametrize("rho", CELLS)
def test_the_main_sweep_is_that_of_the_authors(rho):
    transitions, rare, dense, epochs = CELLS[rho]
    for number, alpha in enumerate((1, 0.5, 0.25, 0.125)):
        exact = two_stage(replay_fraction=rho, stage2_allocation=alpha, **PAPER)
        found = in_blocks(exact)
        assert exact.realised().target_epochs == 32
        assert [stage.sequences // 1024 for stage in found.stages] == [
            transitions[number], 1024 - transitions[number],
        ]  # fmt: skip
        assert found.realised().target_epochs == pytest.approx(epochs[number], abs=0.005)
        # Of every block, not only in sum.
        blocks = source_positions(found).reshape(-1, BLOCK).sum(axis=1, dtype=int)
        border = transitions[number] // 2
        assert set(blocks[:border]) == {rare[number]} and set(blocks[border:]) == {dense}


def test_fine_tuning_and_the_reference_are_whole_where_the_paper_has_them():
    second = LearningRate(3e-4, "cosine", 0.01, None, 0.0)
    for rho in (0, 0.5, 0.75, 0.875):
        tuned = fine_tuning(replay_fraction=rho, stage2_learning_rate=second, **PAPER)
        assert in_blocks(tuned) == tuned
    assert in_blocks(uniform(**PAPER)) == uniform(**PAPER)
    # 24 epochs of 1,024 rows are 1.5 rows of 64 of which every block gets 48; 20.3 are 40.6.
    less = in_blocks(uniform(**{**PAPER, "target_sequences": 1000, "target_epochs": 20.8}))
    assert less.sequences("target") == 1024 * 1024 // BLOCK * 40


def test_every_epoch_has_the_order_of_the_first():
    one, other = (SourceView("x", "f", 8, 100, 10, 7, True, same_order=same) for same in (1, 0))
    rows = view_rows(one, np.arange(30)).reshape(3, 10)
    assert (rows == rows[0]).all() and len(set(rows[0])) == 10
    assert (rows[0] == view_rows(other, np.arange(10))).all()
    assert not (view_rows(other, np.arange(10, 20)) == rows[0]).all()
    assert one.digest() != other.digest()


def test_a_configuration_asks_for_it():
    config = paper_config()
    config.schedule.replay_fraction = 0.25
    found = []
    for name in ("exact", "authors", "floored"):
        config.schedule.arithmetic = name
        schedule = resolve(config.to_dict()).schedule
        sources = {"batch_size": 1024, "generic": "c4", "target": "finemath"}
        if name == "floored":
            with pytest.raises(UserError, match="'floored' is not one of exact, authors"):
                build_schedule(schedule, **sources)
        else:
            found.append(build_schedule(schedule, **sources).realised().target_epochs)
    assert found == [32, 33]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 96}, "batches of 96 do not fill"),
        ({"total_steps": 1023}, "1023 steps are not whole blocks of 2048 sequences (2 steps)"),
        ({"target_epochs": 0.25, "target_sequences": 1024}, "arithmetic draws none"),
        ({"placement": "aligned", "aligned_replay_fraction": 0.5}, "knows no placement 'aligned'"),
    ],
)
def test_what_it_cannot_express_is_refused(changes, words):
    uniformly = "target_epochs" in changes
    values = {**PAPER, **changes}
    if not uniformly:
        values |= {"replay_fraction": 0.5, "stage2_allocation": 0.5}
    with pytest.raises(UserError, match=words.replace("(", r"\(").replace(")", r"\)")):
        in_blocks((uniform if uniformly else two_stage)(**values))


def test_other_protocols_and_odd_lengths_are_refused():
    second = LearningRate(3e-4, "cosine", 0.01, None, 0.0)
    with pytest.raises(UserError, match="fine-tuning takes 43 steps, not whole blocks"):
        in_blocks(fine_tuning(replay_fraction=0.25, stage2_learning_rate=second, **PAPER))
    rest = {k: v for k, v in PAPER.items() if k != "total_steps"}
    with pytest.raises(UserError, match="knows no protocol 'continual'"):
        in_blocks(continual(replay_fraction=0.5, **rest))
