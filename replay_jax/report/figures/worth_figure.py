"""The figure of what schedules are worth in target data, on the reference law."""

from collections.abc import Iterator, Sequence

import numpy as np

from replay_jax.analysis.study.selection import (
    focus_budget,
    loss_of,
    recipe_words,
    seeds_of,
    setting_words,
)
from replay_jax.analysis.study.study import CellResult, TargetStudy
from replay_jax.report.elements.blocks import Figure
from replay_jax.report.elements.picks import Pick, Picks, focus
from replay_jax.report.elements.words import times
from replay_jax.report.figures import charts
from replay_jax.report.figures.encodings import Row
from replay_jax.report.figures.label_places import placed
from replay_jax.report.figures.study_figures import figure_name

BEST = "best replay"
_CURVE_POINTS = 81
# How far the law is drawn beyond the reference points: a quarter more, or as far as a schedule
# needs, but never beyond three doublings.
_MARGIN, _FARTHEST = 1.25, 8.0


def efficiency_figure(study: TargetStudy, shown: Picks) -> Figure | None:
    """The reference law with its band, and what each budget's schedules are worth on it.

    None where there is nothing that they could be worth: no law, and one amount of target data.
    """
    reference = [
        {"tokens": cell.key.target_tokens, "loss": loss, "seed": seed}
        for cell in study.reference_cells
        for seed, loss in seeds_of(study, cell.chosen.target_by_seed)
    ]
    compared = list(_compared(shown))
    amounts = {row["tokens"] for row in reference}
    amounts |= {cell.key.target_tokens for _, cell, _ in compared}
    if len(amounts) < 2:
        return None
    low, high = _law_range(study, [cell for _, cell, _ in compared])
    candidates = [_candidate(study, *each, low, high) for each in compared]
    law = study.curve is not None
    curve = _curve_rows(study, low, high, _since(study, shown)) if law else []
    return Figure(
        name=figure_name("efficiency", study),
        title="What each schedule is worth in target data"
        if law
        else "Target loss by amount of target data",
        caption=_caption(study, shown, candidates),
        chart=charts.efficiency_chart(
            curve=curve, reference=reference, candidates=placed(candidates, curve, reference)
        ),
        target=study.target,
    )


def _compared(shown: Picks) -> Iterator[tuple[str, CellResult, Pick]]:
    """What is drawn of every budget, kind by kind, with its name and the pick that it is of."""
    for pick in shown.values():
        if pick.usual is not None:
            yield pick.name(pick.usual), pick.usual, pick
    for pick in shown.values():
        yield BEST, pick.best, pick
    for pick in shown.values():
        if pick.stronger is not None:
            yield pick.name(pick.stronger), pick.stronger, pick


def _caption(study: TargetStudy, shown: Picks, candidates: Sequence[Row]) -> str:
    recipes = {recipe_words(cell) for cell in study.reference_cells}
    recipe = f", {recipes.pop()}," if len(recipes) == 1 else ""
    parts = []
    if study.reference_cells:
        band = ""
        if study.curve is not None:
            band = f", with the fitted law and {_band_words(study, _since(study, shown))}"
        budgets = f" at {len(study.reference_cells)} budgets" * (len(study.reference_cells) > 1)
        parts.append(f"Grey: the reference recipe{recipe}{budgets}, every seed a dot{band}.")
    if candidates:
        parts.append("Coloured: schedules at their own budget, means over seeds.")
    if any(row["equivalent"] is not None for row in candidates):
        usual = dict.fromkeys(pick.name(pick.usual) for pick in shown.values() if pick.usual)
        parts.append(
            f"From the amount at which the law has the loss of {' or '.join(usual)}, the dotted "
            "line leads as many times further as the best replay is worth; the thick bar is the "
            "interval of that multiplier."
        )
    rivals = [pick.name(pick.stronger) for pick in shown.values() if pick.stronger is not None]
    if rivals and candidates:
        names = " and ".join(dict.fromkeys(rivals))
        parts.append(
            f"The best schedule without replay is drawn where it is another: {names}; of two "
            "multipliers the second is over that one."
        )
    return " ".join(parts).replace("%", " %")


