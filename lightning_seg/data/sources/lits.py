"""LiTS: 131 abdominal CT scans with liver and liver tumours, NIfTI, 42 to 1026 slices of 512x512
pixels.

Bilic et al., The Liver Tumor Segmentation Benchmark (LiTS), MedIA 2023. CC BY-NC-ND 4.0, after
registration at https://competitions.codalab.org/competitions/17094. Labels: 1 liver, 2 tumour. The
70 scans of the challenge's test have no published labels. Each scan is its own group: which of them
show one patient is not published.

The window -200 to 250 HU is that of H-DenseUNet (Li et al. 2018); PAM-UNet states none.
"""

import random
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
from lightning_seg.data.splits import k_fold, protocol_text
from lightning_seg.data.store.planes import Scan, settings
from lightning_seg.errors import InputError, unknown

NAMES = ("LiTS", "lits", "LITS17", "LiTS17")
COUNT, FOLDS = 131, 5
LAYOUT = (
    "LiTS is given after registration and holds volume-N.nii and segmentation-N.nii (or .nii.gz), N from 0 to 130, also in "
    "'Training Batch 1' and 'Training Batch 2'"
)
# what of a segmentation belongs to each class: a tumour lies in the liver, or besides it
LABELS: dict[str, Labels] = {
    "nested": {"liver": (1, 2), "tumor": (2,)},
    "exclusive": {"liver": (1,), "tumor": (2,)},
}
_RULE = (
    "fold {fold} of 5 tests, the next one validates. The 131 scans volume-0 to volume-130, sorted as text, shuffled by Python's "
    "random.Random(42), each in turn to the smallest fold: lightning_seg.data.sources.lits.protocol({fold})."
)

_RULE_80_20 = (
    "80:20 as PAM-UNet, whose lists are not public: the scans of fold 1 test ({test}); of the other {others} {val} validate, after "
    "they were sorted as text and shuffled by Python's random.Random(42): lightning_seg.data.sources.lits.protocol_80_20()."
)


class LiTS(ScanSource):
    """The slices of ``volume-N.nii[.gz]`` and ``segmentation-N.nii[.gz]``, anywhere below one
    folder.

    Args:
        root: this folder or its parent; default: ``LiTS`` in $LIGHTNING_SEG_DATA.
        classes: of liver and tumor; the channels of the mask.
        labels: ``nested``: liver includes its tumours. ``exclusive``: it does not.
        window: the HU that become black and white.
        in_channels: 1 for slices alone; 3 for one neighbour on each side (2.5-D), 5, ... At the
            ends the last slice repeats.
        spacing: mm between slices, rows and columns, to which scans are resampled; None keeps their
            own.
        pad: pixels on both sides to which slices are padded with black. Slices are scaled to
            data.size after that: for a spacing to remain, pad to that size.
        slices: what an epoch of training visits: ``all``; ``organ``, those that show a class; or
            ``{tumor: 0.5}``, all, those that show it repeated until they are this share. Validation
            and test always have all.
        align: ``headers``: InputError where those of a pair turn the axes differently. ``voxels``:
            pair them one by one.
    """

    classes: tuple[str, ...] = ("liver", "tumor")
    default_protocol: ClassVar[str] = "lits-fold-1"
    origin: ClassVar[Origin] = GuardedOrigin(
        "its owners ask for registration at https://competitions.codalab.org/competitions/17094",
        "LiTS/volume-N.nii and LiTS/segmentation-N.nii (or .nii.gz), N from 0 to 130, or the two "
        "in the folders 'Training Batch 1' and 'Training Batch 2'",
    )

    def __init__(
        self,
        root: Path | None = None,
        classes: Sequence[str] = ("liver", "tumor"),
        labels: Literal["nested", "exclusive"] = "nested",
        window: Sequence[float] = (-200, 250),
        in_channels: int = 1,
        spacing: Sequence[float] | None = None,
        pad: int | None = None,
        slices: Slices = "all",
        align: Literal["headers", "voxels"] = "headers",
    ) -> None:
        if labels not in LABELS:
            raise unknown("kind of labels", labels, LABELS)
        chosen = chosen_labels(classes, LABELS[labels])
        place, aside = find_root("lits", root, NAMES), Aside()
        pairs = find_scans(place, "volume-", "segmentation-", LAYOUT, aside=aside)
        scans = {
            f"volume-{number}": Scan(*files, highest=2, align=align)
            for number, files in pairs.items()
        }
        super().__init__(scans, chosen, settings(window, in_channels, spacing, pad), slices, aside)


def protocol(fold: int) -> str:
    """The text of ``protocols/lits-fold-<fold>.csv``, made from the 131 scans by the rule in its
    header."""
    if not 1 <= fold <= FOLDS:
        raise InputError(f"fold is {fold}; give 1 to {FOLDS}.")
    scans = [f"volume-{number}" for number in range(COUNT)]
    folds = k_fold({scan: scan for scan in scans}, FOLDS, seed=42)
    test, val = folds[fold - 1], folds[fold % FOLDS]
    train = [scan for scan in scans if scan not in {*test, *val}]
    rule = _RULE.format(fold=fold)
    return protocol_text(f"lits-fold-{fold}", 1, rule, {"train": train, "val": val, "test": test})


def protocol_80_20() -> str:
    """The text of ``protocols/lits-80-20.csv``, made from the 131 scans by the rule in its
    header."""
    scans = [f"volume-{number}" for number in range(COUNT)]
    test = k_fold({scan: scan for scan in scans}, FOLDS, seed=42)[0]
    others = sorted(set(scans) - set(test))
    random.Random(42).shuffle(others)
    count = round(len(others) / 10)
    split = {"train": others[count:], "val": others[:count], "test": test}
    rule = _RULE_80_20.format(test=len(test), others=len(others), val=count)
    return protocol_text("lits-80-20", 1, rule, split)
