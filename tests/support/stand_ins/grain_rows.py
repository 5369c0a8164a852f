"""The oracle of batches: a run read one row at a time, through Grain's own selection maps."""

from collections.abc import Mapping

import grain
import numpy as np

from replay_jax.data.reading.views import SourceView, view_rows
from replay_jax.data.tokens.store import TokenStore
from replay_jax.schedule.mixture import source_positions
from replay_jax.schedule.stages import Schedule


class RunOrder(grain.transforms.DatasetSelectionMap):
    """From a sequence of a run to (source number, draw of that source), by counting."""

    def __init__(self, schedule: Schedule) -> None:
        self._sources = source_positions(schedule)

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: int) -> tuple[int, int]:
        source = int(self._sources[index])
        return source, int(np.count_nonzero(self._sources[:index] == source))


class ViewOrder(grain.transforms.DatasetSelectionMap):
    """From a draw of a source to (0, row)."""

    def __init__(self, view: SourceView) -> None:
        self._view = view

    def __len__(self) -> int:
        return self._view.rows or 0

    def __getitem__(self, index: int) -> tuple[int, int]:
        return 0, int(view_rows(self._view, [index])[0])


def run_rows(
    stores: Mapping[str, TokenStore], views: Mapping[str, SourceView], schedule: Schedule
) -> grain.MapDataset:
    """The whole run as a Grain dataset of single rows, int32 [L + 1], in training order."""
    sources = [
        grain.MapDataset.select_from_datasets(
            [grain.MapDataset.source(stores[name].rows("train", views[name].seq_len))],
            ViewOrder(views[name]),
        )
        for name in schedule.source_names
    ]
    return grain.MapDataset.select_from_datasets(sources, RunOrder(schedule))
