"""The paper's studies: their grids at full size, and what a scale and seeds do to them."""

import collections
import dataclasses

import pytest

from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.paper import FIRST_DATA_SEED, repeated, sized
from replay_jax.config.recipe import command_line, load_recipe
from replay_jax.config.shipped import shipped_configs
from replay_jax.errors import UserError
from replay_jax.library.preparing import find_all
from replay_jax.model.architecture import parameter_counts
from replay_jax.schedule.protocols import build_schedule
from replay_jax.sweep.plan.plan import plan_sweep
from replay_jax.sweep.plan.programs import programs_of
from replay_jax.sweep.plan.work import Done

# Runs of one seed (of the fresh ones, of four), and the sum of their steps.
STUDIES = {
    "basque_8b": (23, 41_120),
    "constant_mixture": (33, 33 * 1024),
    "controls": (37, 37 * 1024),
    "cooldown": (12, 12 * 1024),
    "fine_tuning_epochs": (36, 6 * (6 * 1000 + 504)),
    "fine_tuning_half_batch": (3, 3 * 1024),
    "fine_tuning_replay": (21, 21 * 1024),
    "fine_tuning_target_scaling": (18, 6 * (3 * 1000 + 448)),
    "headline": (57, 57 * 1024),
    "headline_fresh": (72, 72 * 1024),
    "longer_run": (6, 3 * (1024 + 4096)),
    "mid_training": (60, 60 * 1024),
    "mid_training_replay": (15, 15 * 1024),
    "mixture_or_replay": (87, 87 * 1024),
    "model_scaling": (20, 20 * 1024),
    "more_target": (16, 16 * 1024),
    "reference_law": (15, 15 * 1024),
    "repetitions": (20, 12 * 1000 + 8 * 1024),
    "weblinx_8b": (27, 179_271),
    "weight_decay": (12, 12 * 1024),
}
OF_A_MODEL = ("basque_8b", "weblinx_8b")  # at smaller scales of yours


def study(name, **arguments):
    return configs_of(experiments_of(load_recipe(f"paper/{name}", arguments)))


def schedule(config):
    return build_schedule(
        config.schedule,
        batch_size=config.training.batch_size,
        generic=config.data.generic,
        target=config.data.target,
    )


def test_every_study_is_listed_by_name():
    shipped = [name for name in shipped_configs() if name.startswith("paper/")]
    assert shipped == [f"paper/{name}" for name in STUDIES]


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_the_paper_s_grid_and_plans_at_full_size(name):
    """Without its data: every run has a schedule and a ledger that add up, sharing included."""
    experiments = experiments_of(load_recipe(f"paper/{name}"))
    configs = configs_of(experiments)
    planned = plan_sweep(experiments, found=find_all(configs), done=Done())
    assert (len(planned.runs), planned.steps_naive) == STUDIES[name]
    assert 0 < planned.steps_planned <= planned.steps_naive
    seeds = range(3, 7) if name == "headline_fresh" else (0,)
    pairs = {(config.seed, config.data_seed) for config in configs}
    assert pairs == {(seed, FIRST_DATA_SEED + seed) for seed in seeds}
    for config in configs:
        marks = config.data.tokenizer
        assert (marks.bos_token, marks.eos_token) == ("<|begin_of_text|>", "<|end_of_text|>")


def test_runs_share_a_program_unless_they_differ_in_model_batch_or_mesh():
    sizes = programs_of(study("model_scaling"))
    assert [program.runs for program in sizes] == [5, 5, 5, 5]
    assert [parameter_counts(program.shape.model).total for program in sizes] == [
        154_147_328, 299_649_792, 602_457_088, 1_884_391_424,
    ]  # fmt: skip
    assert sizes[0].words == "154,147,328 parameters, 1024 x 4096"
    uniform, *_ = headline = study("headline")
    (every,) = programs_of(headline)
    assert every.runs == 57 and every.cosine  # of those that have a boundary
    (alone,) = programs_of([uniform])
    assert uniform.schedule.protocol == "uniform" and not alone.cosine
    one_mesh = dataclasses.replace(uniform, mesh=dataclasses.replace(uniform.mesh, fsdp=2))
    assert len(programs_of([uniform, one_mesh, uniform])) == 2


@pytest.mark.parametrize("name", [name for name in STUDIES if name not in OF_A_MODEL])
@pytest.mark.parametrize("scale", ["tiny", "small"])
def test_a_scale_keeps_what_makes_the_study(name, scale):
    """The same schedules in batches: steps, boundaries, learning rates, epochs, budgets."""

    def facts(configs, targets):
        found = collections.Counter()
        for config in configs:
            if config.data.target in targets:
                built, batch = schedule(config), config.training.batch_size
                key = (
                    built.total_steps,
                    config.schedule.target_sequences / batch,
                    config.schedule.target_epochs,
                    config.schedule.replay_fraction,
                    config.schedule.stage2_allocation,
                    config.schedule.learning_rate,
                    config.schedule.stage2_learning_rate,
                )
                found[key] += 1
        return found

    full, small = study(name), study(name, scale=scale)
    if name == "model_scaling":  # has fewer sizes, at rates of their own
        assert len(small) == 15
        return
    assert facts(small, {small[-1].data.target}) == facts(full, {full[-1].data.target})
    for config in small:
        tokens = 1024 * config.training.batch_size * config.training.seq_len
        assert 25 < tokens / parameter_counts(config.model).total < 32


