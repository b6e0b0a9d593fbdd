"""What was found out about the same pictures before: likenesses, kept by the pictures' content."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from lightning_seg.data.check.facts import Facts
from lightning_seg.data.check.registration import Likeness
from lightning_seg.data.store.folders import default_folder
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole

# the places of two pictures, and whether one was compared as a negative
Likenesses = dict[tuple[int, int, bool], Likeness]


def kept_likenesses(facts: Sequence[Facts], search: Callable[[], Likenesses]) -> Likenesses:
    """What ``search`` finds among these pictures, from the cache where they were searched before.

    The name of the cache's file is a digest of the pictures and of this folder's code.
    """
    file = default_folder() / "checks" / f"{_digest(facts)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        rows = json.loads(file.read_text(encoding="utf-8"))
        return {(i, j, negative): Likeness(*found) for i, j, negative, *found in rows}
    found = search()
    rows = [[*pair, *likeness] for pair, likeness in found.items()]
    with contextlib.suppress(InputError):  # a cache that cannot be written is none
        write_whole(file, json.dumps(rows).encode())
    return found


def _digest(facts: Sequence[Facts]) -> str:
    code = [file.read_text(encoding="utf-8") for file in sorted(Path(__file__).parent.glob("*.py"))]
    content = [cv2.__version__, code, [fact.image_hash for fact in facts]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]
