"""Is a data set what it claims? Counts, damaged files, masks, duplicates, and what crosses the
splits of a protocol.

``examine_data`` reads every sample once, as training would, and returns a `Report`; ``page`` draws
it. Loads no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from lightning_seg.data.check.annotations import Annotations, annotated_twice
from lightning_seg.data.check.duplicates import SAME_VIEW, Pair, Progress, find_duplicates
from lightning_seg.data.check.facts import Damage, Facts, gather, sample_ids
from lightning_seg.data.check.foreground import (
    SplitForeground,
    foreground_of_splits,
    nearly_full,
)
from lightning_seg.data.check.masks import USUAL, Greys, greys
from lightning_seg.data.check.names import likely_groups
from lightning_seg.data.mask_shares import seems_inverted
from lightning_seg.data.sources.base import Source
from lightning_seg.data.splits import Split
from lightning_seg.files.alike_names import alike_ids

__all__ = [
    "OFFICIAL",
    "SAME_VIEW",
    "USUAL",
    "Crossings",
    "Damage",
    "Facts",
    "Greys",
    "Pair",
    "Report",
    "examine_data",
]

OFFICIAL = {  # data set -> number of its ids in the owners' words
    "chase_db1": 28,
    "cvc_clinicdb": 612,
    "drive": 40,
    "endotect": 200,
    "glas": 165,
    "kvasir_seg": 1000,
    "kvasir_sessile": 196,
    "medico": 160,
    "monuseg": 44,
    "pranet": 2248,
    "stare": 20,
}


class Crossings(NamedTuple):
    """Groups and pairs that a protocol divides. ``groups``: (group, its splits); ``missing``: ids
    that the data lack."""

    protocol: Split
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    pairs: tuple[Pair, ...]
    missing: tuple[str, ...]
    home: Mapping[str, str]  # sample -> split
    annotations: tuple[Annotations, ...] = ()  # of pictures that stand on both sides
    likely: Mapping[str, str] = MappingProxyType(
        {}
    )  # of names that look like frames of one patient

    @property
    def leaks(self) -> bool:
        return bool(self.groups or self.pairs)


@dataclass(frozen=True)
class Report:
    """All that was found.

    ``exit_code``: 1 where something leaks, is damaged or missing, where masks seem inverted or a
    split lacks a class; else 0.
    """

    dataset: str
    classes: tuple[str, ...]
    count: int
    official: int | None
    scans: bool  # samples are a few slices of each scan
    facts: list[Facts]
    damages: list[Damage]
    greys: Greys | None
    near: bool  # near duplicates were searched for
    pairs: list[Pair]
    groups: dict[str, str]
    protocols: list[Crossings]
    annotations: list[Annotations]  # of pictures that stand twice
    synthetic: bool = False
    left_aside: tuple[str, ...] = ()  # what of its folders is not used, in words
    doubts: tuple[str, ...] = ()  # what headers leave open, in words

    @property
    def grouped(self) -> bool:
        """Tell whether patients, sequences or duplicates are known."""
        return self.scans or any(group != id for id, group in self.groups.items())

    @property
    def empty(self) -> list[str]:
        """Samples without any foreground."""
        return [fact.id for fact in self.facts if max(fact.foreground) == 0]

    @property
    def full(self) -> list[str]:
        """Samples of which one class covers everything."""
        return [fact.id for fact in self.facts if max(fact.foreground) == 1]

    @property
    def nearly_full(self) -> list[str]:
        """Samples of which one class covers over nine tenths, but not all."""
        return nearly_full(self.facts)

    @property
    def inverted(self) -> bool:
        """Tell whether masks seem to mark the background."""
        return seems_inverted(self.facts)

    def foreground_of(self, crossings: Crossings) -> list[SplitForeground]:
        """The foreground of each split of a protocol."""
        return foreground_of_splits(self.facts, crossings.home, self.classes)

    def absent_in(self, crossings: Crossings) -> list[SplitForeground]:
        """The splits that lack a class; of scans, of which few slices are looked at, none is
        told."""
        found = [] if self.scans else self.foreground_of(crossings)
        return [one for one in found if one.absent]

    @property
    def same_masks(self) -> list[tuple[str, str]]:
        """Different images with one and the same mask, which is neither empty nor full."""
        first: dict[str, Facts] = {}
        found = []
        for fact in self.facts:
            if (
                0 < max(fact.foreground) < 1
                and fact.id != (other := first.setdefault(fact.mask_hash, fact)).id
            ):
                found += [(other.id, fact.id)] if other.image_hash != fact.image_hash else []
        return found

    @property
    def exit_code(self) -> int:
        incomplete = self.official not in (None, self.count) or any(
            one.missing for one in self.protocols
        )
        leaks = any(one.leaks for one in self.protocols)
        lacking = any(self.absent_in(one) for one in self.protocols)
        return int(bool(self.damages) or incomplete or leaks or self.inverted or lacking)


def examine_data(
    dataset: str,
    source: Source,
    protocols: Sequence[Split],
    threshold: int = USUAL,
    near: bool = True,
    likeness: float = SAME_VIEW,
    progress: Progress = lambda _, __: iter,
) -> Report:
    """Read the whole data set and hold it against the protocols.

    Args:
        dataset: its name in the registry.
        threshold: of its masks.
        near: look for near duplicates too, which takes most of the time; not in images drawn by a
            program, which repeat their shapes by design.
        likeness: from which two pictures are frames of one view (see
            ``duplicates.find_duplicates``).
        progress: (what is done, how often) -> a wrapper of the loop that does it.
    """
    ids = sample_ids(source)
    found = list(progress("reading", len(ids))(gather(source, ids)))
    facts = [one for one in found if isinstance(one, Facts)]
    near = near and not getattr(source, "synthetic", False)
    pairs = find_duplicates(facts, progress, near, likeness)
    annotations = [] if hasattr(source, "expand") else annotated_twice(source, pairs)
    return Report(
        dataset,
        tuple(source.classes),
        len(set(source.groups.values())) if hasattr(source, "expand") else len(source.ids),
        OFFICIAL.get(dataset),
        hasattr(source, "expand"),
        facts,
        [one for one in found if isinstance(one, Damage)],
        greys(facts, threshold),
        near,
        pairs,
        source.groups,
        [_crossings(protocol, source, pairs, annotations) for protocol in protocols],
        annotations,
        bool(getattr(source, "synthetic", False)),
        tuple(getattr(source, "left_aside", ())),
        (*getattr(source, "doubts", ()), *alike_ids(source.ids)),
    )


def _crossings(
    protocol: Split,
    source: Source,
    pairs: Sequence[Pair],
    annotations: Sequence[Annotations],
) -> Crossings:
    home: dict[str, str] = {}
    missing: list[str] = []
    expand = getattr(source, "expand", lambda id: (id,))
    known = set(source.ids) | set(source.groups.values() if hasattr(source, "expand") else ())
    for split, ids in protocol.ids.items():
        missing += [id for id in ids if id not in known]
        home |= {sample: split for id in ids if id in known for sample in expand(id)}
    splits: dict[str, set[str]] = {}
    for id, split in home.items():
        splits.setdefault(source.groups.get(id, id), set()).add(split)
    groups = tuple(
        (group, tuple(sorted(several))) for group, several in splits.items() if len(several) > 1
    )

    def crosses(ids: Sequence[str]) -> bool:
        return len({home[id] for id in ids if id in home}) > 1

    return Crossings(
        protocol,
        groups,
        tuple(pair for pair in pairs if crosses(pair[:2])),
        tuple(sorted(missing)),
        home,
        tuple(each for each in annotations if crosses(each[:2])),
        _likely_crossings(source, home),
    )


def _likely_crossings(
    source: Source,
    home: Mapping[str, str],
) -> dict[str, str]:
    """Pairs of ids whose names look like one patient's, two that stand in different splits: id ->
    id.

    Where groups are known, or the images are drawn by a program, names mean nothing.
    """
    known = any(group != id for id, group in source.groups.items())
    if known or hasattr(source, "expand") or getattr(source, "synthetic", False):
        return {}
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for id, patient in likely_groups(sorted(home)).items():
        other = first.setdefault(patient, id)
        if home[other] != home[id] and other not in found:
            found[other] = id
    return found
