"""What a data set offers to the rest of the package, and the file reading that several data sets share."""

import gzip
import io
import os
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lightning_seg.errors import InputError, unknown

DATA_VARIABLE = "LIGHTNING_SEG_DATA"
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
)
FORMATS = (
    "BMP",
    "GIF",
    "JPEG",
    "PNG",
    "PPM",
    "TIFF",
    "WEBP",
)  # Pillow knows others that start programs (EPS)
DAMAGED = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    zlib.error,
    Image.DecompressionBombError,
)  # what Pillow raises
_WIDE = ("I", "I;16", "I;16L", "I;16B", "F")  # Pillow's grey modes of more than 8 bits

DATASETS: dict[str, str] = {  # registry name -> "module:class", imported when used
    "chase_db1": "lightning_seg.data.sources.chase_db1:CHASEDB1",
    "cvc_clinicdb": "lightning_seg.data.sources.cvc_clinicdb:CVCClinicDB",
    "drive": "lightning_seg.data.sources.drive:DRIVE",
    "endotect": "lightning_seg.data.sources.medico_endotect:EndoTect",
    "folder": "lightning_seg.data.sources.folder:Folder",
    "glas": "lightning_seg.data.sources.glas:GlaS",
    "kvasir_seg": "lightning_seg.data.sources.kvasir_seg:KvasirSEG",
    "kvasir_sessile": "lightning_seg.data.sources.kvasir_sessile:KvasirSessile",
    "lits": "lightning_seg.data.sources.lits:LiTS",
    "lits_2d": "lightning_seg.data.sources.lits_2d:LiTS2D",
    "medico": "lightning_seg.data.sources.medico_endotect:Medico",
    "monuseg": "lightning_seg.data.sources.monuseg:MoNuSeg",
    "phantom_polyp": "lightning_seg.data.sources.phantom:PhantomPolyp",
    "phantom_ct": "lightning_seg.data.sources.phantom:PhantomCT",
    "pranet": "lightning_seg.data.sources.pranet:PraNet",
    "stare": "lightning_seg.data.sources.stare:STARE",
    "synapse": "lightning_seg.data.sources.synapse:Synapse",
}


class Sample(NamedTuple):
    """One image (H, W, C) uint8, its masks (H, W, K) uint8 in {0, 1} and, where one is known, its region of interest.

    region: (H, W) uint8, or None: 0 ignored, 1 counted but outside the field of view, 2 inside it.
    """

    image: np.ndarray
    mask: np.ndarray
    region: np.ndarray | None = None


class Source(Protocol):
    """A data set: which samples there are, which of them belong together, and how one is read.

    ``classes``, ``in_channels`` and ``default_protocol`` are class attributes: they are known without opening any file. An
    argument ``classes`` or ``in_channels`` of the constructor takes their place. Where no file of ids can be shipped, a
    class names its own rules, ``rules``, or a source assigns its ids, ``assigned`` (see ``rules``).

    A source may have more, each of which has its default:

    * ``files(id) -> tuple[Path, ...]``: what ``read(id)`` opens; with it, samples can be kept in a cache on disk.
    * ``regions``: True where its samples have regions (default: False).
    * ``expand(id) -> tuple[str, ...]``: the samples of an id of the protocol, the slices of a scan; ``read`` takes those.
    * ``store(ids, size, cache) -> Store``: its own store of the samples ``ids`` (see ``cache``).
    * ``contents(ids) -> dict[str, Content]``: what these samples show, by larger units (see ``fingerprint``).
    * ``spacing(scan, size) -> tuple[float, ...]``: mm between slices, rows and columns at a size; with it scans are scored whole.
    * ``training_ids(ids) -> Sequence[str]``: which of the training samples an epoch visits, and how often each.
    """

    classes: tuple[str, ...]
    in_channels: int
    default_protocol: str
    ids: list[str]  # sorted
    groups: dict[
        str, str
    ]  # id -> patient, sequence or near-duplicate group; the id itself where none is known

    def read(self, id: str) -> Sample: ...


def source_class(name: str) -> type[Any]:
    """The class of the data set ``name``; InputError for an unknown name."""
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    module, _, attribute = DATASETS[name].partition(":")
    loaded: type[Any] = getattr(import_module(module), attribute)
    return loaded


