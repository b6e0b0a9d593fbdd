"""What predictions are held against: the masks of a data set's split, or of a folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.fingerprint import Content, Fingerprint, content_of
from lightning_seg.data.reading.folders import walk_files
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.splits import make_split
from lightning_seg.errors import InputError
from lightning_seg.inference.prediction_files import (
    SUFFIXES,
    Numbers,
    PredictionFiles,
    usual_numbers,
)
from lightning_seg.inference.split import DataSplit

NO_IMAGE: NDArray[np.uint8] = np.zeros((0, 0, 0), np.uint8)


class Truth(Protocol):
    """Masks with names.

    Attributes:
        ids: of the images, in their order.
        classes: of the masks.
        numbers: class -> the numbers that a label map has for it.
        groups: of the ids, where they are known.
        columns: id -> further column -> its value, where there are any.
    """

    @property
    def ids(self) -> tuple[str, ...]: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def numbers(self) -> Numbers: ...

    @property
    def groups(self) -> Mapping[str, str]: ...

    @property
    def columns(self) -> Mapping[str, Mapping[str, str]]: ...

    def read(self, id: str) -> Sample:
        """The sample: a mask (H, W, K) in {0, 1}, with its region where there is one."""

    def facts(self) -> dict[str, Any]:
        """The fields of a `Summary` that say of which images the scores are."""


@dataclass(frozen=True)
class SplitTruth(DataSplit):
    """The masks of a data set's split, each of its own size."""

    _contents: dict[str, Content] = field(default_factory=dict, init=False, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    @property
    def numbers(self) -> Numbers:
        own: Numbers = getattr(self.data.source, "label_numbers", {})
        return own or usual_numbers(self.classes)

    @property
    def groups(self) -> Mapping[str, str]:
        return self.data.source.groups

    @property
    def columns(self) -> Mapping[str, Mapping[str, str]]:
        return getattr(self.data.source, "columns", {})

    @property
    def _of_scans(self) -> bool:
        return hasattr(self.data.source, "spacing")

    def _fingerprint(self) -> Fingerprint:
        """The fingerprint of what was read; that of scans is of whole scans, of one size each."""
        if self._of_scans:
            return self.data.fingerprint(self.split)
        return self.data.fingerprint_of(self.split, self._contents)

    def read(self, id: str) -> Sample:
        sample = self.data.source.read(id)
        if not self._of_scans:
            self._contents[id] = content_of(sample)
        return sample

    def facts(self) -> dict[str, Any]:
        data = self.data
        return {
            "dataset": data.hparams["dataset"],
            "synthetic": data.synthetic,
            "protocol": data.protocol_name,
            "protocol_digest": data.protocol_digest,
            "leaks": data.split.leak_sentence,
            "groups_known": data.grouped,
            "split": self.split,
            "data": self._fingerprint().to_json(),
        }


class FolderTruth:
    """The masks of a folder, without images and without a protocol.

    Args:
        root: files that hold a mask, or a label map of the classes 1, 2, ...
        classes: their names.
    """

    groups: Mapping[str, str] = {}
    columns: Mapping[str, Mapping[str, str]] = {}

    def __init__(self, root: Path, classes: tuple[str, ...]) -> None:
        names = [
            file.relative_to(root).as_posix()
            for file in walk_files(root)
            if file.name.lower().endswith(SUFFIXES)
        ]
        bare = [_bare(name) for name in names]
        if len(set(bare)) < len(bare):
            twice = next(name for name in bare if bare.count(name) > 1)
            raise InputError(f"{root} holds two masks called {twice!r}; leave one of them there.")
        self.root, self.classes, self.numbers = root, classes, usual_numbers(classes)
        self.ids: tuple[str, ...] = tuple(bare)
        files = dict(zip(bare, ([root / name] for name in names), strict=True))
        self._files = PredictionFiles(files, self.numbers)
        self._contents: dict[str, Content] = {}

    def read(self, id: str) -> Sample:
        found = self._files.read(id)
        if found.graded:
            raise InputError(
                f"the truth of {id} in {self.root} holds values between 0 and 1; give masks."
            )
        mask = found.maps.transpose(1, 2, 0).astype(np.uint8)
        self._contents[id] = content_of(Sample(NO_IMAGE, mask))
        return Sample(NO_IMAGE, mask)

    def facts(self) -> dict[str, Any]:
        everything = dict.fromkeys(self.ids, "test")
        split = make_split(self.root.name, "1", "all masks of a folder", everything)
        fingerprint = Fingerprint(
            dataset=self.root.name,
            root=str(self.root),
            options={},
            protocol=split.name,
            protocol_digest=split.digest,
            split="test",
            contents=self._contents,
        )
        return {
            "dataset": self.root.name,
            "protocol": split.name,
            "protocol_digest": split.digest,
            "split": "test",
            "data": fingerprint.to_json(),
        }


def _bare(name: str) -> str:
    suffix = next(end for end in SUFFIXES if name.lower().endswith(end))
    return name[: len(name) - len(suffix)]
