"""Result records -> Study: tune within cells, fit the reference law, compare with the baseline.

Every step that chooses something (tuned setting, law) is repeated in each resample, so that the
luck of the winner is part of every interval.

Shape legend: K settings, S seeds, R resamples, C cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from replay_jax.analysis.noise.components import Component
from replay_jax.analysis.noise.resampling import Noise
from replay_jax.analysis.runs.boundary import boundary_of, shared_window
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics import bootstrap
from replay_jax.analysis.study.comparisons import (
    baseline_of,
    difference,
    edges_of,
    find_controls,
    pareto_fronts,
)
from replay_jax.analysis.study.evidence import Evidence, gather, worth
from replay_jax.analysis.study.groups import Cell, Setting, TargetGroup, group_records
from replay_jax.analysis.study.layout import apart_notes, noisy_notes
from replay_jax.analysis.study.minimum import fit_replay
from replay_jax.analysis.study.stopping import NOTE, stopped_early
from replay_jax.analysis.study.study import (
    CellResult,
    Draws,
    Dropped,
    SettingResult,
    Study,
    TargetStudy,
)
from replay_jax.analysis.study.tried import (
    Tried,
    dropped_notes,
    learning_rate_of,
    mean_of,
    overrides_of,
    result_of,
    tried_beside,
    tuning_notes,
)
from replay_jax.errors import UserError
from replay_jax.progress import stage

_NO_REFERENCE = {"protocol": "none of them"}
ONE_SEED = (
    "seed noise unknown: every setting ran with one seed; intervals carry only the scatter of the "
    "reference points about their law, and are absent where there is none; run each with at least "
    "two seeds"
)


def analyse(
    records: Sequence[Mapping[str, Any]],
    config: AnalysisConfig,
    *,
    tried: Sequence[Mapping[str, Any]] = (),
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
) -> Study:
    """Analyse the finished runs of a sweep; the same records and seed give the same study.

    `tried` are runs that are not compared, and count as what was tried (`study/tried.py`).

    Raises:
      UserError: as `group_records` and `stopped_early`; or several reference cells at one budget.
        Too few reference points and a reference that does not fall are no error: the study says so
        in words.
    """
    rng = np.random.default_rng(seed)
    if config.early_stopping:
        records, tried = stopped_early(records), stopped_early(tried)
    targets = []
    for group in group_records(records, config):
        beside = tried_beside(group.cells, group.target, records, tried, config)
        with stage(f"analysing the runs of {group.target}"):
            targets.append(_analyse_target(group, beside, config, rng=rng, resamples=resamples))
    return Study(targets=tuple(targets), level=config.level)


def analyse_anyway(
    records: Sequence[Mapping[str, Any]],
    config: AnalysisConfig,
    *,
    tried: Sequence[Mapping[str, Any]] = (),
    resamples: int = bootstrap.RESAMPLES,
) -> Study:
    """As `analyse`; where the reference is ambiguous, without it, and `curve_problem` says why.

    Raises:
        UserError: it was not the reference that was wrong.
    """
    try:
        return analyse(records, config, tried=tried, resamples=resamples)
    except UserError as error:
        alone = replace(config, reference=_NO_REFERENCE)
        study = analyse(records, alone, tried=tried, resamples=resamples)
        why = str(error)
    return replace(study, targets=tuple(replace(t, curve_problem=why) for t in study.targets))


def _analyse_target(
    group: TargetGroup,
    tried: Tried,
    config: AnalysisConfig,
    *,
    rng: np.random.Generator,
    resamples: int,
) -> TargetStudy:
    evidence = gather(group, level=config.level, rng=rng, resamples=resamples)
    runs = [r for cell in group.cells for setting in cell.settings for r in setting.records]
    window = shared_window(runs)
    cells = tuple(
        replace(
            _judge(evidence, index, window, others, config.axes),
            tried=tuple(result_of(setting, group.seeds) for setting in others),
        )
        for index, others in enumerate(tried.beside)
    )
    dropped = tuple(
        Dropped(cell.key, tuple(result_of(setting, group.seeds) for setting in cell.settings))
        for cell in tried.dropped
    )
    known = evidence.target.noise is not None and evidence.target.noise.known
    drawn, curve, found = evidence.target_drawn, evidence.curve, evidence.found
    spread = evidence.target.noise is not None
    return TargetStudy(
        target=group.target,
        generic=group.generic,
        seeds=group.seeds,
        data_seeds=_data_seeds(runs),
        level=config.level,
        margin=config.margin,
        bits_per_nat=_bits_per_nat(runs[0]),
        cells=cells,
        curve=curve,
        curve_problem=evidence.curve_problem,
        noise=_deviation(evidence.target.noise),
        generic_noise=_deviation(evidence.generic.noise),
        seed_noise_known=known,
        replay_fits=fit_replay(cells, drawn, spread=spread, level=config.level),
        front=pareto_fronts(cells),
        controls=find_controls(cells, drawn, spread=spread, level=config.level),
        missing=group.missing,
        notes=(() if known else (ONE_SEED,))
        + ((NOTE,) if config.early_stopping else ())
        + _curve_and_noise(group.cells, evidence)
        + tuning_notes(group.cells, tried, config)
        + dropped_notes(dropped, cells),
        documents=evidence.target.documents,
        components=_components(evidence.target.noise),
        generic_components=_components(evidence.generic.noise),
        draws=Draws(
            target=drawn,
            luck=evidence.luck,
            generic=evidence.generic_drawn,
            generic_settings=tuple(evidence.generic.drawn[:, own] for own in evidence.rows),
            log_equivalent=None if found is None else found.resampled,
        ),
        dropped=dropped,
    )


def _judge(
    evidence: Evidence,
    index: int,
    window: int,
    tried: Sequence[Setting],
    axes: Sequence[str],
) -> CellResult:
    """One cell against its baseline, with intervals; `window`: of training losses, in steps."""
    cell, level = evidence.cells[index], evidence.level
    baseline, note = baseline_of(evidence.cells, index)
    tokens, multiplier, why = worth(evidence, index, baseline, axes)
    best = evidence.best[index]
    target, generic = evidence.target, evidence.generic
    spread = target.noise is not None
    drawn = evidence.target_drawn
    drawn_generic = evidence.generic_drawn
    gain = cost = better = None
    if baseline is not None and baseline != index:
        other = evidence.best[baseline]
        gain = difference(
            target.means[other] - target.means[best],
            drawn[:, baseline] - drawn[:, index],
            spread=spread,
            level=level,
        )
        cost = difference(
            generic.means[best] - generic.means[other],
            drawn_generic[:, index] - drawn_generic[:, baseline],
            spread=generic.noise is not None,
            level=level,
        )
        if spread:
            better = float((drawn[:, index] < drawn[:, baseline]).mean())
        note = why
    chosen = cell.settings[int(best - evidence.rows[index][0])]
    return CellResult(
        key=cell.key,
        settings=_settings(evidence, index),
        best=int(best - evidence.rows[index][0]),
        best_share=float((evidence.winner[:, index] == best).mean()),
        target_loss=difference(target.means[best], drawn[:, index], spread=spread, level=level),
        generic_loss=difference(
            generic.means[best],
            drawn_generic[:, index],
            spread=generic.noise is not None,
            level=level,
        ),
        at_edge=edges_of((*cell.settings, *tried), chosen),
        is_reference=cell.is_reference,
        is_baseline=baseline == index,
        baseline=None if baseline == index else baseline,
        equivalent_tokens=tokens,
        multiplier=multiplier,
        gain=gain,
        generic_cost=cost,
        better=better,
        boundary=boundary_of(chosen.records, window),
        note=note,
    )


def _settings(evidence: Evidence, index: int) -> tuple[SettingResult, ...]:
    rows = zip(evidence.cells[index].settings, evidence.rows[index], strict=True)
    return tuple(
        _setting(own, evidence.target.means[row], evidence.generic.means[row]) for own, row in rows
    )


def _setting(own: Setting, target_loss: float, generic_loss: float) -> SettingResult:
    return SettingResult(
        tuned=own.tuned,
        target_epochs=own.target_epochs,
        target_by_seed=own.target,
        generic_by_seed=own.generic,
        target_loss=float(target_loss),
        generic_loss=float(generic_loss),
        steps=mean_of(own, "total_steps"),
        flops=mean_of(own, "flops"),
        run_ids=tuple(str(record["id"]) for record in own.records),
        overrides=overrides_of(own),
        learning_rate=learning_rate_of(own),
    )


def _curve_and_noise(cells: Sequence[Cell], evidence: Evidence) -> tuple[str, ...]:
    curve, noise = evidence.curve, evidence.target.noise
    notes = () if curve is None else curve.notes
    if noise is None or noise.fitted is None:
        return notes
    noisy = noisy_notes(cells, evidence.rows, noise)
    return (*notes, *noisy, *apart_notes(cells, evidence.rows, noise.fitted.apart))


def _data_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """The data seed of each seed, where a sweep varies it."""
    varied = (run for run in runs if "data_seed" in run["overrides"])
    return {int(run["seed"]): int(run["overrides"]["data_seed"]) for run in varied}


def _bits_per_nat(record: Mapping[str, Any]) -> float | None:
    """The same for all runs: they are measured on one text, by one tokenizer."""
    found = record["bits_per_byte"]["target"] if "bits_per_byte" in record else None
    return None if found is None else float(found / record["losses"]["target"])


def _deviation(noise: Noise | None) -> float | None:
    """Standard deviation of one run's loss in nats, shared part included; None = unknown."""
    return None if noise is None else noise.deviation


def _components(noise: Noise | None) -> tuple[Component, ...]:
    return () if noise is None else noise.components
