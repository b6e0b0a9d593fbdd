"""Synapse / BTCV: 30 abdominal CT scans with 13 organs, NIfTI, 85 to 198 slices of 512x512 pixels.

Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault, 2015,
https://www.synapse.org/Synapse:syn3193805, after registration. By default the 8 organs and the
window -125 to 275 HU of TransUNet (Chen et al. 2021), and its 18 scans for training and 12 for
testing (``lists_Synapse`` of its code). The slices here come from the owners' files; those that
TransUNet's authors handed on as .npz and .h5, without spacing, are not read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from lightning_seg.data.reading.folders import Aside
from lightning_seg.data.sources.base import find_root
from lightning_seg.data.sources.base.origins import GuardedOrigin, Origin
from lightning_seg.data.sources.base.scans import (
    Labels,
    ScanSource,
    Slices,
    chosen_labels,
    find_scans,
)
from lightning_seg.data.splits import group_split, protocol_text
from lightning_seg.data.store.planes import Scan, settings

NAMES = ("Synapse", "synapse", "BTCV", "btcv")
LAYOUT = (
    "Synapse is given after registration and holds img/img0001.nii.gz and label/label0001.nii.gz to 0010 and 0021 to 0040 "
    "(RawData/Training of the owners' archive)"
)
ORGANS: Labels = {  # the owners' numbers
    "spleen": (1,),
    "right_kidney": (2,),
    "left_kidney": (3,),
    "gallbladder": (4,),
    "esophagus": (5,),
    "liver": (6,),
    "stomach": (7,),
    "aorta": (8,),
    "vena_cava": (9,),
    "portal_splenic_veins": (10,),
    "pancreas": (11,),
    "right_adrenal_gland": (12,),
    "left_adrenal_gland": (13,),
}
TRANSUNET = (
    "aorta",
    "gallbladder",
    "left_kidney",
    "right_kidney",
    "liver",
    "pancreas",
    "spleen",
    "stomach",
)
NUMBERS = (*range(1, 11), *range(21, 41))  # the owners' other scans have no labels
SCANS = tuple(f"{number:04d}" for number in NUMBERS)
TEST = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0008",
    "0022",
    "0025",
    "0029",
    "0032",
    "0035",
    "0036",
    "0038",
)
_RULE = (
    "TransUNet's 12 scans test; of its 18 scans for training 2 validate: the ids sorted, shuffled by Python's "
    "random.Random(42) and cut (TransUNet itself validates on none): lightning_seg.data.sources.synapse.protocol()."
)


class Synapse(ScanSource):
    """The slices of ``img0001.nii.gz`` and ``label0001.nii.gz``, anywhere below one folder; scans
    are named ``0001``.

    Args:
        root: this folder or its parent; default: ``Synapse`` or ``BTCV`` in $LIGHTNING_SEG_DATA.
        classes: of the 13 organs; the channels of the mask. Default: TransUNet's 8.
        window: the HU that become black and white.
        in_channels: 1 for slices alone; 3 for one neighbour on each side (2.5-D), 5, ... At the
            ends the last slice repeats.
        spacing: mm between slices, rows and columns, to which scans are resampled; None keeps their
            own.
        pad: pixels on both sides to which slices are padded with black. Slices are scaled to
            data.size after that: for a spacing to remain, pad to that size.
        slices: what an epoch of training visits: ``all``; ``organ``, those that show a class; or
            ``{pancreas: 0.5}``, all, those that show it repeated until they are this share.
            Validation and test always have all.
        align: ``headers``: InputError where those of a pair turn the axes differently. ``voxels``:
            pair them one by one.
    """

    classes: tuple[str, ...] = TRANSUNET
    default_protocol: ClassVar[str] = "synapse-18-12"
    origin: ClassVar[Origin] = GuardedOrigin(
        "its owners ask for registration at https://www.synapse.org/Synapse:syn3193805",
        "Synapse/img/img0001.nii.gz and Synapse/label/label0001.nii.gz to 0010 and 0021 to 0040 "
        "(RawData/Training of its archive)",
    )

    def __init__(
        self,
        root: Path | None = None,
        classes: Sequence[str] = TRANSUNET,
        window: Sequence[float] = (-125, 275),
        in_channels: int = 1,
        spacing: Sequence[float] | None = None,
        pad: int | None = None,
        slices: Slices = "all",
        align: Literal["headers", "voxels"] = "headers",
    ) -> None:
        labels = chosen_labels(classes, ORGANS)
        place, aside = find_root("synapse", root, NAMES), Aside()
        pairs = find_scans(place, "img", "label", LAYOUT, NUMBERS, aside)
        scans = {
            f"{number:04d}": Scan(*files, len(ORGANS), align) for number, files in pairs.items()
        }
        super().__init__(scans, labels, settings(window, in_channels, spacing, pad), slices, aside)


def protocol() -> str:
    """The text of ``protocols/synapse-18-12.csv``, made by the rule in its header."""
    training = {scan: scan for scan in SCANS if scan not in TEST}
    split = group_split(training, {"train": 16 / 18, "val": 2 / 18}, seed=42)
    return protocol_text("synapse-18-12", 1, _RULE, {**split, "test": TEST})
