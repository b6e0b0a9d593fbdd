"""Scores of whole volumes, in mm and ml: of data sets whose samples are slices of scans, after
`test` and `validate`.

The slices of a scan are put together in their order, whatever the order and the device they were
predicted on, each once. They are kept compressed, and a scan is scored and dropped as soon as it
is whole: memory holds one volume, and slices of scans that are not whole yet at about a hundredth
of their size.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.callbacks.scores import report_folder
from lightning_seg.evaluation.summary import find_summary
from lightning_seg.evaluation.volumes import (
    VOLUME_FILE,
    Spacing,
    VolumeRow,
    score_volume,
    summarize_volumes,
    write_volume_rows,
)
from lightning_seg.inference.whole_scans import scans_of
from lightning_seg.reports.printing import print_volumes


class Volumes:
    """Slices in, rows out.

    Args:
        scans: scan -> the ids of its slices, in order.
        classes: the channels of the masks.
        spacing: scan -> mm between slices, rows and columns.
    """

    def __init__(
        self,
        scans: dict[str, tuple[str, ...]],
        classes: Sequence[str],
        spacing: Callable[[str], Spacing],
    ) -> None:
        self._scans, self._classes, self._spacing = scans, classes, spacing
        self._places = {
            id: (scan, place) for scan, ids in scans.items() for place, id in enumerate(ids)
        }
        self._kept: dict[str, dict[int, bytes]] = defaultdict(dict)
        self._shapes: dict[str, tuple[int, int]] = {}
        self.rows: dict[str, list[VolumeRow]] = {}

    def add(
        self,
        id: str,
        prediction: NDArray[np.bool_],
        truth: NDArray[np.bool_],
    ) -> None:
        """A slice: (K, H, W) each; one that is there already is left aside."""
        scan, place = self._places[id]
        if scan in self.rows:
            return
        self._shapes[scan] = prediction.shape[1], prediction.shape[2]
        bits = np.packbits(np.stack([prediction, truth]))
        self._kept[scan][place] = zlib.compress(bits.tobytes(), 1)
        if self._is_whole(scan):
            self._finish(scan)

    def _is_whole(self, scan: str) -> bool:
        return len(self._kept[scan]) == len(self._scans[scan])

    def gather(self) -> None:
        """Put together what the processes of a run hold; afterwards each knows all rows."""
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return
        everything = _gathered((dict(self._kept), self._shapes, self.rows))
        for _, _, rows in everything:
            self.rows |= rows
        for kept, shapes, _ in everything:
            self._shapes |= shapes
            for scan in kept.keys() - self.rows.keys():
                self._kept[scan] |= kept[scan]
        whole = sorted(filter(self._is_whole, list(self._kept)))
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for scan in whole[rank::world]:
            self._finish(scan)
        for rows in _gathered(self.rows):
            self.rows |= rows

    @property
    def incomplete(self) -> list[str]:
        """Scans of which slices are missing."""
        return sorted(self._scans.keys() - self.rows.keys())

    def _finish(self, scan: str) -> None:
        kept = self._kept.pop(scan)
        shape = (2, len(self._classes), *self._shapes.pop(scan))
        count = int(np.prod(shape))
        volume = np.empty((len(kept), *shape), bool)
        for place, content in kept.items():
            bits = np.frombuffer(zlib.decompress(content), np.uint8)
            volume[place] = np.unpackbits(bits, count=count).reshape(shape)
        spacing = self._spacing(scan)
        self.rows[scan] = [
            score_volume(scan, name, volume[:, 0, k], volume[:, 1, k], spacing)
            for k, name in enumerate(self._classes)
        ]


def _gathered(content: Any) -> list[Any]:
    found = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, content)
    return found


class VolumeScores(L.Callback):
    """Writes ``volumes.csv`` beside the score table, and adds ``volumes`` to ``summary.json``: it
    comes after `ScoreReport`."""

    def __init__(self) -> None:
        self._volumes: Volumes | None = None
        self._ids: tuple[str, ...] = ()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._start(trainer, pl_module, "test")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self._start(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._gather(pl_module)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._gather(pl_module)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._report(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._report(trainer, pl_module, "val")

    def _start(self, trainer: Any, pl_module: Any, split: str) -> None:
        data, source = trainer.datamodule, trainer.datamodule.source
        scans = scans_of(data, split)
        if not scans:
            return
        side = data.hparams["size"] if pl_module.scorer.scoring.score_at == "network" else None
        size = None if side is None else (side, side)
        self._ids = data.ids(split)
        self._volumes = Volumes(scans, data.classes, lambda scan: source.spacing(scan, size))
        pl_module.scorer.watch(self._add)

    def _add(self, prediction: Tensor, mask: Tensor, index: Tensor) -> None:
        assert self._volumes is not None
        for one, truth, place in zip(
            prediction.cpu().numpy(), mask.cpu().numpy() > 0, index.tolist(), strict=True
        ):
            self._volumes.add(self._ids[place], one, truth)

    def _gather(self, pl_module: Any) -> None:
        if self._volumes is not None:
            pl_module.scorer.unwatch(self._add)
            self._volumes.gather()

    def _report(self, trainer: Any, pl_module: Any, split: str) -> None:
        volumes, self._volumes = self._volumes, None
        if volumes is None or not trainer.is_global_zero:
            return
        folder = report_folder(trainer, pl_module, split)
        rows = [row for scan in sorted(volumes.rows) for row in volumes.rows[scan]]
        write_volume_rows(rows, folder)
        found = summarize_volumes(rows, volumes.incomplete)
        replace(find_summary(folder), volumes=found).write(folder)
        print_volumes(found)
        print(f"per-scan table:   {folder / VOLUME_FILE}")
