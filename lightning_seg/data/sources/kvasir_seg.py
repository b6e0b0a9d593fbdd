"""Kvasir-SEG: 1000 colonoscopy frames with polyp masks, 332x352 to 1920x1072 pixels.

Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020, https://datasets.simula.no/kvasir-seg.
The owners ask for research and educational use. Masks are JPEG: 13 to 21 grey values near 0 and
255, hence the threshold 127.

``groups`` joins the frames that show the same frozen picture or the same view of a polyp: some
frames were published twice, cropped and uncropped or annotated twice
(``protocols/kvasir-pairs.csv`` says how they were found, and ``docs/kvasir-leaks.md`` what
follows).
"""

import csv
import hashlib
import random
from pathlib import Path
from typing import ClassVar

from lightning_seg.data.extract import extract
from lightning_seg.data.sources.base import find_folder
from lightning_seg.data.sources.base.origins import Archive, Origin, PublicOrigin
from lightning_seg.data.sources.base.pairs import Pairs
from lightning_seg.data.splits import (
    PROTOCOLS,
    SPLITS,
    KnownPair,
    group_split,
    load_protocol,
    protocol_text,
)
from lightning_seg.errors import InputError

FINGERPRINT = "8ebef7947f52ca309c2d5586f0dc8a14906c4fafc3183afeded6832df7e9344e"
COUNT = 1000

# protocol -> (shares of train, val and test, what the protocol stands for)
SHARES: dict[str, tuple[tuple[float, float, float], str]] = {
    "kvasir-unet-a": (
        (0.8, 0.1, 0.1),
        "800/100/100 as in UNet-A, whose own id lists are not public",
    ),
    "kvasir-80-10-10": (
        (0.8, 0.1, 0.1),
        "80/10/10 % as in PAM-UNet; the same ids as {unet_a}",
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
# protocol of the owners' later papers -> the file of theirs and its clean twin
OFFICIAL, CLEAN = "kvasir-880-120", "kvasir-880-120-clean"
_SECOND = "-v2"
_RULE = (
    "{note}. The ids sorted, shuffled by Python's random.Random(42); each id in turn brings its "
    "whole group of {table} into the first of train, val, test that has room for it ({sizes} "
    "places): lightning_seg.data.sources.kvasir_seg.protocol('{name}', ids)."
)
_LATER = " Pairs of kvasir-pairs.csv that were found later stand across its splits; {name}-v2 keeps them together."
_CLEAN_RULE = (
    "kvasir-880-120 with all known pairs together and its sizes kept. Of each group of "
    "kvasir-pairs.csv that stands in several splits, all frames train. The places that become free "
    "in val and test are filled by training frames that stand in no pair: those ids sorted, drawn "
    "by Python's random.Random(42).sample: lightning_seg.data.sources.kvasir_seg.clean_twin()."
)


class KvasirSEG(Pairs):
    """The owners' folder: ``images/*.jpg`` and ``masks/*.jpg``.

    Args:
        root: the folder that holds images/ and masks/, or its parent, or ``kvasir-seg.zip`` or the
            folder it lies in (it is extracted beside itself, once); default: ``Kvasir-SEG`` or
            ``kvasir-seg`` in $LIGHTNING_SEG_DATA.
        mask_threshold: see ``Pairs``.
    """

    classes: ClassVar[tuple[str, ...]] = ("polyp",)
    default_protocol: ClassVar[str] = "kvasir-unet-a-v2"
    origin: ClassVar[Origin] = PublicOrigin(
        "Kvasir-SEG",
        (Archive("https://datasets.simula.no/downloads/kvasir-seg.zip"),),
        opened_by_source=True,
    )
    title: ClassVar[str] = "Kvasir-SEG"
    names: ClassVar[tuple[str, ...]] = ("Kvasir-SEG", "kvasir-seg", "kvasir-seg.zip")

    def find_layout(self, place: Path) -> tuple[Path, Path]:
        """The folders of images and masks; an archive is extracted first."""
        beside = place.parent / "Kvasir-SEG" if place.suffix == ".zip" else place
        folder = find_folder(beside, self.names[:2], ("images", "masks")) or _extract(place)
        self.folder = folder
        return folder / "images", folder / "masks"

    def find_groups(self) -> dict[str, str]:
        """id -> its group of near duplicates and same views."""
        known = known_groups()
        return {id: known.get(id, id) for id in self.ids}


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
    """id -> group, of the 24 pairs that the protocols of version 1 know."""
    return {row["id"]: row["group"] for row in _table("kvasir-duplicates.csv")}


def known_pairs() -> list[KnownPair]:
    """All frames of Kvasir-SEG that are known to show the same, two by two."""
    rows = _table("kvasir-pairs.csv")
    return [KnownPair(row["first"], row["second"], row["kind"]) for row in rows]


def known_groups() -> dict[str, str]:
    """id -> group, of the frames in ``known_pairs``; a group is named by the first of its ids."""
    group: dict[str, str] = {}
    for first, second, _ in known_pairs():
        joined = {group.get(first, first), group.get(second, second)}
        members = {id for id, home in group.items() if home in joined} | {first, second}
        group |= dict.fromkeys(members, min(members))
    return group


def _table(name: str) -> list[dict[str, str]]:
    lines = (PROTOCOLS / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def protocol(name: str, ids: list[str]) -> str:
    """The text of ``protocols/<name>.csv``, made from the 1000 ids by the rule in its header."""
    second = name.endswith(_SECOND)
    shares, note = SHARES[name.removesuffix(_SECOND)]
    known = known_groups() if second else duplicate_groups()
    groups = {id: known.get(id, id) for id in ids}
    split = group_split(groups, dict(zip(SPLITS, shares, strict=True)), seed=42)
    rule = _RULE.format(
        note=note.format(unet_a="kvasir-unet-a" + _SECOND * second),
        table="kvasir-pairs.csv" if second else "kvasir-duplicates.csv",
        sizes="/".join(str(len(members)) for members in split.values()),
        name=name,
    )
    later = "" if second else _LATER.format(name=name)
    return protocol_text(name, 2 if second else 1, rule + later, split, pairs=known_pairs())


def clean_twin() -> str:
    """The text of ``protocols/kvasir-880-120-clean.csv``, made from the owners' lists."""
    owners, known = load_protocol(OFFICIAL), known_groups()
    homes: dict[str, set[str]] = {}
    for id, split in owners.home.items():
        homes.setdefault(known.get(id, id), set()).add(split)
    divided = {group for group, splits in homes.items() if len(splits) > 1}
    parts = {
        split: {id for id in ids if known.get(id, id) not in divided}
        for split, ids in owners.ids.items()
    }
    single = sorted(id for id in parts["train"] if id not in known)
    free = {split: len(owners.ids[split]) - len(parts[split]) for split in ("val", "test")}
    drawn = random.Random(42).sample(single, sum(free.values()))
    parts["val"] |= set(drawn[: free["val"]])
    parts["test"] |= set(drawn[free["val"] :])
    parts["train"] = set(owners.home) - parts["val"] - parts["test"]
    ids = {split: sorted(members) for split, members in parts.items()}
    return protocol_text(CLEAN, 1, _CLEAN_RULE, ids, pairs=known_pairs())
