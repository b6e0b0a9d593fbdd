"""What the recipe is planned from: sizes, share and thickness of the foreground, by reading
samples."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np

from lightning_seg.data.adopt.looks import evenly_chosen
from lightning_seg.data.check.views import View, view
from lightning_seg.data.fingerprint import pixels_digest
from lightning_seg.data.mask_shares import covering_doubt, mask_share, seems_inverted
from lightning_seg.data.sources.base import Sample
from lightning_seg.errors import InputError

_PIXELS = 1_500_000_000  # that are read in all; of larger data sets some samples stand for all
_THREADS = 4


class SampleFacts(NamedTuple):
    """One sample as training reads it.

    Attributes:
        size: height and width.
        foreground: share of the pixels of each class.
        rim: share of the outermost pixels that belong to a class.
        thickness: mean width of the foreground in pixels; 0 where there is none.
        image_hash: the same for the same pixels.
        view: for the search of pictures that show the same; None where it is not asked for.
    """

    size: tuple[int, int]
    foreground: tuple[float, ...]
    rim: float
    thickness: float
    image_hash: str = ""
    view: View | None = None


class DataFacts(NamedTuple):
    """The samples that were read by id, and the ids that cannot be: id -> why.

    Attributes:
        whole: whether all samples were read.
    """

    by_id: dict[str, SampleFacts]
    damaged: dict[str, str]
    whole: bool

    @property
    def samples(self) -> list[SampleFacts]:
        """Those that were read."""
        return list(self.by_id.values())

    def shown_classes(self) -> dict[str, set[int]]:
        """id -> the classes of which it shows something."""
        read = self.by_id.items()
        return {id: {k for k, share in enumerate(one.foreground) if share} for id, one in read}

    @property
    def sides(self) -> np.ndarray:
        """The longer side of each sample."""
        return np.array([max(sample.size) for sample in self.samples])

    @property
    def one_size(self) -> bool:
        """Tell whether all samples have one size."""
        return len({sample.size for sample in self.samples}) == 1

    @property
    def foreground(self) -> np.ndarray:
        """(N, K): share of each class."""
        return np.array([sample.foreground for sample in self.samples])

    @property
    def thickness(self) -> float:
        """The median width of foreground in pixels, where there is any."""
        shown = [sample.thickness for sample in self.samples if sample.thickness]
        return float(np.median(shown)) if shown else 0.0


def mask_doubts(facts: DataFacts) -> list[str]:
    """Doubts about masks, in words: inverted, or nearly whole pictures."""
    doubt = covering_doubt(facts.samples, "mask")
    cure = "; invert them unless it is so" if seems_inverted(facts.samples) else ""
    return [f"LOOK: {doubt}{cure}"] if doubt else []


def read_facts(source: Any, ids: Sequence[str], pixels: int, views: bool = False) -> DataFacts:
    """Read samples, all of them where they are not too many.

    Args:
        pixels: of a sample, about.
        views: keep small copies of the pictures.
    """
    count = max(24, _PIXELS // max(pixels, 1))
    chosen = evenly_chosen(list(ids), count)
    workers = 1 if hasattr(source, "expand") else _THREADS
    read: dict[str, SampleFacts] = {}
    damaged: dict[str, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        for id, found in zip(
            chosen, pool.map(lambda id: _facts(source, id, views), chosen), strict=True
        ):
            if isinstance(found, SampleFacts):
                read[id] = found
            else:
                damaged[id] = found
    whole = len(chosen) == len(ids) and not hasattr(source, "expand")
    return DataFacts(read, damaged, whole)


def _facts(source: Any, id: str, views: bool) -> SampleFacts | str:
    try:
        sample: Sample = source.read(id)
    except InputError as error:
        return str(error)
    size = sample.image.shape[0], sample.image.shape[1]
    thickness, digest = _thickness(sample.mask.max(axis=2)), pixels_digest(sample.image)
    found = SampleFacts(size, *mask_share(sample.mask), thickness, digest)
    return found._replace(view=view(sample.image)) if views else found


def _thickness(mask: np.ndarray) -> float:
    """Twice the area over the outline: the width of a long strip, half the diameter of a disc."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    length = sum(cv2.arcLength(outline, True) for outline in outlines)
    return float(2 * mask.sum() / length) if length else 0.0
