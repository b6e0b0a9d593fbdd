"""Groups that pictures show themselves: those of one view, such as frames of one video."""

from collections.abc import Mapping, Sequence

from lightning_seg.data.adopt.division import Division
from lightning_seg.data.adopt.facts import SampleFacts
from lightning_seg.data.check.duplicates import find_duplicates
from lightning_seg.data.check.facts import Facts
from lightning_seg.tables import count_text

MOST_PICTURES = 2500  # that are compared; the time grows with their number
_LARGEST_SHARE = 0.34  # of all pictures in one group, above which standard views look alike


def group_alike(
    samples: Mapping[str, SampleFacts],
    division: Division,
) -> None:
    """Put pictures that show the same into one group, where nothing else tells groups.

    Args:
        samples: with their views, by id.
    """
    seen = {id: sample for id, sample in samples.items() if sample.view is not None}
    facts = [_facts_of(id, sample) for id, sample in seen.items()]
    pairs = find_duplicates(facts)
    if not pairs:
        division.notes.append(f"no two of the {len(facts)} pictures show the same view")
        return
    groups = _joined(list(seen), [(pair.first, pair.second) for pair in pairs])
    sizes = [len(members) for members in groups]
    if max(sizes) > _LARGEST_SHARE * len(facts):
        division.notes.append(
            f"{max(sizes)} of {len(facts)} pictures look alike, as standard views do; they are "
            "taken as of different patients"
        )
        return
    several = [members for members in groups if len(members) > 1]
    for members in several:
        for id in members:
            division.groups[id] = f"view {members[0]}"
    count = sum(map(len, several))
    division.groups_from = (
        f"pictures that show the same view: {count} of them in "
        f"{count_text(len(several), 'group')}; patients and videos themselves are unknown"
    )


def say_repeated(
    samples: Mapping[str, SampleFacts],
    division: Division,
) -> None:
    """Note pictures that stand in several splits, pixel for pixel, where nothing has said it."""
    homes: dict[str, list[str]] = {}
    for id, sample in samples.items():
        if id in division.splits:
            homes.setdefault(sample.image_hash, []).append(id)
    several = [ids for ids in homes.values() if len({division.splits[id] for id in ids}) > 1]
    if not several or division.leaks:
        return
    division.leaks = True
    shown = " and ".join(f"{id} ({division.splits[id]})" for id in several[0][:2])
    division.notes.append(
        f"LEAKS: {len(several)} pictures stand in several splits, pixel for pixel (first {shown}); "
        "scores say less of new pictures than they seem to"
    )


def _facts_of(id: str, sample: SampleFacts) -> Facts:
    small = sample.view
    assert small is not None
    return Facts(id, (*sample.size, 1), (), 0.0, sample.image_hash, "", None, small)


def _joined(ids: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The ids, those that pairs connect together."""
    home = {id: id for id in ids}

    def root(id: str) -> str:
        while home[id] != id:
            home[id] = home[home[id]]
            id = home[id]
        return id

    for first, second in pairs:
        home[root(second)] = root(first)
    members: dict[str, list[str]] = {}
    for id in ids:
        members.setdefault(root(id), []).append(id)
    return list(members.values())
