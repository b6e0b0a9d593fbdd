"""Which files are pictures and which are masks, by what they look like and by what they are
called."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lightning_seg.data.adopt.looks import SAMPLED, Look, evenly_chosen
from lightning_seg.data.adopt.names import IMAGE_WORDS, MASK_WORDS, OTHER_WORDS, words_of
from lightning_seg.data.adopt.survey import Cluster
from lightning_seg.data.reading.folders import Aside

_MOSTLY = 0.7  # share of the samples that must look like masks
_MANY = 60  # patterns, from which fewer samples stand for each


class Roles(NamedTuple):
    """The patterns of pictures and of masks."""

    images: list[Cluster]
    masks: list[Cluster]


def assign_roles(
    clusters: Sequence[Cluster],
    look: Callable[..., Look | None],
    aside: Aside,
    undecoded: str = "pictures that cannot be decoded",
) -> Roles:
    """Tell pictures from masks; drawings about pictures, and what cannot be read, is left aside.

    Args:
        undecoded: the reason for files that cannot be read.
    """
    images: list[Cluster] = []
    masks: list[Cluster] = []
    unclear: list[Cluster] = []
    count = SAMPLED if len(clusters) < _MANY else 2
    for cluster in clusters:
        looks = [look(path) for path in evenly_chosen(cluster.files, count)]
        seen = [one for one in looks if one is not None]
        if not seen:
            _leave(cluster, undecoded, aside)
        elif _own_words(cluster) & OTHER_WORDS:
            _leave(cluster, "drawings such as boxes, outlines and overlays, by their names", aside)
        else:
            home = {True: masks, False: images, None: unclear}[_looks_like_mask(seen)]
            home.append(cluster)
    for cluster in unclear:
        (masks if _own_words(cluster) & MASK_WORDS else images).append(cluster)
    if not images and masks:
        # pictures of two values, such as scanned outlines
        named = [one for one in masks if _own_words(one) & MASK_WORDS]
        images = [one for one in masks if one not in named]
        masks = named
    if not masks:
        named = [one for one in images if _own_words(one) & MASK_WORDS]
        rest = [one for one in images if one not in named]
        images, masks = (rest, named) if rest else (images, [])
    return Roles(images, masks)


def _own_words(cluster: Cluster) -> set[str]:
    """Words of the last folder and of the name: those of higher folders hold for both kinds."""
    parts = cluster.pattern.split("/")
    last = " ".join(parts[-2:]).rpartition(".")[0]
    return {*words_of(last)}


def _looks_like_mask(looks: Sequence[Look]) -> bool | None:
    told = [look.masklike for look in looks if look.masklike is not None]
    return sum(told) >= _MOSTLY * len(told) if told else None


def _leave(cluster: Cluster, reason: str, aside: Aside) -> None:
    for path in cluster.files:
        aside.add(reason, path)


def image_named(cluster: Cluster) -> bool:
    """Tell whether a pattern is called pictures."""
    return bool(_own_words(cluster) & IMAGE_WORDS)


def mask_named(cluster: Cluster) -> bool:
    """Tell whether a pattern is called masks."""
    return bool(_own_words(cluster) & MASK_WORDS)
