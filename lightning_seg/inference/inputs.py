"""What ``--input`` names: pictures, videos and volumes, in files, folders and patterns; and how a
picture is read for a network."""

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.reading.dicom import check_whole_series
from lightning_seg.data.reading.pictures import IMAGE_SUFFIXES
from lightning_seg.errors import InputError, printable
from lightning_seg.files import real_path
from lightning_seg.files.states import file_state
from lightning_seg.inference.output_names import output_names

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
VOLUME_SUFFIXES = (".nii", ".nii.gz")
KINDS = {"image": "picture", "video": "video", "volume": "volume", "dicom": "DICOM series"}


class Input(NamedTuple):
    """A file, or the folder of a DICOM series.

    Attributes:
        kind: image, video, volume or dicom.
        file: its path below the folder that was given, as it is printed.
        name: of its results, relative to the output, without suffix.
    """

    path: Path
    kind: str
    file: str
    name: str

    def stamp(self) -> str:
        """A text that changes when the file is replaced: its size and time to the nanosecond, of a
        folder those of all files."""
        if self.path.is_file():
            return _stamp_of(self.path)
        listing = [f"{path.name} {_stamp_of(path)}" for path in sorted(_files_in(self.path))]
        digest = hashlib.sha256("\n".join(listing).encode(errors="surrogateescape"))
        return f"{len(listing)} files {digest.hexdigest()[:16]}"


class FoundInputs(NamedTuple):
    """The inputs that a folder or pattern holds.

    Attributes:
        inputs: by name.
        left: what was left aside and why, in words -> how often.
    """

    inputs: list[Input]
    left: Counter[str]

    def describe(self) -> str:
        """``12 pictures and 1 video; left aside: 3 .txt, 1 hidden``."""
        counts = Counter(KINDS[one.kind] for one in self.inputs)
        used = " and ".join(f"{count} {_plural(kind, count)}" for kind, count in counts.items())
        left = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left.items()))
        return used + (f"; left aside: {left}" if left else "")


def _plural(kind: str, count: int) -> str:
    return kind if count == 1 or kind.endswith("series") else f"{kind}s"


def _stamp_of(path: Path) -> str:
    size, *times = file_state(path)
    return f"{size} bytes {' '.join(map(str, times))} ns"


def _files_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file())


def find_inputs(
    text: str,
    output: Path | None = None,
    option: str = "--input",
) -> FoundInputs:
    """The inputs that a file, a folder (and all below it), a DICOM folder or a pattern names, by
    name.

    Links are followed. What lies in ``output`` is no input. InputError, which names ``option``,
    where nothing is found.
    """
    place, left = Path(os.path.expanduser(text)), Counter[str]()
    inner = real_path(output) if output else None
    if place.is_dir():
        root, paths = place, sorted(_files_below(place, inner, left))
    elif place.is_file():
        root, paths = place.parent, [place]
    else:
        paths = sorted(Path(name) for name in glob.glob(str(place), recursive=True))
        root = _fixed_part(place)
        if not paths:
            raise InputError(
                f"{option} {text!r} names no file; give a file, a folder, or a pattern in quotes."
            )
    found = list(_known(paths, inner, left))
    if not found:
        raise InputError(
            f"{option} {text!r} holds no picture, video, volume or DICOM series ({len(paths)} "
            "other files); known are "
            f"{', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES | {*VOLUME_SUFFIXES}))}."
        )
    check_whole_series([path for path, kind in found if kind == "dicom"])
    return FoundInputs(_named(found, root), left)


def _fixed_part(pattern: Path) -> Path:
    """The folder above the first part that holds a wildcard."""
    fixed = list(pattern.parts[:-1])
    wild = next((i for i, part in enumerate(fixed) if glob.has_magic(part)), len(fixed))
    return Path(*fixed[:wild])


def _files_below(
    place: Path,
    output: Path | None,
    left: Counter[str],
) -> Iterator[Path]:
    """All files below a folder, also behind links, each folder once."""
    seen = {real_path(place)}
    for name, folders, files in os.walk(place, followlinks=True):
        folder = Path(name)
        kept = []
        for sub in sorted(folders):
            target = real_path(folder / sub)
            if sub.startswith("."):
                left["hidden"] += 1
            elif target in seen or target == output:
                continue
            else:
                seen.add(target)
                kept.append(sub)
        folders[:] = kept
        yield from (folder / file for file in files)


def _known(
    paths: list[Path], output: Path | None, left: Counter[str]
) -> Iterator[tuple[Path, str]]:
    """The files of known kinds, and each folder that holds DICOM files once."""
    series = set()
    for path in paths:
        kind = _kind_of_file(path.name.lower())
        if output is not None and output in real_path(path).parents:
            continue
        if path.name.startswith("."):
            left["hidden"] += 1
        elif path.is_dir():
            left["folders (a pattern takes ** for what is below)"] += 1
        elif not path.is_file():
            left["broken links or special files"] += 1
        elif kind:
            yield path, kind
        elif not _is_dicom_file(path):
            left[path.suffix.lower() or "without suffix"] += 1
        elif path.parent not in series:
            series.add(path.parent)
            yield path.parent, "dicom"


def _kind_of_file(name: str) -> str | None:
    suffix = Path(name).suffix
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "volume" if name.endswith(VOLUME_SUFFIXES) else None


def _is_dicom_file(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _named(
    found: list[tuple[Path, str]],
    root: Path,
) -> list[Input]:
    """Named by their path below ``root``."""
    files = [
        path.relative_to(root).as_posix() if path != root else real_path(path).name
        for path, _ in found
    ]
    suffixes = [
        "" if kind == "dicom" else _suffix(file)
        for (_, kind), file in zip(found, files, strict=True)
    ]
    names = output_names(files, suffixes)
    return [
        Input(path, kind, printable(file), name)
        for (path, kind), file, name in zip(found, files, names, strict=True)
    ]


def _suffix(file: str) -> str:
    return file[-7:] if file.lower().endswith(".nii.gz") else Path(file).suffix
