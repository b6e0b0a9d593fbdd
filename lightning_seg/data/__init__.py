"""Data sets, their splits, augmentation and loading. Imports nothing of the project but its errors.

A data set is one file in ``sources/`` (a class with the interface ``sources.base.Source``, which is
found by the name of the file) and one protocol file in ``protocols/``, or a rule where the ids are
known only from the data (``rules``).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_seg.data.datamodule import SegmentationDataModule as SegmentationDataModule
    from lightning_seg.data.download import fetch as fetch
    from lightning_seg.data.sources.base import DATASETS as DATASETS
    from lightning_seg.data.sources.base import trust_source as trust_source
    from lightning_seg.data.splits import load_protocol as load_protocol

_HOMES = {
    "SegmentationDataModule": "datamodule",
    "DATASETS": "sources.base",
    "load_protocol": "splits",
    "fetch": "download",
    "trust_source": "sources.base",
}
__all__ = ["DATASETS", "SegmentationDataModule", "fetch", "load_protocol", "trust_source"]


# PEP 562: importing Lightning takes seconds, listing protocols should not
def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
