"""What data sets share: their interface, the registry, pairs of image and mask, scans.

``pairs`` and ``scans`` hold the base classes; import them by name.
"""

from lightning_seg.data.sources.base.registry import (
    DATASETS,
    channel_meaning,
    dataset_title,
    source_class,
    trust_source,
)
from lightning_seg.data.sources.base.roots import DATA_VARIABLE, find_folder, find_root
from lightning_seg.data.sources.base.source import Sample, Source

__all__ = [
    "DATASETS",
    "DATA_VARIABLE",
    "Sample",
    "Source",
    "channel_meaning",
    "dataset_title",
    "find_folder",
    "find_root",
    "source_class",
    "trust_source",
]
