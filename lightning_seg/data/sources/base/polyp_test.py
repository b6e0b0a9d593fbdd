"""Two test sets of polyps for networks that were trained on Kvasir-SEG: Medico and EndoTect 2020.

Jha et al., Medico Multimedia Task at MediaEval 2020 (160 frames); Hicks et al., The EndoTect 2020
Challenge (200). The training data of both are Kvasir-SEG; the frames here are new ones. So all of
them test (the protocols ``medico`` and ``endotect``, made when the folder is opened: the owners
publish no list), and a copy of another size changes the protocol's digest.
"""

from pathlib import Path
from typing import ClassVar

from lightning_seg.data.reading.masks import USUAL_THRESHOLD
from lightning_seg.data.sources.base.pairs import Pairs
from lightning_seg.errors import InputError


class PolypTest(Pairs):
    """``images/*.jpg`` and ``masks/*``, named alike.

    Args:
        root: the folder that holds images/ and masks/, or its parent; default: one of ``names`` in
            $LIGHTNING_SEG_DATA.
        mask_threshold: a pixel is polyp where its mask is brighter; default: 127.
    """

    classes: ClassVar[tuple[str, ...]] = ("polyp",)
    published_threshold: ClassVar[int | None] = USUAL_THRESHOLD

    def find_layout(self, place: Path) -> tuple[Path, Path]:
        """images/ and masks/."""
        try:
            return super().find_layout(place)
        except InputError:
            raise InputError(
                f"{place} does not hold images/ and masks/ of {self.default_protocol}; give its "
                "folder, with the masks that its owners published after the challenge."
            ) from None
