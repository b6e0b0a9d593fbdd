"""What must be said wherever a trained network is shown: synthetic data, a leak, an early end."""

from collections.abc import Mapping
from typing import Any

from lightning_seg.data.sources.base import source_class
from lightning_seg.data.splits import leak_of
from lightning_seg.errors import InputError
from lightning_seg.evaluation.summary import Summary
from lightning_seg.runs.run import Run
from lightning_seg.runs.trained_on import changes_caution


def run_cautions(content: Mapping[str, Any], run: Run | None) -> list[str]:
    """What a checkpoint and the run that it lies in say, in words.

    Args:
        content: of the checkpoint.
        run: None for a checkpoint that lies elsewhere.
    """
    origin = content.get("lightning_seg", {})
    data = content.get("datamodule_hyper_parameters") or {}
    known = Summary(
        synthetic=is_synthetic(data.get("dataset", "")),
        leaks=leak_of(origin.get("protocol_digest", "")),
        groups_known=True,  # not known from here: scores say it
    )
    training = run.cautions if run is not None else []
    changed = changes_caution(origin.get("changes", ()))
    return [*known.cautions(), *training, *filter(None, [changed])]


def is_synthetic(dataset: str) -> bool:
    """Tell whether the images of a data set were made by a program."""
    try:
        return bool(getattr(source_class(dataset), "synthetic", False))
    except InputError:  # a data set of code that is not at hand
        return False
