"""What a study will take of the disk, before it begins."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hpo.recipe import DryRun
from hpo.spec import StudySpec
from lightning_seg.data.store.housekeeping import existing_folder, size_text
from lightning_seg.tables import count_text

_LOGS = 2**20  # bytes of the curves, overlays and records of a run, about
_MOMENTS = 2  # of each weight, that the usual optimisers keep
_SAVED = ("best", "last")  # checkpoints of a training


class RunSize(NamedTuple):
    """Bytes of a run: while it trains at most, and once it is finished (see `hpo.thinning`)."""

    training: int
    finished: int

    @classmethod
    def of(cls, fit: DryRun) -> "RunSize":
        """The size of what a recipe with overrides leaves."""
        tensors: Any = fit.model.state_dict().values()
        weights = sum(one.numel() * one.element_size() for one in tensors)
        copies = 1 + _MOMENTS + bool(fit.values.get("model.ema"))
        return cls(len(_SAVED) * copies * weights + _LOGS, weights + _LOGS)


def disk_lines(spec: StudySpec, largest: RunSize, workers: int) -> Iterator[str]:
    """The bytes that a study takes at most, and those that are free where its runs lie.

    Args:
        largest: the size of the largest run of the space.
        workers: trials that train at once.
    """
    runs = max(1, len(spec.replicas))
    at_once = min(workers, spec.trials)
    kept = min(spec.keep_best or spec.trials, spec.trials)
    finished = kept * largest.finished + (spec.trials - kept) * _LOGS
    most = runs * (finished + at_once * largest.training)
    folder = existing_folder(Path(spec.runs))
    free = shutil.disk_usage(folder).free
    each = f" of {count_text(runs, 'run')} each" if runs > 1 else ""
    yield (
        f"disk: {size_text(most)} at most ({count_text(kept, 'finished trial')}{each} at "
        f"{size_text(largest.finished)} a run, {at_once} in training at "
        f"{size_text(largest.training)}); {size_text(free)} are free in {folder}"
    )
    if most > free:
        yield "disk: NOT ENOUGH; give --runs on a larger disk, or --keep-best N."