def find_root(name: str, root: Path | None, candidates: Sequence[str]) -> Path:
    """``root`` where it is given, else the first of ``candidates`` that exists in the folder $LIGHTNING_SEG_DATA."""
    if root is not None:
        if not root.exists():
            raise InputError(
                f"{name}: the root {str(root)!r} does not exist; give the folder that holds the data set."
            )
        return root
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        raise InputError(
            f"{name}: no root is given and {DATA_VARIABLE} is not set; give one of them."
        )
    places = [Path(folder) / candidate for candidate in candidates]
    for place in places:
        if place.exists():
            return place
    looked = ", ".join(str(place) for place in places)
    raise InputError(
        f"{name}: nothing found at {looked}; give root, or put the data set into one of these places."
    )


def find_folder(place: Path, names: Sequence[str], parts: Sequence[str]) -> Path | None:
    """The first of ``place`` and the folders ``names`` in it that holds all ``parts`` as folders; None if none does."""
    folders = (place, *(place / name for name in names))
    return next(
        (folder for folder in folders if all((folder / part).is_dir() for part in parts)), None
    )


def _load(
    path: Path, convert: Callable[[Image.Image, Path], np.ndarray], content: bytes | None = None
) -> np.ndarray:
    # Pillow refuses a truncated JPEG, of which OpenCV may return a part. Same pixels, 1.2 times the time.
    try:
        if content is None and path.suffix.lower() == ".gz":
            content = gzip.decompress(path.read_bytes())
        with Image.open(
            path if content is None else io.BytesIO(content), formats=FORMATS
        ) as picture:
            ImageOps.exif_transpose(
                picture, in_place=True
            )  # a copy of a large picture is gigabytes
            return convert(picture, path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; restore the file.") from None
    except UnidentifiedImageError:
        size = path.stat().st_size if content is None else len(content)
        raise InputError(
            f"{path} ({size} bytes) is no readable image; fetch or copy this file again."
        ) from None
    except DAMAGED as error:
        raise InputError(
            f"{path} cannot be decoded ({error}); fetch or copy this file again."
        ) from error


def _refuse_unclear(picture: Image.Image, path: Path) -> None:
    if picture.mode in _WIDE:
        raise InputError(
            f"{path} has grey values of more than 8 bits, of unknown black and white; scale it to 8 bits."
        )
    transparent = "A" in picture.getbands() or "transparency" in picture.info
    if transparent and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
        raise InputError(
            f"{path} has transparent pixels, whose colour means nothing; flatten it onto a background."
        )


def _rgb(picture: Image.Image, path: Path) -> np.ndarray:
    _refuse_unclear(picture, path)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _grey(picture: Image.Image, path: Path) -> np.ndarray:
    _refuse_unclear(picture, path)
    return np.array(
        (picture if picture.mode in ("1", "L") else picture.convert("RGB")).convert("L")
    )


def _labels(picture: Image.Image, path: Path) -> np.ndarray:
    if picture.mode not in ("1", "L", "P", *_WIDE):
        raise InputError(
            f"{path} is a picture of colours ({picture.mode}), not of label numbers; name labels by colour."
        )
    return np.array(picture).astype(np.int64)


def _mask_grey(picture: Image.Image, path: Path) -> np.ndarray:
    """(H, W) grey values on a scale that ends at 255, of a picture that is black and white."""
    if picture.mode in _WIDE:
        values = np.array(picture).astype(np.int64)
        if 255 < values.max() < 205 * 257 or values.min() < 0:
            raise InputError(
                f"{path} is no mask: its 16-bit values end at {values.max()}; give black-and-white masks."
            )
        return values // 257 if values.max() > 255 else values
    if picture.mode in ("1", "L"):
        return _grey(picture, path)
    rgb = _rgb(picture, path)
    coloured = (np.ptp(rgb[::2, ::2], axis=2) > 40).mean()
    if coloured > 0.01:
        raise InputError(
            f"{path} is no mask: {coloured:.0%} of its pixels are coloured; give black-and-white masks, and see that the "
            "folders of images and masks are not exchanged (masks of coloured classes: the data set 'folder')."
        )
    return np.array(Image.fromarray(rgb).convert("L"))


def read_image(path: Path, content: bytes | None = None) -> np.ndarray:
    """The picture as (H, W, 3) RGB uint8, turned as its EXIF orientation says; InputError if the file is damaged.

    Also InputError for grey pictures of more than 8 bits and for transparent pixels, of which the right look is unknown.
    ``content``: of the file, where it is in memory and ``path`` is but its name.
    """
    return _load(path, _rgb, content)


def read_grey(path: Path, content: bytes | None = None) -> np.ndarray:
    """As ``read_image``, as (H, W, 1) grey uint8."""
    return _load(path, _grey, content)[..., None]


def read_labels(path: Path) -> np.ndarray:
    """The numbers in a label picture, (H, W) int64: grey values as stored, or the indices of a palette."""
    return _load(path, _labels)


def read_mask(path: Path, threshold: int = 127) -> np.ndarray:
    """The mask ``grey value > threshold`` as (H, W) uint8 in {0, 1}; InputError for a picture that is not a mask."""
    grey = _load(path, _mask_grey)
    low, high = int(grey.min()), int(grey.max())
    middle = float(
        ((grey > 50) & (grey < 205)).mean()
    )  # JPEG leaves a mask's values near 0 and 255
    if middle > 0.1:
        raise InputError(
            f"{path} is no mask: {middle:.0%} of its pixels are grey (values {low} to {high}); give black-and-white masks, "
            "and see that the folders of images and masks are not exchanged."
        )
    lossless = path.suffix.lower() not in (
        ".jpg",
        ".jpeg",
    )  # noise of a lossy empty mask: up to 50, as above
    if high <= threshold and (high == 1 or (lossless and 0 < high <= 50)):
        values = "the values 0 and 1" if high == 1 else f"values up to {high}"
        raise InputError(
            f"{path} holds {values}, none above the threshold {threshold}; set it to 0."
        )
    return (grey > threshold).astype(np.uint8)


def read_pair(image_path: Path, mask_path: Path, threshold: int = 127) -> Sample:
    """An RGB image and its one-class mask (H, W, 1); InputError where their sizes differ."""
    return joined(
        image_path, read_image(image_path), mask_path, read_mask(mask_path, threshold)[..., None]
    )


def joined(image_path: Path, image: np.ndarray, mask_path: Path, mask: np.ndarray) -> Sample:
    """The sample of an image (H, W, C) and its masks (H, W, K); InputError where their sizes differ."""
    if image.shape[:2] != mask.shape[:2]:
        sizes = " and ".join(
            f"{width}x{height}" for height, width in (image.shape[:2], mask.shape[:2])
        )
        raise InputError(
            f"{image_path} and its mask {mask_path} differ in size ({sizes}); restore the pair."
        )
    return Sample(image, mask)


def check_threshold(mask_threshold: int) -> None:
    """InputError unless a pixel of 8 bits can lie on either side of the threshold."""
    if not 0 <= mask_threshold <= 254:
        raise InputError(f"mask_threshold is {mask_threshold}; give a grey value from 0 to 254.")


def pair_files(
    images_dir: Path,
    masks_dir: Path,
    mask_stem: Callable[[str], str] = str,
    is_image: Callable[[str], bool] = bool,
) -> dict[str, tuple[Path, Path]]:
    """stem -> (image, mask), sorted by stem; a mask without an image is left aside.

    Pictures pair by stem; where masks are named otherwise, ``mask_stem`` gives the mask's stem for that of its image.
    Where both lie in one folder, ``is_image`` tells the stems of images. Stems are in Unicode's composed form (NFC): a
    file system or archive may store the same name decomposed.
    """
    images, masks = _pictures(images_dir), _pictures(masks_dir)
    images = {stem: path for stem, path in images.items() if is_image(stem)}
    if not images:
        raise InputError(
            f"no pictures in {images_dir}; it should hold files such as *.jpg or *.png."
        )
    lonely = sorted(stem for stem in images if mask_stem(stem) not in masks)
    if lonely:
        raise InputError(
            f"{images[lonely[0]]} has no mask in {masks_dir} ({len(lonely)} of {len(images)} images lack theirs); "
            "restore the masks or remove the images."
        )
    return {stem: (images[stem], masks[mask_stem(stem)]) for stem in sorted(images)}


def _pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; check the root of the data set.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = Path(unicodedata.normalize("NFC", path.name.removesuffix(".gz")))
        if name.name.startswith(".") or name.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if name.stem in found:
            raise InputError(f"{found[name.stem]} and {path} share one stem; keep one of them.")
        found[name.stem] = path
    return found
