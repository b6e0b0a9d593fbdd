"""Slices that wait until their scan is whole, so that a volume is post-processed in three
dimensions."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lightning_seg.inference.mask_rule import MaskRule

Content = TypeVar("Content")
Probability = NDArray[np.float32]


def scans_of(
    data: Any,
    split: str,
) -> dict[str, tuple[str, ...]]:
    """scan -> its slices in order, of a datamodule's split; empty where its images are no
    slices."""
    if not hasattr(data.source, "spacing"):
        return {}
    return {scan: data.source.expand(scan) for scan in data.split.ids[split]}


class WholeScans(Generic[Content]):
    """Probabilities in, slice by slice; probabilities of post-processed masks out, scan by scan.

    What is no slice of a known scan comes back at once, post-processed in two dimensions.

    Args:
        rule: see `MaskRule.refined`.
        scans: scan -> its slices in order.
    """

    def __init__(
        self,
        rule: MaskRule,
        scans: Mapping[str, Sequence[str]],
    ) -> None:
        self._rule, self._scans = rule, scans
        self._scan = {id: scan for scan, ids in scans.items() for id in ids}
        self._held: dict[str, dict[str, tuple[Content, Probability]]] = defaultdict(dict)

    def add(
        self, id: str, content: Content, probability: Probability
    ) -> list[tuple[Content, Probability]]:
        """A slice (K, H, W) with whatever belongs to it; what is whole now."""
        scan = self._scan.get(id)
        if scan is None or not self._rule.steps:
            return [(content, self._rule.refined(probability))]
        self._held[scan][id] = content, probability
        return self._finished(scan) if len(self._held[scan]) == len(self._scans[scan]) else []

    def rest(self) -> list[tuple[Content, Probability]]:
        """The slices of scans that did not become whole, which are post-processed as what they
        are."""
        return [one for scan in list(self._held) for one in self._finished(scan)]

    def _finished(self, scan: str) -> list[tuple[Content, Probability]]:
        held = self._held.pop(scan)
        slices = [held[id] for id in self._scans[scan] if id in held]
        volume = self._rule.refined(np.stack([probability for _, probability in slices], axis=1))
        return [(content, volume[:, place]) for place, (content, _) in enumerate(slices)]
