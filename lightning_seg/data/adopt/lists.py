"""Splits that files of names tell: ``train.txt``, ``val.txt`` and ``test.txt``."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from lightning_seg.data.adopt.names import SPLIT_OF, file_stem, words_of

_MATCHED = 0.6  # share of a list's lines that must name pictures


def listed_splits(
    places: Mapping[str, Path], lists: Sequence[Path], notes: list[str]
) -> dict[str, str]:
    """Id -> the split whose list names it; nothing where lists of several splits name one.

    A line holds the name of a picture, with or without its folder and suffix; what follows, such as
    the name of its mask, is not needed.

    Args:
        notes: what is found is added.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for id, path in places.items():
        by_name[file_stem(path).lower()].append(id)
    homes: dict[str, set[str]] = defaultdict(set)
    used: list[Path] = []
    for path in lists:
        # a list of train and val together tells neither
        told = {SPLIT_OF[word] for word in words_of(path.stem) if word in SPLIT_OF}
        lines = _lines_of(path) if len(told) == 1 else []
        named = [by_name[name] for line in lines if (name := _named_in(line, by_name))]
        if named and len(named) >= _MATCHED * len(lines):
            used.append(path)
            for ids in named:
                for id in ids:
                    homes[id] |= told
    if not used:
        return {}
    names = ", ".join(path.name for path in used)
    several = sorted(id for id, splits in homes.items() if len(splits) > 1)
    if several:
        notes.append(
            f"{names} name {len(several)} pictures in several splits ({several[0]}, ...), as folds "
            "do: they are not used"
        )
        return {}
    splits = {id: split for id, [split] in homes.items()}
    counts = Counter(splits.values())
    told_counts = ", ".join(f"{split} {count}" for split, count in sorted(counts.items()))
    notes.append(f"{names} tell the owners' splits: {told_counts}")
    return splits


def _lines_of(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def _named_in(line: str, known: Mapping[str, object]) -> str:
    """The name of a picture that a line holds; '' for none."""
    for text in (line, *line.replace(",", " ").split()[:1]):
        name = PurePosixPath(text.replace("\\", "/")).name
        for stem in (name, file_stem(Path(name or "x"))):
            if stem.lower() in known:
                return stem.lower()
    return ""
