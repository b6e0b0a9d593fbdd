"""Which images these are: a data set, the way it is read, and a digest of the content of each
sample.

A digest is of the decoded image in its own size, before it is brought to that of the network.
Names, files and folders do not enter it: the same picture has one digest under any name, stored
in any lossless way. Digests are computed when a sample is read for the first time and kept with
the cache (see ``store.cache``).

They tell pictures apart that differ by accident, and are no protection against forgery: sums of
the pixels, weighted by fixed random numbers, cost a sixth of a cryptographic hash.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

from lightning_seg.data.sources.base import Sample

_ROW = 1024  # words of 8 bytes that are added up at once: a block that the processor's cache holds
_DIGITS = 16  # of a digest


class Content(NamedTuple):
    """The digests of one sample: of its image, and of its masks and region."""

    image: str
    truth: str


def content_of(sample: Sample) -> Content:
    """The content of a sample as it was read."""
    # masks are 0 and 1: packed they are so small that an exact hash costs nothing
    truth = _hashed(sample.mask.shape, np.packbits(sample.mask).data)
    if sample.region is not None:
        truth = _hashed((truth, pixels_digest(sample.region)), b"")
    return Content(pixels_digest(sample.image), truth)


def pixels_digest(pixels: np.ndarray) -> str:
    """16 hex digits that identify an array: its shape, its type and all its values.

    A change of one value always changes them, one of many values all but always.
    """
    values = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    whole = len(values) // (8 * _ROW) * (8 * _ROW)
    words = values[:whole].view("<u8").reshape(-1, _ROW)
    sums = np.einsum("ij,j->i", words, _pixel_weights())
    what = (pixels.shape, pixels.dtype.str)
    return _hashed(what, sums.astype("<u8").tobytes() + values[whole:].tobytes())


@cache
def _pixel_weights() -> np.ndarray:
    # odd, so that no change of one word is lost; the raw stream of PCG64 is the same for ever
    return np.random.PCG64(20).random_raw(_ROW).astype(np.uint64) | np.uint64(1)


def _hashed(what: Any, data: Any) -> str:
    found = hashlib.sha1(repr(what).encode(), usedforsecurity=False)
    found.update(data)
    return found.hexdigest()[:_DIGITS]


@cache
def decoders() -> str:
    """The libraries that decode pictures; another version may decode a JPEG to other values."""
    return ", ".join(
        f"{name} {_package_version(name)}" for name in ("pillow", "opencv-python-headless")
    )


def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


@dataclass(frozen=True)
class Fingerprint:
    """The images and masks that one split of a data set holds.

    Attributes:
        root: as it was given; empty where $LIGHTNING_SEG_DATA says it.
        options: further arguments of the data set.
        contents: id -> content, of each image, or of each scan.
        decoders: see `decoders`.
    """

    dataset: str
    root: str
    options: Mapping[str, Any]
    protocol: str
    protocol_digest: str
    split: str
    contents: Mapping[str, Content]
    decoders: str = field(default_factory=decoders)

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the images and masks alone, whatever their names and their order."""
        return _hashed(sorted(map(tuple, self.contents.values())), b"")

    @cached_property
    def short(self) -> str:
        """8 hex digits of everything, for names of folders."""
        place = [self.dataset, self.root, sorted(self.options.items()), self.split]
        return _hashed([*place, self.protocol_digest, self.digest], b"")[:8]

    @property
    def images(self) -> dict[str, str]:
        """id -> digest of the image."""
        return {id: content.image for id, content in self.contents.items()}

    def to_json(self) -> dict[str, Any]:
        """The fingerprint as plain values."""
        return {
            "dataset": self.dataset,
            "root": self.root,
            "options": json.loads(json.dumps(dict(self.options), default=str)),
            "protocol": self.protocol,
            "protocol_digest": self.protocol_digest,
            "split": self.split,
            "digest": self.digest,
            "decoders": self.decoders,
            "contents": {id: " ".join(content) for id, content in self.contents.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Fingerprint | None":
        """The fingerprint that ``to_json`` gave; None where there is none, as in older files."""
        if not values.get("contents"):
            return None
        contents = {id: Content(*text.split()) for id, text in values["contents"].items()}
        known = {name: values[name] for name in cls.__dataclass_fields__ if name != "contents"}
        return cls(**known, contents=contents)


class Agreement(NamedTuple):
    """The degree to which two fingerprints are of the same images.

    Attributes:
        common: ids that both have.
        images, truths: those of them whose image, or whose masks, are the same.
        decoders: whether both were decoded by the same versions.
    """

    common: int
    images: int
    truths: int
    decoders: bool

    @property
    def sentence(self) -> str:
        """The words for what differs; empty where nothing does."""
        if self.images == self.truths == self.common:
            return ""
        cause = "" if self.decoders else " (they were decoded by other versions of the libraries)"
        return (
            f"of {self.common} images with the same names, {self.images} show the same picture "
            f"and {self.truths} have the same masks{cause}"
        )


def agreement(first: Fingerprint, second: Fingerprint) -> Agreement:
    """Compare the contents of the ids that two fingerprints share."""
    common = first.contents.keys() & second.contents.keys()
    ours, theirs = first.contents, second.contents
    return Agreement(
        len(common),
        sum(ours[id].image == theirs[id].image for id in common),
        sum(ours[id].truth == theirs[id].truth for id in common),
        first.decoders == second.decoders,
    )


def content_difference(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
) -> str:
    """Why two scored splits are not of the same images, in words; empty where they are.

    Args:
        first, second: what ``to_json`` gave; scores of older versions, which say nothing of their
            images, differ from none.
    """
    ours, theirs = Fingerprint.from_json(first), Fingerprint.from_json(second)
    if ours is None or theirs is None:
        return ""
    found = agreement(ours, theirs)
    # another library may decode a JPEG to other values, which leaves the truth as it is
    if not found.decoders and found.truths == found.common:
        return ""
    return found.sentence


def repeated_images(contents: Iterable[Content]) -> int:
    """The number of samples that show a picture that an earlier one shows too."""
    counts = Counter(content.image for content in contents)
    return sum(counts.values()) - len(counts)