def test_seeds_multiply_a_sweep_in_pairs():
    once, thrice = study("headline"), study("headline", seeds=3)
    assert len(thrice) == 3 * len(once)
    seeds = collections.Counter((config.seed, config.data_seed) for config in thrice)
    assert seeds == {(n, FIRST_DATA_SEED + n): len(once) for n in range(3)}
    assert [config for config in thrice if config.seed == 0] == once
    for wrong in (0, -1, 2.5, True, "3"):
        with pytest.raises(UserError, match=f"whole number from 1 up, not {wrong!r}"):
            repeated([{}], wrong)


def test_fresh_seeds_repeat_what_was_picked_and_nothing_else():
    """Runs of the headline and of weight decay under other seeds, a fraction for each target."""
    targets = {"data.target": "law.txt,code.txt", "scale": "tiny"}
    picked = {"rho": "7/8,1/2", "fine_tuning_rho": "1/2,1/3", "weight_decay": 0.2}
    fresh = study("headline_fresh", **targets, **picked)

    def kinds(configs):
        return {
            dataclasses.replace(config, name="", seed=0, data_seed=42, analysis=None)
            for config in configs
        }

    of_one_seed = kinds(fresh)
    assert len(fresh) == 4 * len(of_one_seed) == 4 * 12
    assert len(of_one_seed & kinds(study("headline", **targets))) == 10
    assert len(of_one_seed & kinds(study("weight_decay", **targets))) == 2 + 2
    mid = {
        c.data.target: c.schedule.replay_fraction
        for c in fresh
        if c.schedule.protocol == "two_stage" and c.schedule.replay_fraction
    }
    assert mid == {"law": 7 / 8, "code": 1 / 2}
    for wrong in ({"rho": "1/2,1/2,1/2"}, {"fine_tuning_rho": "half"}, {"rho": "1/0"}):
        with pytest.raises(UserError, match="2 targets|must be fractions"):
            study("headline_fresh", **targets, **wrong)
    with pytest.raises(UserError, match="after must be a whole number from 0 up, not -1"):
        repeated([{}], 1, after=-1)


@pytest.mark.parametrize("name", ["fine_tuning_epochs", "repetitions", "model_scaling"])
def test_a_whole_grid_runs_on_seeds_after_those_that_picked(name):
    picking, fresh = (study(name, scale="tiny", seeds=2, after=after) for after in (0, 3))
    assert {(c.seed, c.data_seed) for c in fresh} == {(3, FIRST_DATA_SEED + 3), (4, 46)}
    assert [dataclasses.replace(c, name="", seed=0, data_seed=0) for c in picking] == [
        dataclasses.replace(c, name="", seed=0, data_seed=0) for c in fresh
    ]


def test_own_text_takes_the_place_of_the_sources():
    own = {"data.generic": "web/*.parquet", "data.target": "a/law.jsonl.zst, b/notes.txt"}
    configs = study("mid_training_replay", scale="tiny", **own)
    assert len(configs) == 10
    (sources,) = {config.data.sources for config in configs}
    kinds = {name: (source.kind, source.path) for name, source in sources}
    assert kinds == {
        "web": ("parquet", "web/*.parquet"),
        "law": ("jsonl", "a/law.jsonl.zst"),
        "notes": ("text", "b/notes.txt"),
    }
    assert {config.data.target for config in configs} == {"law", "notes"}
    with pytest.raises(UserError, match="different names"):
        study("mid_training", **{"data.target": "a/x.txt,b/x.txt"})
    with pytest.raises(UserError, match="generic and target text are both named 'x'"):
        study("mid_training", **{"data.generic": "a/x.txt", "data.target": "b/x.txt"})


def test_scales_that_do_not_exist_and_models_that_are_missing():
    with pytest.raises(UserError, match="scale 'tny' is none of them: did you mean 'tiny'"):
        sized("tny")
    for name in OF_A_MODEL:
        with pytest.raises(UserError, match="name its folder with --config.initial_weights"):
            study(name, scale="tiny")


def test_the_command_line_keeps_what_a_file_took():
    recipe = load_recipe("paper/headline", {"scale": "tiny", "seeds": 3})
    command = "replay-jax run paper/headline --config.scale=tiny --config.seeds=3"
    assert command_line("run", recipe) == command
