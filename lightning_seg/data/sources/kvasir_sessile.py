"""Kvasir-Sessile: 196 sessile and flat polyps, smaller than 10 mm, chosen from the 1000 frames of
Kvasir-SEG.

Jha et al., A Comprehensive Study on Colorectal Polyp Segmentation, JBHI 2021. No independent test
for a network that was trained on Kvasir-SEG: same frames, same names, same masks. It tests such a
network only where these 196 were held out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from lightning_seg.data.sources.base.origins import Archive, Origin, PublicOrigin
from lightning_seg.data.sources.base.pairs import Files, Pairs, pair_files
from lightning_seg.data.sources.kvasir_seg import duplicate_groups, known_groups
from lightning_seg.data.splits import SPLITS, group_split, load_protocol, protocol_text

SIZES = (156, 20, 20)
_RULE = (
    "156/20/20 of the 196 ids. The ids sorted, shuffled by Python's random.Random(42); each id in turn brings its whole "
    "group of kvasir-duplicates.csv into the first of train, val, test that has room for it: "
    "lightning_seg.data.sources.kvasir_sessile.protocol(ids). The owners' own lists are not at hand. All 196 are frames of "
    "Kvasir-SEG: no independent test for a network trained there."
)


class KvasirSessile(Pairs):
    """``images/*.jpg`` and ``masks/*.jpg`` of the owners' subset, or of all Kvasir-SEG.

    Args:
        root: the folder that holds images/ and masks/, or its parent; default:
            ``sessile-main-Kvasir-SEG``, ``Kvasir-Sessile`` or the places of Kvasir-SEG in
            $LIGHTNING_SEG_DATA.
        mask_threshold: see ``Pairs``.
    """

    classes: ClassVar[tuple[str, ...]] = ("polyp",)
    default_protocol: ClassVar[str] = "kvasir-sessile"
    origin: ClassVar[Origin] = PublicOrigin(
        "sessile-main-Kvasir-SEG",
        (Archive("https://datasets.simula.no/downloads/kvasir-sessile.zip"),),
    )
    title: ClassVar[str] = "Kvasir-Sessile or Kvasir-SEG"
    names: ClassVar[tuple[str, ...]] = (
        "sessile-main-Kvasir-SEG",
        "Kvasir-Sessile",
        "Kvasir-SEG",
        "kvasir-seg",
        "kvasir-sessile",
    )

    def find_files(self, place: Path) -> Files:
        """Image and mask of each of the 196."""
        images, masks = self.find_layout(place)
        splits = load_protocol("kvasir-sessile").ids.values()
        sessile = {id for ids in splits for id in ids}
        return dict(pair_files(images, masks, is_image=sessile.__contains__, aside=self.aside))

    def find_groups(self) -> dict[str, str]:
        """id -> its group of near duplicates and same views."""
        known = known_groups()
        return {id: known.get(id, id) for id in self.ids}


def protocol(ids: Sequence[str]) -> str:
    """The text of ``protocols/kvasir-sessile.csv``, made from the 196 ids by the rule in its
    header."""
    known = duplicate_groups()
    shares = {split: size / sum(SIZES) for split, size in zip(SPLITS, SIZES, strict=True)}
    split = group_split({id: known.get(id, id) for id in ids}, shares, seed=42)
    return protocol_text("kvasir-sessile", 1, _RULE, split)
