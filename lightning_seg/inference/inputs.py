"""What ``--input`` names: pictures, videos and volumes, in files, folders and patterns; and how a picture is read for a network."""

import glob
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lightning_seg.data.sources.base import IMAGE_SUFFIXES, read_grey, read_image
from lightning_seg.errors import InputError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
VOLUME_SUFFIXES = (".nii", ".nii.gz")
MAX_PIXELS = 178_956_970  # where Pillow refuses a picture as a decompression bomb


class Input(NamedTuple):
    """A file, or the folder of a DICOM series.

    Attributes:
        kind: image, video, volume or dicom.
        file: its path below the folder that was given.
        name: of its results, relative to the output, without suffix.
    """

    path: Path
    kind: str
    file: str
    name: str


def find_inputs(text: str, output: Path | None = None, option: str = "--input") -> list[Input]:
    """The inputs that a file, a folder (and all below it), a DICOM folder or a pattern names, by name.

    Files of other kinds and what lies in ``output`` are left aside. InputError, which names ``option``, where nothing is left.
    """
    place = Path(text).expanduser()
    if place.is_dir():
        root, paths = place, sorted(place.rglob("*"))
    elif place.is_file():
        root, paths = place.parent, [place]
    else:
        paths = sorted(Path(name) for name in glob.glob(str(place), recursive=True))
        root = _fixed_part(place)
        if not paths:
            raise InputError(
                f"{option} {text!r} names no file; give a file, a folder, or a pattern in quotes."
            )
    found = list(_kinds(paths, output and output.resolve()))
    if place.is_dir() and not found and _is_dicom(place):
        return [Input(place, "dicom", *[place.resolve().name] * 2)]
    if not found:
        raise InputError(
            f"{option} {text!r} holds no picture, video, volume or DICOM series ({len(paths)} other files); known are "
            f"{', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES | {*VOLUME_SUFFIXES}))}."
        )
    return _named(found, root)


def _fixed_part(pattern: Path) -> Path:
    """The folder above the first part that holds a wildcard."""
    fixed = list(pattern.parts[:-1])
    wild = next((i for i, part in enumerate(fixed) if glob.has_magic(part)), len(fixed))
    return Path(*fixed[:wild])


def _kinds(paths: list[Path], output: Path | None) -> Iterator[tuple[Path, str]]:
    for path in paths:
        kind = _kind(path.name.lower())
        if (
            kind
            and path.is_file()
            and not path.name.startswith(".")
            and output not in path.resolve().parents
        ):
            yield path, kind


def _kind(name: str) -> str | None:
    suffix = Path(name).suffix
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "volume" if name.endswith(VOLUME_SUFFIXES) else None


def _is_dicom(folder: Path) -> bool:
    return any(_is_dicom_file(path) for path in sorted(folder.iterdir()) if path.is_file())


def _is_dicom_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _named(found: list[tuple[Path, str]], root: Path) -> list[Input]:
    """Named by their path below ``root``; with its suffix where two would share a name."""
    files = [path.relative_to(root).as_posix() for path, _ in found]
    bare = [file.removesuffix(_suffix(file)) for file in files]
    often = Counter(bare)
    return [
        Input(path, kind, file, file if often[name] > 1 else name)
        for (path, kind), file, name in zip(found, files, bare, strict=True)
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
