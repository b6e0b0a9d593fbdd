"""Kvasir-Sessile: 196 sessile and flat polyps, smaller than 10 mm, chosen from the 1000 frames of Kvasir-SEG.

Jha et al., A Comprehensive Study on Colorectal Polyp Segmentation, JBHI 2021. No independent test for a network that was
trained on Kvasir-SEG: same frames, same names, same masks. It tests such a network only where these 196 were held out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from lightning_seg.data.sources.base import (
    Sample,
    check_threshold,
    find_folder,
    find_root,
    pair_files,
    read_pair,
)
from lightning_seg.data.sources.kvasir_seg import duplicate_groups, known_groups
from lightning_seg.data.splits import SPLITS, group_split, load_protocol, protocol_text
from lightning_seg.errors import InputError

NAMES = ("sessile-main-Kvasir-SEG", "Kvasir-Sessile", "Kvasir-SEG", "kvasir-seg", "kvasir-sessile")
SIZES = (156, 20, 20)
_RULE = (
    "156/20/20 of the 196 ids. The ids sorted, shuffled by Python's random.Random(42); each id in turn brings its whole "
    "group of kvasir-duplicates.csv into the first of train, val, test that has room for it: "
    "lightning_seg.data.sources.kvasir_sessile.protocol(ids). The owners' own lists are not at hand. All 196 are frames of "
    "Kvasir-SEG: no independent test for a network trained there."
)


class KvasirSessile:
    """``images/*.jpg`` and ``masks/*.jpg`` of the owners' subset, or of all Kvasir-SEG, of which the 196 are taken.

    Args:
        root: the folder that holds images/ and masks/, or its parent; default: ``sessile-main-Kvasir-SEG``,
            ``Kvasir-Sessile`` or the places of Kvasir-SEG in $LIGHTNING_SEG_DATA.
        mask_threshold: a pixel is polyp where its grey value is larger.
    """

    classes: ClassVar[tuple[str, ...]] = ("polyp",)
    in_channels: ClassVar[int] = 3
    default_protocol: ClassVar[str] = "kvasir-sessile"

    def __init__(self, root: Path | None = None, mask_threshold: int = 127) -> None:
        check_threshold(mask_threshold)
        place = find_root("kvasir_sessile", root, NAMES)
        folder = find_folder(place, NAMES, ("images", "masks"))
        if folder is None:
            raise InputError(
                f"{place} does not hold images/ and masks/; give the folder of Kvasir-Sessile or Kvasir-SEG."
            )
        sessile = {id for ids in load_protocol("kvasir-sessile").ids.values() for id in ids}
        self._files = pair_files(folder / "images", folder / "masks", is_image=sessile.__contains__)
        self.mask_threshold = mask_threshold
        self.ids = list(self._files)
        known = known_groups()
        self.groups = {id: known.get(id, id) for id in self.ids}

    def files(self, id: str) -> tuple[Path, ...]:
        """What ``read`` opens."""
        return self._files[id]

    def read(self, id: str) -> Sample:
        """Image (H, W, 3) RGB and mask (H, W, 1), in the frame's own size."""
        return read_pair(*self._files[id], self.mask_threshold)


def protocol(ids: Sequence[str]) -> str:
    """The text of ``protocols/kvasir-sessile.csv``, made from the 196 ids by the rule in its header."""
    known = duplicate_groups()
    shares = {split: size / sum(SIZES) for split, size in zip(SPLITS, SIZES, strict=True)}
    split = group_split({id: known.get(id, id) for id in ids}, shares, seed=42)
    return protocol_text("kvasir-sessile", 1, _RULE, split)
