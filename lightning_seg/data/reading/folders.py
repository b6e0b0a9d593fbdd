"""Files below a folder: also those behind links, and what of them is left aside."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_SYSTEM = ("__MACOSX", "@eaDir")  # folders that programs leave behind
_SHOWN = 3


@dataclass
class Aside:
    """Files that a choice leaves aside: reason -> files."""

    reasons: dict[str, list[Path]] = field(default_factory=dict)

    def add(self, reason: str, path: Path) -> None:
        """Leave ``path`` aside."""
        self.reasons.setdefault(reason, []).append(path)

    def sentences(self) -> list[str]:
        """``files that are no pictures: 3 (a.txt, b.txt, c.dcm)`` for each reason."""
        return [f"{why}: {len(paths)} ({_few_names(paths)})" for why, paths in self.reasons.items()]


def _few_names(paths: list[Path]) -> str:
    names = [path.name for path in paths[:_SHOWN]]
    return ", ".join([*names, "..."] if len(paths) > _SHOWN else names)


def walk_files(root: Path) -> Iterator[Path]:
    """All files below ``root`` by name, also behind linked folders, each folder once; none
    hidden."""
    seen: set[str] = set()
    for place, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(place, name) for name in sorted(names) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM
