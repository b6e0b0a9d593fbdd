"""The PraNet bundle of polyp frames: 900 of Kvasir-SEG and 550 of CVC-ClinicDB to train; five sets
to test.

Fan et al., PraNet: Parallel Reverse Attention Network for Polyp Segmentation, MICCAI 2020. Tests:
Kvasir 100, CVC-ClinicDB 62, CVC-300 60, CVC-ColonDB 380, ETIS-LaribPolypDB 196 frames; the last
three come from clinics unseen in training.

The splits follow from the bundle's folders when it is opened: ``pranet`` trains, and tests on all
five (a tenth of the training frames validates, which the authors leave open); ``pranet-kvasir``,
``-clinicdb``, ``-cvc300``, ``-colondb`` and ``-etis`` only test, on one set. ``pranet`` and
``pranet-clinicdb`` say that they leak: the 62 frames of CVC-ClinicDB were drawn from the sequences
whose other frames train.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from lightning_seg.data.reading.masks import USUAL_THRESHOLD
from lightning_seg.data.rules import Rule
from lightning_seg.data.sources.base import find_folder
from lightning_seg.data.sources.base.origins import GuardedOrigin, Origin
from lightning_seg.data.sources.base.pairs import Files, Pairs, pair_files
from lightning_seg.data.sources.cvc_clinicdb import sequences
from lightning_seg.data.sources.kvasir_seg import duplicate_groups, known_groups
from lightning_seg.data.splits import Split, group_split, make_split
from lightning_seg.errors import InputError

TESTS = {  # protocol -> folder in TestDataset/
    "pranet-kvasir": "Kvasir",
    "pranet-clinicdb": "CVC-ClinicDB",
    "pranet-cvc300": "CVC-300",
    "pranet-colondb": "CVC-ColonDB",
    "pranet-etis": "ETIS-LaribPolypDB",
}
TRAIN = "TrainDataset"
PARTS = (("images", "masks"), ("image", "mask"))


class PraNet(Pairs):
    """``TrainDataset/{image,mask}/*.png``, ``TestDataset/<set>/{images,masks}/*.png``.

    Ids are ``<set>_<stem>``.

    Args:
        root: the folder that holds TrainDataset/ and TestDataset/ (one of them, or some test sets,
            may be missing), or its parent; default: ``PraNet`` or ``pranet`` in
            $LIGHTNING_SEG_DATA.
        mask_threshold: a pixel is polyp where its mask is brighter; default: 127, since masks hold
            grey pixels at their outlines.
    """

    classes: ClassVar[tuple[str, ...]] = ("polyp",)
    default_protocol: ClassVar[str] = "pranet"
    origin: ClassVar[Origin] = GuardedOrigin(
        "its authors share it by Google Drive, linked in their repository PraNet",
        "PraNet/TrainDataset/{image,mask}/*.png and PraNet/TestDataset/<set>/{images,masks}/*.png",
    )
    title: ClassVar[str] = "the PraNet bundle"
    names: ClassVar[tuple[str, ...]] = ("PraNet", "pranet")
    rules: ClassVar[Mapping[str, Rule]]  # below
    published_threshold: ClassVar[int | None] = USUAL_THRESHOLD

    def find_files(self, place: Path) -> Files:
        """Image and mask of each id, of the parts that are there."""
        folder = find_folder(place, self.names, (TRAIN,)) or find_folder(
            place, self.names, ("TestDataset",)
        )
        if folder is None:
            raise InputError(
                f"{place} holds neither {TRAIN}/ nor TestDataset/; "
                "give the folder of the PraNet bundle."
            )
        homes = {TRAIN: folder / TRAIN}
        homes |= {name: folder / "TestDataset" / name for name in TESTS.values()}
        found: Files = {}
        for name, home in homes.items():
            if home.is_dir():
                pairs = pair_files(*_pair_folders(home), aside=self.aside)
                found |= {f"{name}_{stem}": pair for stem, pair in pairs.items()}
        return found

    def find_groups(self) -> dict[str, str]:
        """id -> its sequence or near-duplicate group."""
        return _groups(self.ids, known_groups())


def _pair_folders(folder: Path) -> tuple[Path, Path]:
    for images, masks in PARTS:
        if (folder / images).is_dir() and (folder / masks).is_dir():
            return folder / images, folder / masks
    raise InputError(
        f"{folder} holds neither images/ and masks/ nor image/ and mask/; "
        "restore the bundle's folders."
    )


def _groups(
    ids: list[str],
    alike: Mapping[str, str],
) -> dict[str, str]:
    """Sequences for CVC-ClinicDB, whose frames keep their numbers; for Kvasir-SEG those of
    ``alike``."""
    known = sequences()
    groups = {}
    for id in ids:
        home, _, stem = id.partition("_")
        if home in (TRAIN, "CVC-ClinicDB") and stem in known:
            groups[id] = f"CVC-ClinicDB {known[stem]}"
        elif home in (TRAIN, "Kvasir"):
            groups[id] = f"Kvasir {alike.get(stem, stem)}"
        else:
            groups[id] = id
    return groups


def _training(source: PraNet) -> Split:
    # by the pairs that were known first, so that the protocol stays the same
    training = [id for id in source.ids if id.startswith(f"{TRAIN}_")]
    groups = _groups(training, duplicate_groups())
    if not groups:
        raise InputError(
            f"protocol pranet needs {TRAIN}/, which is missing; give it, or test alone: {', '.join(TESTS)}."
        )
    parts = group_split(groups, {"train": 0.9, "val": 0.1}, seed=42)
    assigned = {id: split for split, ids in parts.items() for id in ids}
    rule = (
        "LEAKS: frames of one sequence of CVC-ClinicDB train and test. The bundle's own parts; a tenth of its training frames "
        "validates, by sequence and near duplicate: the ids sorted, shuffled by Python's random.Random(42)"
    )
    return make_split("pranet", "1", rule, dict.fromkeys(source.ids, "test") | assigned, leaks=True)


def _test(source: PraNet, name: str) -> Split:
    ids = [id for id in source.ids if id.startswith(f"{TESTS[name]}_")]
    if not ids:
        raise InputError(
            f"protocol {name} needs TestDataset/{TESTS[name]}/, which is missing; restore the bundle's folders."
        )
    # its ids do not cross each other, but a network trained under `pranet` has seen their sequences
    seen = {source.groups[id] for id in source.ids if id.startswith(f"{TRAIN}_")}
    leaks = name == "pranet-clinicdb" or any(source.groups[id] in seen for id in ids)
    rule = f"all of TestDataset/{TESTS[name]}"
    return make_split(name, "1", rule, dict.fromkeys(ids, "test"), leaks)


PraNet.rules = {"pranet": _training} | {name: partial(_test, name=name) for name in TESTS}
