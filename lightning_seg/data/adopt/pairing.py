"""Which mask belongs to which picture, told by names and folders alone.

In this order a mask goes to the picture

* whose name its own contains, the longest such name: ``a_mask``, ``mask-a``, ``a_mask_1``;
* that is alone in the folder that holds both: ``7/images/7.png`` and ``7/masks/nucleus3.png``;
* whose name is the same without the words that all names of their patterns share:
  ``21_training`` and ``21_manual1``.

Of several such pictures it takes the one whose folders have most words in common with its own.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.adopt.names import (
    IMAGE_WORDS,
    MASK_WORDS,
    SPLIT_OF,
    file_stem,
    folder_words,
    general_name,
    split_named,
    without_words,
    words_of,
)
from lightning_seg.data.adopt.survey import Cluster
from lightning_seg.data.reading.folders import Aside

Words = tuple[str, ...]


class PairedMask(NamedTuple):
    """A mask of a picture.

    Attributes:
        sort: the words by which masks of several sorts differ: of its folders and name, without
            those of the picture and without numbers.
    """

    path: Path
    sort: Words


class _Index:
    """Pictures by what masks may know of them."""

    def __init__(self, images: Sequence[Cluster], root: Path) -> None:
        self.root = root
        self.by_name: dict[Words, list[Path]] = defaultdict(list)
        self.by_core: dict[Words, list[Path]] = defaultdict(list)
        self.below: dict[Path, list[Path]] = defaultdict(list)
        for cluster in images:
            names = {path: words_of(file_stem(path)) for path in cluster.files}
            shared = _shared_ends(list(names.values()))
            for path, words in names.items():
                self.by_name[words].append(path)
                self.by_core[_core(words, shared)].append(path)
                self.by_core[_plain_core(words)].append(path)
                # a scan may be a folder, with its mask inside
                for folder in (path, *path.parents):
                    self.below[folder].append(path)

    def containing(self, words: Words) -> list[Path]:
        """The pictures of the longest name that stands in ``words``."""
        for length in range(len(words), 0, -1):
            starts = range(len(words) - length + 1)
            parts = [words[start : start + length] for start in starts]
            found = [path for part in parts for path in self.by_name.get(part, ())]
            if found:
                return found
        return []

    def alone_with(self, mask: Path) -> list[Path]:
        """The picture that is the only one in the nearest folder above the mask that has any."""
        for folder in mask.parents:
            if folder == self.root.parent:
                return []
            known = self.below.get(folder, [])
            if known:
                return known if len(known) == 1 else []
        return []

    def of_core(self, words: Words, shared: tuple[int, int]) -> list[Path]:
        """The pictures whose names without what all share are that of the mask."""
        for core in (_core(words, shared), _plain_core(words)):
            if self.by_core.get(core):
                return list(dict.fromkeys(self.by_core[core]))
        return []


def pair_masks(
    images: Sequence[Cluster],
    masks: Sequence[Cluster],
    root: Path,
    aside: Aside,
) -> dict[Path, list[PairedMask]]:
    """Picture -> its masks, for all pictures; masks that fit none, or several, are left aside."""
    index = _Index(images, root)
    found: dict[Path, list[PairedMask]] = {}
    for cluster in images:
        found |= {path: [] for path in cluster.files}
    for cluster in masks:
        shared = _shared_ends([words_of(file_stem(path)) for path in cluster.files])
        for path in cluster.files:
            candidates = _candidates(index, path, shared)
            nearest = _nearest(candidates, path, root)
            if len(nearest) == 1:
                found[nearest[0]].append(PairedMask(path, _sort_of(path, nearest[0], root)))
            else:
                fits = "several pictures" if nearest else "no picture"
                aside.add(f"masks that fit {fits} by name", path)
    return found


def _candidates(index: _Index, mask: Path, shared: tuple[int, int]) -> list[Path]:
    words = words_of(file_stem(mask))
    contained = index.containing(words)
    alone = index.alone_with(mask)
    # a picture named 1 or image is contained in many names by chance
    if alone and not set(alone) & set(contained):
        return alone
    return contained or index.of_core(words, shared)


def _nearest(candidates: list[Path], mask: Path, root: Path) -> list[Path]:
    """Those whose folders have most in common with the mask's."""
    if len(candidates) < 2:
        return candidates
    scores = {path: _affinity(path, mask, root) for path in candidates}
    best = max(scores.values())
    return [path for path, score in scores.items() if score == best]


def _affinity(image: Path, mask: Path, root: Path) -> float:
    ours, theirs = folder_words(image.parent, root), folder_words(mask.parent, root)
    left = list(theirs)
    common = 0
    for word in ours:
        if word in left:
            left.remove(word)
            common += 1
    split, other = split_named(ours), split_named(theirs)
    astray = bool(split and other and split != other)
    inner = image.parent.relative_to(root).parts
    same = sum(a == b for a, b in zip(inner, mask.parent.relative_to(root).parts, strict=False))
    named = 0.5 * bool(IMAGE_WORDS & set(words_of(image.parent.name)))
    return common + same + named - 10 * astray - 0.01 * len(ours)


def _sort_of(mask: Path, image: Path, root: Path) -> Words:
    picture = (*words_of(file_stem(image)), *folder_words(image.parent, root))
    name = words_of(file_stem(mask))
    folders = folder_words(mask.parent, root)
    random = general_name(file_stem(mask)) == "*"
    told = folders if random or not _shares_name(name, image) else (*folders, *name)
    own = without_words(told, (*picture, *SPLIT_OF))
    return tuple(word for word in own if not word.isdigit())


def _shares_name(name: Words, image: Path) -> bool:
    """Tell whether a mask's name speaks of the picture, so that its other words speak of the
    mask."""
    if {*name} & MASK_WORDS:
        return True
    ours = {*words_of(file_stem(image))}
    return 2 * len(ours & {*name}) >= len(ours)


def _shared_ends(names: Sequence[Words]) -> tuple[int, int]:
    """How many first and last words are the same in all names."""
    if len(names) < 2:
        return 0, 0
    shortest = min(map(len, names))
    first = _shared_count(names, shortest)
    last = _shared_count([name[::-1] for name in names], shortest - first)
    return first, last


def _shared_count(names: Sequence[Words], most: int) -> int:
    for place in range(most):
        if len({name[place] for name in names}) > 1:
            return place
    return most


def _core(words: Words, shared: tuple[int, int]) -> Words:
    first, last = shared
    return _numbers_plain(words[first : len(words) - last])


def _plain_core(words: Words) -> Words:
    """The name without what only says that it is a picture, a mask or of a split."""
    return _numbers_plain(without_words(words, MASK_WORDS | IMAGE_WORDS | SPLIT_OF.keys()))


def _numbers_plain(words: Words) -> Words:
    return tuple(str(int(word)) if word.isdigit() else word for word in words)