def _law_range(study: TargetStudy, shown: Sequence[CellResult]) -> tuple[float, float]:
    """Smallest and largest amount of target tokens at which the law is drawn."""
    budgets = [float(cell.key.target_tokens) for cell in study.reference_cells]
    if not budgets:
        budgets = [float(tokens) for tokens in study.budgets]
    first, last = min(budgets), max(budgets)
    reached = [
        end
        for cell in shown
        if (found := cell.equivalent_tokens) is not None
        for end in (found.value, found.low, found.high)
        if end is not None
    ]
    low = max(min([first / _MARGIN, *reached]), first / _FARTHEST)
    high = min(max([last * _MARGIN, *reached]), last * _FARTHEST)
    return low, high


def _since(study: TargetStudy, shown: Picks) -> float | None:
    """What the baseline of the focus budget is worth, from which the band is drawn."""
    pick = focus(study, shown)
    usual = None if pick is None else pick.usual
    if usual is None or usual.equivalent_tokens is None:
        return None
    return usual.equivalent_tokens.value


def _band_words(study: TargetStudy, since: float | None) -> str:
    percent = f"{study.level:.0%}"
    if since is None:
        return f"its {percent} band"
    return (
        f"the {percent} band of how much it changes from where the baseline at "
        f"{focus_budget(study):,} target tokens stands, where the band closes: what a multiplier "
        "rests on"
    )


def _curve_rows(study: TargetStudy, low: float, high: float, since: float | None) -> list[Row]:
    """The law on a log grid that holds every reference budget, cut into three pieces there."""
    budgets = [float(cell.key.target_tokens) for cell in study.reference_cells]
    first, last = min(budgets), max(budgets)
    grid = sorted({*np.geomspace(low, high, _CURVE_POINTS).tolist(), *budgets})
    rows: list[Row] = []
    for row in study.band(grid, since=since):
        tokens = row["tokens"]
        if row["loss"] is None or tokens is None:
            continue
        pieces = [
            ("below", tokens <= first),
            ("measured", first <= tokens <= last),
            ("above", tokens >= last),
        ]
        for piece, inside in pieces:
            if inside:
                label = "reference law" if piece == "measured" else "extrapolated"
                rows.append({**row, "range": label, "piece": piece})
    return rows


def _candidate(
    study: TargetStudy, name: str, cell: CellResult, pick: Pick, low: float, high: float
) -> dict[str, object]:
    """One schedule; what replays with its multiplier from where its baseline stands on the law.

    Ends of the interval are cut to what is drawn, its words are not.
    """
    uniform = cell.key.protocol == "uniform"
    epochs = f"{cell.chosen.target_epochs:g} epochs"
    row: dict[str, object] = {
        "series": name,
        "tokens": cell.key.target_tokens,
        "loss": loss_of(cell),
        "setting": epochs
        if uniform
        else f"ρ {cell.key.replay_fraction:.4g}, {setting_words(cell)}",
        "worth": "the baseline"
        if cell.is_baseline
        else f"{times(cell.multiplier)} {cell.note}".rstrip(),
        "label": "",
        **dict.fromkeys(("start", "equivalent", "equivalent_low", "equivalent_high")),
    }
    if cell is not pick.best:
        return row
    if pick.stronger is not None:
        row["worth"] = f"{times(cell.multiplier)}; {_over(pick)}"
    stands, worth = None if pick.usual is None else pick.usual.equivalent_tokens, cell.multiplier
    start = None if stands is None else stands.value
    if start is None or worth is None or worth.value is None:
        return row
    ends = {
        "start": start,
        "equivalent": start * worth.value,
        "equivalent_low": low if worth.low is None else start * worth.low,
        "equivalent_high": high if worth.high is None else start * worth.high,
    }
    return row | {key: min(max(x, low), high) for key, x in ends.items()} | {"label": _label(pick)}


def _label(pick: Pick) -> str:
    """The multiplier in words; of two what each is over."""
    if pick.stronger is None or pick.usual is None:
        return times(pick.best.multiplier)
    usual = f"{times(pick.best.multiplier)} over {pick.name(pick.usual)}"
    # The legend says which mixture; every letter less is room for the label.
    return f"{usual}\n{_over(pick)}".replace("constant mixture", "mixture")


def _over(pick: Pick) -> str:
    name = "" if pick.stronger is None else pick.name(pick.stronger)
    return f"{times(pick.over_rival)} over {name}"
