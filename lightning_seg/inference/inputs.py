"""What ``--input`` names: pictures, videos and volumes, in files, folders and patterns; and how a picture is read for a network."""

import glob
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lightning_seg.data.sources.base import IMAGE_SUFFIXES, read_grey, read_image
from lightning_seg.errors import InputError
from lightning_seg.inference.output_names import output_names, printable

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
        """What changes when the file is replaced: size and time to the nanosecond, of a folder those of all files."""
        if self.path.is_file():
            return _stamp(self.path)
        listing = [f"{path.name} {_stamp(path)}" for path in sorted(_files_in(self.path))]
        digest = hashlib.sha256("\n".join(listing).encode(errors="surrogateescape"))
        return f"{len(listing)} files {digest.hexdigest()[:16]}"


class FoundInputs(NamedTuple):
    """What a folder or pattern holds.

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


def _stamp(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} bytes {found.st_mtime_ns} ns"


def _files_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file())


def find_inputs(text: str, output: Path | None = None, option: str = "--input") -> FoundInputs:
    """The inputs that a file, a folder (and all below it), a DICOM folder or a pattern names, by name.

    Links are followed. What lies in ``output`` is no input. InputError, which names ``option``, where nothing is found.
    """
    place, left = Path(text).expanduser(), Counter[str]()
    if place.is_dir():
        root, paths = place, sorted(_below(place, output and output.resolve(), left))
    elif place.is_file():
        root, paths = place.parent, [place]
    else:
        paths = sorted(Path(name) for name in glob.glob(str(place), recursive=True))
        root = _fixed_part(place)
        if not paths:
            raise InputError(
                f"{option} {text!r} names no file; give a file, a folder, or a pattern in quotes."
            )
    found = list(_known(paths, output and output.resolve(), left))
    if not found:
        raise InputError(
            f"{option} {text!r} holds no picture, video, volume or DICOM series ({len(paths)} other files); known are "
            f"{', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES | {*VOLUME_SUFFIXES}))}."
        )
    return FoundInputs(_named(found, root), left)


def _fixed_part(pattern: Path) -> Path:
    """The folder above the first part that holds a wildcard."""
    fixed = list(pattern.parts[:-1])
    wild = next((i for i, part in enumerate(fixed) if glob.has_magic(part)), len(fixed))
    return Path(*fixed[:wild])


def _below(place: Path, output: Path | None, left: Counter[str]) -> Iterator[Path]:
    """All files below a folder, also behind links, each folder once."""
    seen = {place.resolve()}
    for name, folders, files in os.walk(place, followlinks=True):
        folder = Path(name)
        kept = []
        for sub in sorted(folders):
            target = (folder / sub).resolve()
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
        kind = _kind(path.name.lower())
        if output is not None and output in path.resolve().parents:
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


def _kind(name: str) -> str | None:
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


def _named(found: list[tuple[Path, str]], root: Path) -> list[Input]:
    """Named by their path below ``root``."""
    files = [
        path.relative_to(root).as_posix() if path != root else path.resolve().name
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


def allow_pixels(count: int) -> None:
    """Set, for this process, how many pixels a picture may have before `read_picture` takes it for a decompression bomb."""
    if count < 1:
        raise InputError(f"max_pixels is {count}; give a whole number from 1.")
    Image.MAX_IMAGE_PIXELS = (count + 1) // 2  # Pillow warns above it, and refuses above twice that
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def read_picture(path: Path, channels: int, content: bytes | None = None) -> np.ndarray:
    """The picture (H, W, C) uint8 as training reads it, RGB or grey; InputError for a file that is none.

    ``content``: of the file, where it is in memory and ``path`` is but its name.
    """
    check_channels(channels)
    try:
        return (read_image if channels == 3 else read_grey)(path, content)
    except InputError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise InputError(
                f"{path} has more pixels than the {2 * (Image.MAX_IMAGE_PIXELS or 0)} allowed and may be a decompression "
                "bomb; if you trust it, raise --max_pixels."
            ) from error
        raise


def as_picture(image: "np.ndarray | Image.Image", channels: int) -> np.ndarray:
    """A picture in memory as (H, W, C) uint8; InputError for another type or shape.

    Args:
        image: a PIL image, or an array (H, W), (H, W, 1) or (H, W, 3) of uint8, colours as RGB.
    """
    check_channels(channels)
    if isinstance(image, np.ndarray):
        grey = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1)
        if (
            image.dtype != np.uint8
            or not (grey or (image.ndim == 3 and image.shape[2] == 3))
            or 0 in image.shape
        ):
            raise InputError(
                f"an array of shape {image.shape} and type {image.dtype} is no picture; give (H, W) grey values or "
                "(H, W, 3) RGB as uint8."
            )
        image = Image.fromarray(image.reshape(image.shape[:2]) if grey else image)
    if image.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        raise InputError(
            f"a picture of the mode {image.mode} has no clear colours; convert it to RGB or L first."
        )
    found = np.array(image.convert("RGB"))
    return found if channels == 3 else np.array(Image.fromarray(found).convert("L"))[..., None]


def check_channels(channels: int) -> None:
    """InputError for a network whose input is no picture."""
    if channels not in (1, 3):
        raise InputError(
            f"this network takes {channels} channels, which no picture has (3 are RGB, 1 is grey); give it volumes."
        )
