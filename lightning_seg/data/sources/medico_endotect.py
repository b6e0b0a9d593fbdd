"""Two test sets of polyps for networks that were trained on Kvasir-SEG: Medico 2020 (160 frames) and EndoTect 2020 (200).

Jha et al., Medico Multimedia Task at MediaEval 2020; Hicks et al., The EndoTect 2020 Challenge. The training data of both
are Kvasir-SEG; the frames here are new ones. So all of them test (the protocols ``medico`` and ``endotect``, made when the
folder is opened: the owners publish no list), and a copy of another size changes the protocol's digest.
"""

from functools import partial
from pathlib import Path
from typing import ClassVar

from lightning_seg.data.rules import Rule, for_testing
from lightning_seg.data.sources.base import (
    Sample,
    check_threshold,
    find_folder,
    find_root,
    pair_files,
    read_pair,
)
from lightning_seg.errors import InputError


class _PolypTest:
    """``images/*.jpg`` and ``masks/*``, named alike.

    Args:
        root: the folder that holds images/ and masks/, or its parent; default: one of ``names`` in $LIGHTNING_SEG_DATA.
        mask_threshold: a pixel is polyp where its grey value is larger.
    """

    classes: ClassVar[tuple[str, ...]] = ("polyp",)
    in_channels: ClassVar[int] = 3
    default_protocol: ClassVar[str]
    rules: ClassVar[dict[str, Rule]]
    names: ClassVar[tuple[str, ...]]

    def __init__(self, root: Path | None = None, mask_threshold: int = 127) -> None:
        check_threshold(mask_threshold)
        place = find_root(self.default_protocol, root, self.names)
        folder = find_folder(place, self.names, ("images", "masks"))
        if folder is None:
            raise InputError(
                f"{place} does not hold images/ and masks/ of {self.default_protocol}; give its folder, with the masks "
                "that its owners published after the challenge."
            )
        self._files = pair_files(folder / "images", folder / "masks")
        self.mask_threshold = mask_threshold
        self.ids = list(self._files)
        self.groups = {id: id for id in self.ids}

    def files(self, id: str) -> tuple[Path, ...]:
        """What ``read`` opens."""
        return self._files[id]

    def read(self, id: str) -> Sample:
        """Image (H, W, 3) RGB and mask (H, W, 1), in the frame's own size."""
        return read_pair(*self._files[id], self.mask_threshold)


class Medico(_PolypTest):
    __doc__ = _PolypTest.__doc__
    default_protocol = "medico"
    rules: ClassVar[dict[str, Rule]] = {"medico": partial(for_testing, "medico")}
    names = ("Medico_automatic_polyp_segmentation_challenge_test_data", "Medico", "medico")


class EndoTect(_PolypTest):
    __doc__ = _PolypTest.__doc__
    default_protocol = "endotect"
    rules: ClassVar[dict[str, Rule]] = {"endotect": partial(for_testing, "endotect")}
    names = ("EndoTect_2020_Segmentation_Test_Dataset", "EndoTect", "endotect")
