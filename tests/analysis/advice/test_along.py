"""Gains along the axes of a study: each compares only runs that differ in nothing else."""

from fake_records import BASQUE, GSM8K, FakeStudy, fake_records

from replay_jax.analysis.advice.along import axes_of
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.analysis.study.axes import ALLOCATION, TOKENS

CONFIG = AnalysisConfig(
    reference={"protocol": "uniform"}, tuned=("schedule.target_epochs",), level=0.9
)
DECAY, RATE = "optimizer.weight_decay", "schedule.learning_rate.peak"


def axes(records):
    return {axis.key: axis.lines for axis in axes_of(analyse_anyway(records, CONFIG))}


def with_decay(records, decay, gain):
    """The runs again at another weight decay and its own rate, replay better by so many nats."""
    changed = []
    for record in records:
        replays = bool(record["replay_fraction"]["requested"])
        losses = {**record["losses"], "target": record["losses"]["target"] - gain * replays}
        overrides = {**record["overrides"], DECAY: decay, RATE: 10 * decay}
        name = f"{record['name']}-{decay}"
        changed.append(
            record | {"id": name, "name": name, "overrides": overrides, "losses": losses}
        )
    return changed


def test_budgets_allocations_targets_and_tuned_keys_are_axes():
    study = FakeStudy(targets=(GSM8K, BASQUE), seeds=(0, 1))
    found = axes(fake_records(study))
    assert set(found) == {TOKENS, ALLOCATION, "target", "schedule.target_epochs"}
    by_target = found["target"]
    assert [line.label for line in by_target] == ["4,096 tokens", "8,192 tokens"]
    for line in by_target:
        gains = {each.value: each.gain.value for each in line.gains}
        assert gains["gsm8k"] > gains["basque"] + 0.1  # as their laws say
    budgets = found[TOKENS]
    assert [line.label for line in budgets] == ["basque", "gsm8k"]
    assert [each.value for each in budgets[0].gains] == ["4096", "8192"]
    for line in found[ALLOCATION]:
        assert [each.value for each in line.gains] == ["0.25", "0.5", "1"]
    for line in found["schedule.target_epochs"]:
        for each in line.gains:
            assert each.gain.low is None and each.multiplier is None
            assert abs(each.gain.value - sum(each.gain_by_seed) / 2) < 1e-12
            assert abs(each.baseline_loss - each.replay_loss - each.gain.value) < 1e-12


def test_keys_that_change_together_are_one_axis_in_the_order_of_its_numbers():
    staged = FakeStudy(seeds=(0, 1), allocations=(1.0,), epochs=(16.0,), candidate_budgets=(4096,))
    records = fake_records(staged)
    reference = [record for record in records if record["protocol"] == "uniform"]
    runs = [record for record in records if record["protocol"] != "uniform"]
    many = [
        *with_decay(runs, 1.0, 0.25),
        *with_decay(runs, 0.1, 0.0),
        *with_decay(runs, 0.5, 0.125),
    ]
    found = axes([*reference, *many])
    assert set(found) == {DECAY}
    (line,) = found[DECAY]
    assert line.label == "" and [each.value for each in line.gains] == ["0.1", "0.5", "1"]
    first, second, third = (each.gain.value for each in line.gains)
    assert abs(second - first - 0.125) < 1e-9 and abs(third - first - 0.25) < 1e-9
    assert all(each.gain.low < each.gain.value < each.gain.high for each in line.gains)


def test_two_free_axes_give_a_line_for_each_value_of_the_other():
    staged = FakeStudy(seeds=(0, 1), allocations=(1.0,), epochs=(16.0,))
    records = fake_records(staged)
    reference = [record for record in records if record["protocol"] == "uniform"]
    runs = [record for record in records if record["protocol"] != "uniform"]
    found = axes([*reference, *with_decay(runs, 0.1, 0.0), *with_decay(runs, 0.5, 0.125)])
    assert [line.label for line in found[DECAY]] == ["4,096 tokens", "8,192 tokens"]
    assert [line.label for line in found[TOKENS]] == ["weight decay 0.1", "weight decay 0.5"]


def test_one_group_is_no_axis():
    alone = FakeStudy(seeds=(0, 1), allocations=(1.0,), epochs=(16.0,), candidate_budgets=(4096,))
    assert axes(fake_records(alone)) == {}


def test_a_gain_is_over_no_replay_at_the_same_allocation():
    """Half of the target data early is worth .2 nat here with and without replay."""
    records = fake_records(FakeStudy(seeds=(0, 1), allocations=(0.5, 1.0), epochs=(16.0,)))
    earlier = []
    for record in records:
        early = 0.2 * (record["protocol"] != "uniform" and record["allocation"]["requested"] == 0.5)
        losses = {**record["losses"], "target": record["losses"]["target"] - early}
        earlier.append({**record, "losses": losses})
    before, after = axes(records), axes(earlier)
    for one, other in zip(before[ALLOCATION], after[ALLOCATION], strict=True):
        for was, now in zip(one.gains, other.gains, strict=True):
            assert abs(now.gain.value - was.gain.value) < 1e-9
            assert now.gain.low < now.gain.value < now.gain.high
            assert abs(now.baseline_loss - now.replay_loss - now.gain.value) < 1e-9


def test_along_a_tuned_key_both_sides_are_at_settings_that_both_ran():
    """At a high rate only no replay ran 32 epochs, which it is best at: that is no comparison."""
    study = FakeStudy(seeds=(0, 1), allocations=(1.0,), epochs=(16.0, 32.0))
    config = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs", RATE), 0.9)
    records = []
    for rate in (0.001, 0.002):
        for record in fake_records(study):
            replaying, long = (
                bool(record["replay_fraction"]["requested"]),
                record["target_epochs"] == 32,
            )
            staged = record["protocol"] != "uniform"
            if staged and rate == 0.002 and replaying and long:
                continue
            best = 0.5 * (staged and rate == 0.002 and not replaying and long)
            losses = {**record["losses"], "target": record["losses"]["target"] - best}
            overrides = {**record["overrides"], RATE: rate}
            name = f"{record['name']}-{rate}"
            changed = {"id": name, "name": name, "overrides": overrides, "losses": losses}
            records.append(record | changed)
    found = {axis.key: axis.lines for axis in axes_of(analyse_anyway(records, config))}
    for line in found[RATE]:
        gains = {each.value: each.gain.value for each in line.gains}
        assert gains["0.002"] > 0.0, gains
