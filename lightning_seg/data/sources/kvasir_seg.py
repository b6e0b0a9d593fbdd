"""Kvasir-SEG: 1000 colonoscopy frames with polyp masks, 332x352 to 1920x1072 pixels.

Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020, https://datasets.simula.no/kvasir-seg. The owners ask for
research and educational use. Masks are JPEG: 13 to 21 grey values near 0 and 255, hence the threshold 127.

``groups`` joins the frames that show the same frozen picture or the same view of a polyp: some frames were published
twice, cropped and uncropped or annotated twice (``protocols/kvasir-duplicates.csv`` says how they were found).
"""

import csv
import hashlib
from pathlib import Path
from typing import ClassVar

from lightning_seg.data.extract import extract
from lightning_seg.data.sources.base import (
    Sample,
    check_threshold,
    find_root,
    pair_files,
    read_pair,
)
from lightning_seg.data.splits import PROTOCOLS, SPLITS, group_split, protocol_text
from lightning_seg.errors import InputError

FINGERPRINT = "8ebef7947f52ca309c2d5586f0dc8a14906c4fafc3183afeded6832df7e9344e"
COUNT = 1000

# name -> (shares of train, val and test, what the protocol stands for)
SHARES: dict[str, tuple[tuple[float, float, float], str]] = {
    "kvasir-unet-a": (
        (0.8, 0.1, 0.1),
        "800/100/100 as in UNet-A, whose own id lists are not public",
    ),
    "kvasir-80-10-10": (
        (0.8, 0.1, 0.1),
        "80/10/10 % as in PAM-UNet; the same ids as kvasir-unet-a",
    ),
    "kvasir-60-20-20": (
        (0.6, 0.2, 0.2),
        "60/20/20 % as in PEFNet, whose own id lists are not public",
    ),
    "kvasir-800-200": (
        (0.72, 0.08, 0.2),
        "800/200 as in DCA; the 80 validation images are carved from the 800",
    ),
}
_RULE = (
    "{note}. The ids sorted, shuffled by Python's random.Random(42); each id in turn brings its whole group of "
    "kvasir-duplicates.csv into the first of train, val, test that has room for it ({sizes} places): "
    "lightning_seg.data.sources.kvasir_seg.protocol('{name}', ids)."
)


class KvasirSEG:
    """The owners' folder: ``images/*.jpg`` and ``masks/*.jpg``.

    Args:
        root: the folder that holds images/ and masks/, or its parent, or ``kvasir-seg.zip`` or the folder it lies in
            (it is extracted beside itself, once); default: ``Kvasir-SEG`` or ``kvasir-seg`` in $LIGHTNING_SEG_DATA.
        mask_threshold: a pixel is polyp where its grey value is larger.
    """

    classes: ClassVar[tuple[str, ...]] = ("polyp",)
    in_channels: ClassVar[int] = 3
    default_protocol: ClassVar[str] = "kvasir-unet-a"

    def __init__(self, root: Path | None = None, mask_threshold: int = 127) -> None:
        check_threshold(mask_threshold)
        place = find_root("kvasir_seg", root, ("Kvasir-SEG", "kvasir-seg", "kvasir-seg.zip"))
        self.folder = self.find_folder(place) or _extract(place)
        self.mask_threshold = mask_threshold
        self._files = pair_files(self.folder / "images", self.folder / "masks")
        self.ids = list(self._files)
        known = duplicate_groups()
        self.groups = {id: known.get(id, id) for id in self.ids}

    def files(self, id: str) -> tuple[Path, ...]:
        """What ``read`` opens."""
        return self._files[id]

    def read(self, id: str) -> Sample:
        """Image (H, W, 3) RGB and mask (H, W, 1), in the frame's own size."""
        return read_pair(*self._files[id], self.mask_threshold)

    @staticmethod
    def find_folder(place: Path) -> Path | None:
        """The folder at or below ``place`` (or beside it, for an archive) that holds images/ and masks/."""
        place = place.parent / "Kvasir-SEG" if place.suffix == ".zip" else place
        for folder in (place, place / "Kvasir-SEG", place / "kvasir-seg"):
            if (folder / "images").is_dir() and (folder / "masks").is_dir():
                return folder
        return None


def _extract(place: Path) -> Path:
    archive = place if place.suffix == ".zip" else place / "kvasir-seg.zip"
    if not archive.is_file():
        raise InputError(
            f"{place} holds neither images/ and masks/ nor kvasir-seg.zip; give the folder of Kvasir-SEG."
        )
    return extract(archive, archive.parent / "Kvasir-SEG", check=verify)


def verify(folder: Path) -> None:
    """InputError unless the folder holds the owners' 1000 images and 1000 masks, byte for byte."""
    for part in ("images", "masks"):
        count = len(list((folder / part).glob("*.jpg")))
        if count != COUNT:
            raise InputError(
                f"{folder.name}/{part} holds {count} pictures instead of {COUNT}; fetch Kvasir-SEG again."
            )
    found = fingerprint(folder)
    if found != FINGERPRINT:
        raise InputError(
            f"the archive's files have the fingerprint {found[:12]} instead of {FINGERPRINT[:12]}: not the Kvasir-SEG that "
            "the protocols were made for; fetch it again, or extract it yourself and give the folder as root."
        )


def fingerprint(folder: Path) -> str:
    """sha256 over the sorted lines ``<part>/<name> <sha256 of the file>`` of images/ and masks/."""
    lines = []
    for path in [*(folder / "images").glob("*.jpg"), *(folder / "masks").glob("*.jpg")]:
        lines.append(
            f"{path.parent.name}/{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        )
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def duplicate_groups() -> dict[str, str]:
    """id -> group, for the frames of Kvasir-SEG that are not alone in their group."""
    lines = (PROTOCOLS / "kvasir-duplicates.csv").read_text(encoding="utf-8").splitlines()
    return {
        row["id"]: row["group"]
        for row in csv.DictReader(line for line in lines if not line.startswith("#"))
    }


def protocol(name: str, ids: list[str]) -> str:
    """The text of ``protocols/<name>.csv``, made from the 1000 ids by the rule in its header."""
    shares, note = SHARES[name]
    known = duplicate_groups()
    groups = {id: known.get(id, id) for id in ids}
    split = group_split(groups, dict(zip(SPLITS, shares, strict=True)), seed=42)
    sizes = "/".join(str(len(members)) for members in split.values())
    return protocol_text(name, 1, _RULE.format(note=note, sizes=sizes, name=name), split)
